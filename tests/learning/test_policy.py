"""Rollouts: the sign of λ·u, who leaves, and agreement with the kit's rollout."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import on_a_gpu

from doof_ext import kit
from doof_ext.learning.actor_critic import MeanLosses
from doof_ext.learning.factory import build_dynamics, build_policy
from doof_ext.learning.policy import uncertainty_reward
from doof_ext.learning.replay_buffer import Mixture, TensorReplayBuffer


@pytest.fixture
def parts(tiny, dynamics):
    return tiny(), dynamics


def test_uncertainty_reward_is_r_plus_c_u():
    r, u = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [3.0]])
    assert uncertainty_reward(r, u, -2.0).flatten().tolist() == [0.0, -4.0]
    assert uncertainty_reward(r, u, 0.5).flatten().tolist() == [1.25, 3.5]


@pytest.mark.parametrize("coef", [-5.0, 0.0, 2.5])
def test_rollout_rewards_are_raw_plus_coef_times_u(parts, spec, offline, coef):
    config, dynamics = parts
    policy = build_policy(config, spec, dynamics, uncertainty_coef=coef)
    starts = offline.sample(50)["observations"]
    steps = []
    sample_step = dynamics.sample_step
    dynamics.sample_step = lambda *pair: steps.append((*pair, sample_step(*pair))) or steps[-1][-1]
    transitions, info = policy.rollout(starts, 3)
    uncertainties = [dynamics.estimator(*pair, dynamics, prediction=step.prediction) for *pair, step in steps]
    expected = torch.cat([step[-1].reward + coef * u for step, u in zip(steps, uncertainties, strict=True)])
    torch.testing.assert_close(transitions["rewards"], expected)
    u = dynamics.uncertainty(transitions["obss"], transitions["actions"])
    torch.testing.assert_close(u, torch.cat(uncertainties))
    assert info["reward_mean"] == pytest.approx(info["raw_reward_mean"] + coef * info["uncertainty_mean"], rel=1e-4)


def test_the_kits_rollout_agrees_on_the_same_noise(parts, spec, offline, monkeypatch):
    """Deterministic actions and given model noise; the kit's own MOPO rollout on the kit's own dynamics."""
    config, dynamics = parts
    policy = build_policy(config, spec, dynamics, uncertainty_coef=-config.penalty_coef)
    plain = kit.EnsembleDynamics(
        dynamics.model, dynamics.optim, dynamics.scaler, dynamics.terminal_fn, penalty_coef=config.penalty_coef
    )
    starts = offline.sample(20)["observations"]
    monkeypatch.setattr(np.random, "normal", lambda size: np.zeros(size))
    monkeypatch.setattr(dynamics.model, "random_elite_idxs", lambda count: np.zeros(count, int))
    sample_step = dynamics.sample_step
    dynamics.sample_step = lambda obs, actions: sample_step(
        obs, actions, torch.zeros(len(obs), spec.obs_dim + 1), torch.zeros(len(obs), dtype=torch.long)
    )
    torch.manual_seed(3)
    ours, _ = policy.rollout(starts, 3)
    policy.dynamics = plain
    torch.manual_seed(3)
    expected, _ = kit.MOPOPolicy.rollout(policy, starts.numpy(), 3)
    for name in ("obss", "next_obss", "actions", "rewards", "terminals"):
        np.testing.assert_allclose(ours[name], np.asarray(expected[name], np.float32), rtol=1e-4, atol=1e-4)


def test_terminated_rows_leave_the_rollout(parts, spec, offline):
    config, dynamics = parts
    policy = build_policy(config, spec, dynamics, uncertainty_coef=0.0)
    starts = offline.sample(40)["observations"]
    dynamics.terminal_fn = lambda obs, act, next_obs: (obs[:, :1] == starts[:10, :1].T).any(1, keepdim=True)
    transitions, info = policy.rollout(starts, 3)
    ended = int(transitions["terminals"][:40].sum())
    assert ended >= 10
    assert info["num_transitions"] == 40 + 2 * (40 - ended)
    torch.testing.assert_close(transitions["obss"][:40], starts)
    survivors = transitions["next_obss"][:40][transitions["terminals"][:40, 0] == 0]
    torch.testing.assert_close(transitions["obss"][40 : 40 + len(survivors)], survivors)


def test_learning_accepts_the_kits_real_and_fake_batches(parts, spec, offline):
    config, dynamics = parts
    one, other = (build_policy(config, spec, dynamics, 0.0) for _ in range(2))
    other.load_state_dict(one.state_dict())
    real, fake = offline.sample(3), offline.sample(5)
    torch.manual_seed(0)
    split = one.learn({"real": real, "fake": fake})
    torch.manual_seed(0)
    mixed = other.learn({name: torch.cat([real[name], fake[name]]) for name in real})
    assert {k: float(v) for k, v in split.items()} == {k: float(v) for k, v in mixed.items()}


@pytest.mark.parametrize("bound", ["action_low", "action_high"])
def test_one_bound_of_the_actions_alone_is_refused(tiny, spec, dynamics, bound):
    bounds = {"action_low": None, "action_high": None, bound: (0.5, 0.5, 0.5)}
    with pytest.raises(ValueError, match="action_low and action_high"):
        build_policy(tiny(), dataclasses.replace(spec, **bounds), dynamics, uncertainty_coef=-1.0)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=on_a_gpu)])
def test_the_steps_between_two_rollouts_never_wait_for_the_device(tiny, spec, dataset, device):
    config = tiny(device=device)
    dynamics = build_dynamics(config, spec)
    policy = build_policy(config, spec, dynamics, uncertainty_coef=-1.0)
    batches = Mixture([(TensorReplayBuffer.from_dataset(dataset.transitions(), device), 8)])
    losses = MeanLosses(device)
    losses.add(policy.learn(batches.sample_split(4)))  # what the first step allocates may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            losses.add(policy.learn(batches.sample_split(4)))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(np.isfinite(value) for value in losses.read("the test").values())
