"""Algorithm 1, stage by stage: each test fails for a stage that takes the wrong input or mixes the wrong rows."""

import numpy as np
import pytest
import torch
from conftest import marked, rows_with

from doof_ext.algorithm.collect import OnlineCollector
from doof_ext.algorithm.explore import explore, make_uncertainty_buffer
from doof_ext.algorithm.finetune_dynamics import finetune_dynamics
from doof_ext.algorithm.finetune_policy import finetune_policy
from doof_ext.algorithm.pretrain import pretrain
from doof_ext.data.dataset import concatenate
from doof_ext.learning.factory import build_policy


@pytest.fixture
def parts(tiny, spec, dynamics):
    """A config, an untrained P̂, and π_off."""
    config = tiny()
    return config, dynamics, build_policy(config, spec, dynamics, uncertainty_coef=-config.penalty_coef)


def test_pretraining_batches_are_5_percent_d_with_penalties(context, offline, trainers):
    result = pretrain(context(epoch=1), marked(offline, 1.25))
    (spied,) = trainers
    for batch in spied["batches"]:
        assert len(batch["rewards"]) == 256
        assert batch["real_rows"] == rows_with(batch, 1.25) == 12 and (batch["rewards"][:12] == 1.25).all()
    assert result.policy.uncertainty_coef == -5.0  # Table 5: hopper-random's lambda_off
    assert all((obs[:, 0] == 1.25).all() and len(obs) == 40 for obs, _ in spied["starts"])
    assert result.gradient_steps == 4 and result.dynamics_steps > 0


def test_the_uncertainty_buffer_holds_d_with_r_plus_lambda_on_u(parts, spec, offline):
    config, dynamics, _ = parts
    policy = build_policy(config, spec, dynamics, uncertainty_coef=-5.0)
    buffer = make_uncertainty_buffer(offline, policy, size=100, exploration_coef=2.5)
    rows, original = buffer.sample_all(), offline.sample_all()
    assert len(buffer) == 100
    lookup = {row.tobytes(): i for i, row in enumerate(original["observations"])}
    for i in range(100):
        j = lookup[rows["observations"][i].tobytes()]
        pair = (torch.as_tensor(original[name][j : j + 1]) for name in ("observations", "actions"))
        u = float(dynamics.uncertainty(*pair))
        assert rows["rewards"][i, 0] == pytest.approx(original["rewards"][j, 0] + 2.5 * u, rel=1e-4)
        np.testing.assert_array_equal(rows["next_observations"][i], original["next_observations"][j])


def test_exploration_mixes_and_rewards_as_appendix_b2(parts, context, offline, trainers, monkeypatch):
    config, dynamics, policy = parts
    marked_du = marked(make_uncertainty_buffer(offline, policy, 100, 5.0), 9.75)
    monkeypatch.setattr("doof_ext.algorithm.explore.make_uncertainty_buffer", lambda *_: marked_du)
    weights = {name: value.clone() for name, value in dynamics.model.state_dict().items()}
    result = explore(context(), policy, dynamics, marked(offline, 1.25))
    (spied,) = trainers
    for batch in spied["batches"]:
        assert len(batch["rewards"]) == 256
        assert (rows_with(batch, 1.25), rows_with(batch, 9.75)) == (6, 6)
        assert batch["real_rows"] == 6  # D_u's rows are bonus rows
    for obs, _ in spied["starts"]:
        assert ((obs[:, 0] == 1.25).sum(), (obs[:, 0] == 9.75).sum()) == (20, 20)
    assert result.policy.uncertainty_coef == +config.exploration_coef == 5.0
    assert result.policy.dynamics is dynamics
    torch.testing.assert_close(dict(dynamics.model.state_dict()), weights, rtol=0, atol=0)  # P̂ unchanged
    _assert_starts_from(spied["initial"], policy)


def test_exploration_may_keep_the_penalty_in_its_rollouts(parts, context, offline, trainers, monkeypatch):
    config, dynamics, policy = parts
    buffers = []

    def make(*args):
        buffers.append((make_uncertainty_buffer(*args), args[-1]))
        return buffers[-1][0]

    monkeypatch.setattr("doof_ext.algorithm.explore.make_uncertainty_buffer", make)
    result = explore(context(explore_rollouts="penalty"), policy, dynamics, offline)
    assert result.policy.uncertainty_coef == -config.penalty_coef == -5.0
    ((buffer, bonus),) = buffers
    assert bonus == config.exploration_coef == 5.0
    rows = {name: torch.as_tensor(column) for name, column in buffer.sample_all().items()}
    original = offline.sample_all()
    recorded = {
        row.tobytes(): reward for row, reward in zip(original["observations"], original["rewards"], strict=True)
    }
    raw = torch.tensor(np.array([recorded[row.numpy().tobytes()] for row in rows["observations"]]))
    u = dynamics.uncertainty(rows["observations"], rows["actions"])
    torch.testing.assert_close(rows["rewards"], raw + 5.0 * u, rtol=1e-4, atol=1e-4)
    fake = torch.cat([batch["rewards"][batch["real_rows"] + 6 :] for batch in trainers[0]["batches"]])
    assert float(fake.mean()) < float(raw.mean())  # the penalised rollouts


def _assert_starts_from(initial, policy):
    source = policy.state_dict()
    for name, value in initial.items():
        wanted = source[name.replace("_old", "")]  # targets are copied from the critics
        torch.testing.assert_close(value, wanted, rtol=0, atol=0, msg=name)


def test_policy_finetuning_starts_at_pi_off_and_mixes_as_in_b5(parts, context, offline, trainers):
    config, dynamics, pretrained = parts
    for parameter, target in zip(pretrained.critic1.parameters(), pretrained.critic1_old.parameters(), strict=True):
        target.data = parameter.detach() + 1.0  # a lagging target must not be what the new targets start from
    pretrained._log_alpha.data.fill_(-1.5)
    finetuned_dynamics = dynamics.copy_for_finetuning(1e-3)
    online = marked(offline, 7.5)
    result = finetune_policy(context(), pretrained, finetuned_dynamics, marked(offline, 1.25), online)
    (spied,) = trainers
    for batch in spied["batches"]:
        assert len(batch["rewards"]) == 256
        assert (batch["real_rows"], rows_with(batch, 1.25), rows_with(batch, 7.5)) == (6, 6, 0)
    for obs, _ in spied["starts"]:
        assert ((obs[:, 0] == 1.25).sum(), (obs[:, 0] == 7.5).sum()) == (20, 20)
    assert result.policy.dynamics is finetuned_dynamics
    assert result.policy.uncertainty_coef == -config.penalty_coef
    assert result.policy is not pretrained
    _assert_starts_from(spied["initial"], pretrained)
    assert float(result.policy._log_alpha.detach()) == pytest.approx(-1.5, abs=0.01)


def test_d_on_can_join_the_real_part_of_stage_5(parts, context, offline, trainers):
    _, dynamics, pretrained = parts
    data = (marked(offline, 1.25), marked(offline, 7.5))
    finetune_policy(context(finetune_online_ratio=0.025), pretrained, dynamics, *data)
    batch = trainers[0]["batches"][0]
    assert (rows_with(batch, 1.25), rows_with(batch, 7.5), len(batch["rewards"])) == (6, 6, 256)
    assert batch["real_rows"] == 12


def test_without_online_data_stage_5_has_doofs_counts_and_rows_of_d_alone(parts, context, offline, trainers):
    _, dynamics, pretrained = parts
    d = marked(offline, 1.25)
    for online in (marked(offline, 7.5), d):
        finetune_policy(context(finetune_online_ratio=0.025), pretrained, dynamics, d, online)
    doof, control = trainers
    assert len(doof["batches"]) == len(control["batches"]) == 8
    for ours, theirs in zip(control["batches"], doof["batches"], strict=True):
        assert (ours["real_rows"], len(ours["rewards"])) == (theirs["real_rows"], len(theirs["rewards"])) == (12, 256)
        assert (ours["rewards"][:12] == 1.25).all() and rows_with(theirs, 1.25) == rows_with(theirs, 7.5) == 6
    for (ours, length), (theirs, same_length) in zip(control["starts"], doof["starts"], strict=True):
        assert (len(ours), length) == (len(theirs), same_length) and (ours[:, 0] == 1.25).all()


def test_training_moves_every_network_and_keeps_optimisers_apart(parts, context, offline):
    _, dynamics, policy = parts
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    result = finetune_policy(context(), policy, dynamics, offline, offline)
    torch.testing.assert_close(dict(policy.state_dict()), before, rtol=0, atol=0)  # π_off stays π_off
    for name in ("actor.dist_net.mu.weight", "critic1.last.weight", "critic2.last.weight", "critic1_old.last.weight"):
        assert not torch.equal(result.policy.state_dict()[name], before[name]), name


@pytest.mark.parametrize("steps", [1, 37])
def test_collection_takes_exactly_the_asked_steps(parts, env, steps):
    _, _, policy = parts
    taken = []
    step = env.step
    env.step = lambda action: taken.append(action) or step(action)
    online = OnlineCollector(policy, env).collect(steps)
    assert len(taken) == len(online) == steps
    np.testing.assert_allclose(online.actions, np.array(taken), atol=1e-6)
    assert online.timeouts[-1] or online.terminals[-1]


def test_collected_transitions_are_the_environments(parts, env):
    _, _, policy = parts
    online = OnlineCollector(policy, env).collect(60)
    next_obs, rewards, terminals = env.simulate(**online.states, action=online.actions)
    np.testing.assert_allclose(next_obs, online.next_observations, atol=1e-4)
    np.testing.assert_allclose(rewards, online.rewards, atol=1e-4)
    np.testing.assert_array_equal(terminals, online.terminals)
    inside = ~(online.terminals | online.timeouts)[:-1]
    np.testing.assert_array_equal(online.next_observations[:-1][inside], online.observations[1:][inside])


def test_collection_samples_unless_asked_for_the_mean(parts, spec, env):
    _, _, policy = parts
    for deterministic in (False, True):
        online = OnlineCollector(policy, env, deterministic).collect(10)
        mean = policy.select_action(online.observations, deterministic=True)
        assert np.allclose(mean, online.actions, atol=1e-5) == deterministic


def test_rounds_add_up_to_one_online_buffer(parts, env):
    _, _, policy = parts
    first, second = (OnlineCollector(policy, env).collect(5) for _ in range(2))
    both = concatenate(concatenate(None, first), second)
    np.testing.assert_array_equal(both.rewards, np.concatenate([first.rewards, second.rewards]))


def test_dynamics_finetuning_leaves_p_hat(parts, context, offline):
    _, dynamics, _ = parts
    weights = {name: value.clone() for name, value in dynamics.model.state_dict().items()}
    result = finetune_dynamics(context(), dynamics, offline, offline)
    assert result.gradient_steps == 6 and result.dynamics is not dynamics  # 2 epochs of 3 steps
    torch.testing.assert_close(dict(dynamics.model.state_dict()), weights, rtol=0, atol=0)


def test_a_number_of_epochs_of_stage_4_is_exact(parts, context, offline):
    """Nothing improves with such a learning rate: the stopping rule ends after one epoch, a given number does not."""
    _, dynamics, _ = parts
    destroys = dict(dynamics_lr=0.5, max_epochs_since_update=1, dynamics_epochs=4)
    by_the_rule = finetune_dynamics(context(**destroys, finetune_dynamics_epochs=None), dynamics, offline, offline)
    exactly = finetune_dynamics(context(**destroys, finetune_dynamics_epochs=6), dynamics, offline, offline)
    assert (by_the_rule.gradient_steps, exactly.gradient_steps) == (3, 18)  # an epoch is 3 steps


def test_the_curve_has_the_plotters_columns_across_stages(parts, context, offline, logger):
    _, dynamics, policy = parts
    finetune_policy(context().at(round=2, first_timestep=100), policy, dynamics, offline, offline)
    assert [row["timestep"] for row in logger.rows] == [104, 108]
    assert all("eval/normalized_episode_reward" in row and "loss/actor" in row for row in logger.rows)
    assert {row["round"] for row in logger.rows} == {2}
    assert all(row["eval/episode_length"] > 1 and row["eval/episode_length_std"] == 0 for row in logger.rows)
