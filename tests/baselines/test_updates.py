"""What one update of a method moves, and by which loss: a term that is lost, or a target that stays, trains happily."""

import copy
import functools

import numpy as np
import pytest
import torch
from agents import box_spec, journal_rows, make_agent, random_dataset

from doof_ext.baselines import stages
from doof_ext.baselines.cql import CQL
from doof_ext.baselines.fowm import FOWM
from doof_ext.baselines.networks import Normalizer
from doof_ext.baselines.pex import PEX
from doof_ext.baselines.replay import Replay
from doof_ext.baselines.run import run
from doof_ext.baselines.spot import SPOT
from doof_ext.cli.baseline import main
from doof_ext.cli.exit_code import exit_code_of
from doof_ext.config import Config
from doof_ext.config.settings import IN_MODEL
from doof_ext.errors import StoppedAfter


@pytest.fixture
def batch():
    return Replay(random_dataset(3, 2, 40, terminal=(1, 2)), box_spec(3, 2), 5, gamma=0.99).draw(16)


def _close(network, other):
    for parameter, expected in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-6)


def _followed(targets, before, networks, tau):
    for target, old, new in zip(targets.parameters(), before.parameters(), networks.parameters(), strict=True):
        torch.testing.assert_close(target, old + tau * (new - old), rtol=1e-4, atol=1e-6)
        assert not torch.equal(target, old)


def test_cql_takes_one_step_of_adam_on_each_loss(baseline, batch):
    """The target and the conservative term are those of test_cql's loop; here is what each optimiser makes of them."""
    agent = make_agent(CQL, baseline("cql", conservatism=2.5))
    twin, before = copy.deepcopy(agent), copy.deepcopy(agent)
    torch.manual_seed(4)
    agent.learn(batch)
    torch.manual_seed(4)
    obs, next_obs = twin.normalizer(batch["observations"]), twin.normalizer(batch["next_observations"])
    alpha = float(twin.log_alpha.detach().exp())
    actions, log_probs = (draw[0] for draw in twin.policy.sample(obs))
    actor_loss = (alpha * log_probs - twin.critics(obs, actions).amin(0)).mean()
    temperature_loss = -twin.log_alpha * (float(log_probs.detach().mean()) - 2)
    values = twin.critics(obs, batch["actions"])
    target = twin._target(batch, next_obs)
    conservative = (twin._log_sum_exp(obs, next_obs, batch["returns"]) - values).mean((1, 2)).sum()
    critic_loss = (values - target).square().mean((1, 2)).sum() + 2.5 * conservative
    steps = []
    for parameters, loss, lr in (
        (list(twin.policy.parameters()), actor_loss, twin.config.actor_lr),
        ([twin.log_alpha], temperature_loss, twin.config.actor_lr),
        (list(twin.critics.parameters()), critic_loss, twin.config.critic_lr),
    ):
        steps.append((torch.optim.Adam(parameters, lr=lr), torch.autograd.grad(loss, parameters, retain_graph=True)))
    for optimizer, gradients in steps:
        for parameter, gradient in zip(optimizer.param_groups[0]["params"], gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    _close(agent.policy, twin.policy)
    _close(agent.critics, twin.critics)
    torch.testing.assert_close(agent.log_alpha, twin.log_alpha)
    assert not torch.equal(agent.log_alpha, before.log_alpha)
    _followed(agent.targets, before.targets, agent.critics, 0.005)


def test_fowms_model_learns_by_all_of_its_losses_within_a_bound(baseline, monkeypatch):
    agent = make_agent(FOWM, baseline("fowm"))
    replay = Replay(random_dataset(3, 2, 40), box_spec(3, 2), 5, gamma=0.99)
    before, stepped = copy.deepcopy(agent), {}
    step = agent._step

    def spied(name, loss):
        stepped[name] = float(loss.detach())
        step(name, loss)

    monkeypatch.setattr(agent, "_step", spied)
    rows = replay.draw_sequences(8, 5)
    rows["rewards"] *= 1e4
    found = agent.learn(rows)
    parts = (20.0, "consistency"), (0.5, "reward"), (0.1, "critic"), (0.1, "value")
    expected = sum(weight * float(found[f"loss/{name}"]) for weight, name in parts) / 5
    assert stepped["model_optimizer"] == pytest.approx(expected, rel=1e-5)
    norms = [p.grad.norm() for group in agent.optims["model_optimizer"].param_groups for p in group["params"]]
    assert float(torch.stack(norms).norm()) == pytest.approx(10, rel=1e-3)  # of the authors' code
    for target, old in zip(agent.targets.parameters(), before.targets.parameters(), strict=True):
        assert torch.equal(target, old)
    agent.learn(replay.draw_sequences(8, 5))  # at every second step
    _followed(agent.targets, before.targets, agent.critics, agent.config.tau)
    _followed(agent.encoder_target, before.encoder_target, agent.encoder, agent.config.tau)


def test_pexs_weights_are_of_the_advantage_of_its_own_actions(baseline, batch):
    agent = make_agent(PEX, baseline("pex"))
    old = agent.optims["optimizer"]
    agent.begin_online(5)
    assert agent.optims["optimizer"] is not old
    agent.advantage_temperature = 400.0  # so that some weights are cut at 100
    obs = agent.normalizer(batch["observations"])
    with torch.no_grad():
        agent.value[-1].bias += (agent.targets(obs, agent.act(obs, True)).amin(0) - agent.value(obs)).mean()
    torch.manual_seed(2)
    with torch.no_grad():
        taken = agent.act(obs, deterministic=False)
        weights = (400.0 * (agent.targets(obs, taken).amin(0) - agent.value(obs))).exp()
        expected = -(weights.clamp(max=100.0) * agent.policy.log_prob(obs, taken)).mean()
        assert (weights > 100).any() and (weights < 100).any()
    torch.manual_seed(2)
    torch.testing.assert_close(agent.learn(batch)["loss/actor"], expected)


def test_spots_penalty_falls_with_the_online_steps_and_it_explores(baseline, batch):
    agent = make_agent(SPOT, baseline("spot", density_weight=2.0, density_weight_end=0.25))
    optimizers = dict(agent.optims)
    assert float(agent.density_weight) == 2.0
    agent.begin_online(8)
    assert all(agent.optims[name] is not optimizers[name] for name in ("critics_optimizer", "actor_optimizer"))
    weights = []
    for _ in range(8):
        agent.count_online_step()
        weights.append(float(agent.density_weight))
    assert weights == pytest.approx([1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.5, 0.5])
    obs = batch["observations"].numpy()
    explored = agent.select_action(obs) - agent.select_action(obs, deterministic=True)
    assert 0.02 < explored.std() < 0.2


def test_observations_are_normalised_by_d():
    rows = np.random.default_rng(0).normal(5, [1, 20, 0.01], (100, 3)).astype(np.float32)
    expected = (rows - rows.mean(0)) / (rows.std(0) + 1e-3)
    np.testing.assert_allclose(Normalizer(rows, True)(torch.as_tensor(rows)), expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(Normalizer(rows, False)(torch.as_tensor(rows)), torch.as_tensor(rows))


def test_online_steps_are_in_the_units_of_ds():
    data, online = random_dataset(2, 2, 40), random_dataset(2, 2, 20, seed=1)
    online.actions = 3 + 2 * online.actions
    replay = Replay(data, box_spec(2, 2, low=1.0, high=5.0), 20, gamma=0.9, normalize_rewards=True)
    for row in journal_rows(online):
        replay.add_step(row)
    np.testing.assert_allclose(replay.actions[40:60], (online.actions - 3) / 2, atol=1e-6)
    np.testing.assert_allclose(replay.rewards[40:60, 0], online.rewards * replay.reward_scale, rtol=1e-5)
    last = float(online.rewards[9]) * replay.reward_scale
    assert replay.reward_scale != 1 and float(replay.returns[49]) == pytest.approx(last, rel=1e-5)
    assert float(replay.ends[39]) == 1.0  # no sequence goes on from D into D_on


def test_an_action_without_a_choice_is_0():
    spec = box_spec(2, 2)
    spec = type(spec)(**{**vars(spec), "action_low": (-1.0, 0.5), "action_high": (1.0, 0.5)})
    data = random_dataset(2, 2, 40)
    data.actions[:, 1] = 0.5
    replay = Replay(data, spec, 5, gamma=0.9)
    assert torch.equal(replay.actions[:40, 1], torch.zeros(40))


def test_each_evaluation_has_episodes_of_its_own_and_d_ons_last_one_has_its_returns(baseline, tmp_path, monkeypatch):
    seeds, replays = [], []
    run_episodes, finetune_offline = stages.run_episodes, stages.finetune_offline
    monkeypatch.setattr(stages, "run_episodes", lambda *given: seeds.extend(given[2]) or run_episodes(*given))
    monkeypatch.setattr(
        "doof_ext.baselines.run.finetune_offline", lambda *given: replays.append(given[2]) or finetune_offline(*given)
    )
    run(baseline("cal-ql", logdir=str(tmp_path), eval_episodes=2))
    assert len(seeds) > 8 and len(set(seeds)) == len(seeds)
    (replay,) = replays
    assert torch.as_tensor(replay.returns[: len(replay)]).isfinite().all()


def test_an_abbreviated_algorithm_is_none_beside_doof(capsys):
    assert main(["--doof", "--alg", "mopo", "--task", "hopper-medium-v2"]) == 2
    assert "--doof is built for --algo iql alone, not for mopo" in capsys.readouterr().err


def test_a_run_of_doof_iql_is_not_told_of_sessions(capsys):
    """Which refuse it: its policies cannot be taken out of their runs yet."""

    def stops(has_session):
        raise StoppedAfter("explore", has_session=has_session)

    assert Config().has_session and not Config(algo=IN_MODEL).has_session
    for has_session in (True, False):
        assert exit_code_of("run_doof.py", functools.partial(stops, has_session)) == 0
        assert ("OnlineSession(RUN)" in capsys.readouterr().out) == has_session
