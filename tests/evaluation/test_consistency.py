"""Whether data and an environment of different dynamics are told apart."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import needs_adroit

from doof_ext import kit
from doof_ext.data import episodes
from doof_ext.data.dataset import dataset_from_columns
from doof_ext.data.recipe import record_uniform
from doof_ext.errors import UserError
from doof_ext.evaluation.consistency import (
    check_consistency,
    denied_terminals,
    origin_findings,
    physics_findings,
    replay,
    unrecorded_terminals,
)
from doof_ext.tasks import TaskSpec, make_env, spec_of_data
from doof_ext.tasks.no_env import NoEnv

RULE = kit.get_termination_fn("hopper")


def test_data_of_this_world_are_reproduced(env, dataset):
    assert replay(env, dataset).error < 1e-5
    np.testing.assert_allclose(replay(env, dataset).rewards, replay(env, dataset).env_rewards, atol=1e-5)
    assert len(denied_terminals(RULE, dataset)) == 0 and unrecorded_terminals(RULE, dataset) == (0, 600)
    (finding,) = check_consistency(env, RULE, dataset)
    assert finding.startswith("physics check: the environment reproduces")


def test_another_world_is_warned_of(dataset):
    (finding,) = check_consistency(make_env("hopper-random-v2", physics="gymnasium"), RULE, dataset)
    assert finding.startswith("WARNING") and "different dynamics" in finding


def test_one_wrong_row_is_enough(env, dataset):
    wrong = dataclasses.replace(dataset, next_observations=dataset.next_observations.copy())
    wrong.next_observations[17, 3] += 0.01
    assert replay(env, wrong, sample=600).error == pytest.approx(0.01, abs=1e-4)
    wrong.next_observations[17, 3] = np.inf
    assert replay(env, wrong, sample=600).error == np.inf


@needs_adroit
def test_without_states_nothing_is_claimed(env, dataset):
    assert replay(make_env(TaskSpec("own", "Pendulum-v1", "never")), dataset) is None
    pen = make_env("pen-human-v1")
    assert replay(pen, record_uniform(pen.spec, 50, seed=0, processes=1)).error < 1e-6
    assert replay(pen, dataclasses.replace(dataset, states={})) is None


def test_where_observations_tell_the_state_they_do(env, dataset):
    stateless = dataclasses.replace(dataset, states={})
    assert replay(env, stateless).error < 1e-4
    assert replay(make_env("hopper-random-v2", physics="gymnasium"), stateless).error > 1e-3


def test_data_of_another_task_or_in_other_units_are_warned_of(env, dataset):
    other = dataclasses.replace(dataset, metadata={"task": "walker2d-random-v2"}, actions=dataset.actions * 3)
    warnings = "".join(check_consistency(env, RULE, other)[1:])
    assert "the data are of walker2d-random-v2, the task is hopper-random-v2" in warnings
    assert f"{(abs(other.actions) > 1).any(1).sum()} of 600 recorded actions lie outside" in warnings


def test_data_recorded_by_an_environments_id_are_a_registered_tasks(dataset):
    recorded = dataclasses.replace(dataset, metadata={"task": "Pendulum-v1"})
    assert not origin_findings(TaskSpec("my-pendulum", "Pendulum-v1", "never"), recorded)
    assert origin_findings(TaskSpec("my-arm", "Reacher-v5", "never"), recorded)


@pytest.mark.parametrize(
    ("env_id", "recorded", "warned"),
    [
        ("HalfCheetah-v4", "HalfCheetah-v5", False),
        ("my_package:Arm/Robot-v0", "Robot-v3", False),
        ("HalfCheetah-v4", "Walker2d-v5", True),
        (lambda: None, "Walker2d-v5", False),
    ],
)
def test_data_of_another_environment_are_warned_of(dataset, env_id, recorded, warned):
    recorded_there = dataclasses.replace(dataset, metadata={"env_id": recorded})
    lines = origin_findings(TaskSpec("own", env_id, "never"), recorded_there)
    assert lines == [f"WARNING: the data were recorded in {recorded}, the environment is {env_id}"] * warned


def test_data_of_an_earlier_recipe_are_warned_of(env, dataset):
    earlier = dataclasses.replace(dataset, metadata={**dataset.metadata, "recipe_version": 2})
    (warning,) = check_consistency(env, RULE, earlier)[1:]
    assert warning.startswith("WARNING: the data are of version 2 of the recipes;")


def test_states_of_another_model_are_refused(env, dataset):
    states = {name: np.hstack([state, state]) for name, state in dataset.states.items()}
    with pytest.raises(UserError, match="12 columns, the environment 6"):
        replay(env, dataclasses.replace(dataset, states=states))


def test_a_termination_rule_that_the_data_contradict_is_warned_of(env, dataset):
    count = dataset.terminals.sum()
    findings = check_consistency(env, lambda obs, act, next_obs: next_obs[:, :1] > 1e9, dataset)
    assert findings[1:] == [f"WARNING: the termination rule denies {count} of {count} recorded terminals"]
    findings = check_consistency(env, lambda obs, act, next_obs: next_obs[:, :1] < 1e9, dataset)
    assert findings[1:] == [f"WARNING: the termination rule ends {600 - count} of 600 steps that are no terminals"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda obs, act, next_obs: next_obs[:, 0] < 0, r"\[600\] where it must give torch.bool \[600, 1\]"),
        (lambda obs, act, next_obs: (next_obs[:, :1] < 0).float(), "torch.float32"),
        (lambda obs, act, next_obs: None, "NoneType"),
        (lambda obs, act, next_obs: torch.zeros(next_obs[99_999]), "fails on the data"),
    ],
)
def test_a_rule_of_the_wrong_kind_is_refused(dataset, rule, message):
    with pytest.raises(UserError, match=message):
        unrecorded_terminals(rule, dataset)


@pytest.mark.parametrize(
    ("change", "relation"),
    [
        (lambda r: 0.001 * r, "are 0.001 times the environment's:"),
        (lambda r: -r, "are -1 times the environment's:"),
        (lambda r: 2 * r - 5, "are 2 times the environment's, -5:"),
        (lambda r: np.where(np.arange(600) % 2, r, 0), "differ from the environment's by up to "),
    ],
)
def test_rewards_on_another_scale_are_warned_of(env, dataset, change, relation):
    findings = check_consistency(env, RULE, dataclasses.replace(dataset, rewards=change(dataset.rewards)))
    assert len(findings) == 2 and f"WARNING: the data's rewards {relation}" in findings[1]
    stateless = dataclasses.replace(dataset, rewards=change(dataset.rewards), states={})
    assert f"the data's rewards {relation}" in physics_findings(env, stateless)[1]


def test_rewards_on_another_scale_are_seen_in_other_physics_too(dataset):
    other = make_env("hopper-random-v2", physics="gymnasium")
    findings = physics_findings(other, dataclasses.replace(dataset, rewards=100 * dataset.rewards))
    assert "different dynamics" in findings[0] and "times the environment's" in findings[1]


def _episodes(dataset, terminals, timeouts):
    flags = {
        name: np.isin(np.arange(len(dataset)), rows)
        for name, rows in (("terminals", terminals), ("timeouts", timeouts))
    }
    return dataclasses.replace(dataset, **flags)


def test_a_time_limit_recorded_as_a_terminal_is_named():
    env = make_env("halfcheetah-random-v2")
    limited = _episodes(record_uniform(env.spec, 3000, seed=0, processes=1), [999, 1999], [2999])
    rule = kit.get_termination_fn("halfcheetah")
    (finding,) = check_consistency(env, rule, limited)[1:]
    assert finding.startswith("WARNING: 2 of 2 recorded terminals only end the longest episodes, of 1000 steps")
    single = _episodes(limited, [999], [1999, 2999])  # one is enough at the task's own limit
    assert "1 of 1 recorded terminals only end the longest" in check_consistency(env, rule, single)[1]
    other = _episodes(limited, [999, 1500], [1999, 2999])
    assert check_consistency(env, rule, other)[1:] == ["WARNING: the termination rule denies 2 of 2 recorded terminals"]


def test_few_time_limits_among_true_terminals_are_named(env, dataset):
    """Terminals are looked at by themselves: one of a thousand rows is not lost among the others."""
    falls = np.flatnonzero(dataset.terminals)
    gap = np.flatnonzero(np.diff(falls) > 10)[0]
    cut = falls[gap] + np.array([3, 6])  # two ends that no fall explains, in the middle of an episode
    odd = _episodes(dataset, np.append(falls, cut), np.flatnonzero(dataset.timeouts))
    assert denied_terminals(RULE, odd).tolist() == cut.tolist()
    count = len(falls) + 2
    assert f"denies 2 of {count} recorded terminals" in check_consistency(env, RULE, odd)[1]


def test_an_actuator_that_only_trembles_is_named(env, dataset):
    actions = dataset.actions.copy()
    actions[:, 1] = 0.3 + 1e-4 * np.random.default_rng(0).normal(size=600)
    findings = check_consistency(env, RULE, dataclasses.replace(dataset, actions=actions))
    assert any(line.startswith("WARNING: recorded actions 1 (from 0) vary by less than 0.001") for line in findings)
    actions[:, 1] = 0.3  # the dynamics names it when it is trained
    findings = check_consistency(env, RULE, dataclasses.replace(dataset, actions=actions))
    assert not any("recorded actions" in line for line in findings)


def _read_without(dataset, name, **changes):
    """The dataset as it is read from a file that lacks a column."""
    dataset = dataclasses.replace(dataset, **changes)
    names = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")
    return dataset_from_columns("file", {other: getattr(dataset, other) for other in names if other != name})


def test_rewards_that_went_with_the_last_steps_are_warned_of(env, dataset):
    sparse = _read_without(dataset, "next_observations", rewards=dataset.terminals.astype(np.float32))
    lines = check_consistency(env, RULE, sparse)
    assert any(line.startswith("data: next_observations are the following rows' observations") for line in lines)
    assert any(line.startswith("WARNING: all rewards were on the steps that are left out") for line in lines)
    mostly = _read_without(dataset, "next_observations", rewards=np.float32(0.01) + dataset.terminals)
    share = 100 * mostly.metadata["rewards_left_out"]
    assert 10 < share < 100
    assert f"WARNING: {share:.0f} % of the rewards' magnitude was" in "".join(check_consistency(env, RULE, mostly))
    lines = check_consistency(env, RULE, dataclasses.replace(dataset, rewards=0 * dataset.rewards))
    assert "WARNING: every reward in the data is 0: there is nothing to be good at" in lines


def test_terminals_that_went_with_the_last_steps_are_warned_of(env, dataset):
    """Whatever the rule says, there is no terminal left to compare it with."""
    never = lambda obs, actions, next_obs: torch.zeros(len(obs), 1, dtype=torch.bool)  # noqa: E731
    lines = check_consistency(env, never, _read_without(dataset, "next_observations"))
    all_of = f"WARNING: all {dataset.terminals.sum()} terminals were on the steps that are left out, so that nothing"
    assert any(line.startswith(all_of) for line in lines)
    assert not any("terminals were" in line for line in check_consistency(env, never, dataset))


def test_actions_that_look_normalised_are_warned_of(env, dataset):
    system = NoEnv(spec_of_data("wide", "never", (-20.0,) * 3, (20.0,) * 3), 11, 3)
    said = "recorded actions lie within -1 and 1, where the action space goes to 20: were they normalised?"
    assert any(said in line for line in check_consistency(system, None, dataset))
    assert not any(said in line for line in check_consistency(env, None, dataset))
    unused = dataclasses.replace(dataset, actions=dataset.actions * np.float32([1, 0, 1]))
    narrow = NoEnv(spec_of_data("narrow", "never", (-20.0, 0.0, -20.0), (20.0, 1.0, 20.0)), 11, 3)
    assert any(said in line for line in check_consistency(narrow, None, unused))
    half = dataclasses.replace(dataset, actions=10 * dataset.actions)
    assert not any(said in line for line in check_consistency(system, None, half))


def test_rows_that_do_not_follow_one_another_are_warned_of(env, dataset):
    in_order = "".join(check_consistency(env, RULE, _read_without(dataset, "timeouts")))
    assert "data: timeouts are the" in in_order and "shuffled" not in in_order
    rows = np.random.default_rng(0).permutation(600)
    names = ("observations", "actions", "next_observations", "rewards", "terminals")
    shuffled = _read_without(dataset, "timeouts", **{name: getattr(dataset, name)[rows] for name in names})
    assert "are the rows shuffled? Record timeouts" in "".join(check_consistency(env, RULE, shuffled))


def test_recorded_ends_that_rows_deny_are_warned_of(env, dataset):
    """Rows out of order, and episodes that run together."""
    rows = np.random.default_rng(0).permutation(600)
    names = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")
    columns = {name: getattr(dataset, name)[rows] for name in names}
    (shuffled,) = (
        line for line in check_consistency(env, RULE, dataset_from_columns("file", columns)) if "lead" in line
    )
    _, stops = episodes.bounds(dataset)
    ends = dataset.terminals[rows] | columns["timeouts"]
    broken = sum(
        not ends[i] and abs(columns["next_observations"][i] - columns["observations"][i + 1]).max() > 0.1
        for i in range(599)
    )
    assert f"WARNING: {broken} of {599 - ends[:-1].sum()} steps" in shuffled
    together = dataclasses.replace(dataset, timeouts=np.zeros(600, bool), terminals=np.zeros(600, bool))
    assert f"WARNING: {len(stops) - 1} of 599 steps that end no episode" in "".join(
        check_consistency(env, RULE, together)
    )


@pytest.mark.parametrize(
    ("scale", "offset", "message"),
    [
        (1, 1e4, "observations 2 (from 0) are of the order of 1e+04"),
        (1e4, 0, "observations 2 (from 0) are of the order of"),
        (1e-5, 0, "observations 2 (from 0) vary by less than 0.0001"),
        (1e-3, 1e3, "observations 2 (from 0) change in a step by hardly more than float32 rounds"),
    ],
)
def test_units_that_networks_learn_badly_from_are_warned_of(env, dataset, scale, offset, message):
    changed = {}
    for name in ("observations", "next_observations"):
        changed[name] = getattr(dataset, name).copy()
        changed[name][:, 2] = scale * changed[name][:, 2] + offset
    lines = check_consistency(env, RULE, dataclasses.replace(dataset, **changed))
    assert f"WARNING: {message}" in "\n".join(lines)
