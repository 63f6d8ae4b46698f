"""Whether data and an environment of different dynamics are told apart."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import needs_adroit

from doof_ext import kit
from doof_ext.data.recipe import record_uniform
from doof_ext.errors import UserError
from doof_ext.evaluation.consistency import check_consistency, termination_errors, transition_error
from doof_ext.tasks import TaskSpec, make_env

RULE = kit.get_termination_fn("hopper")


def test_data_of_this_world_are_reproduced(env, dataset):
    assert transition_error(env, dataset) < 1e-5
    assert termination_errors(RULE, dataset) == (0, 600)
    (finding,) = check_consistency(env, RULE, dataset)
    assert finding.startswith("physics check: the environment reproduces")


def test_another_world_is_warned_of(dataset):
    (finding,) = check_consistency(make_env("hopper-random-v2", physics="gymnasium"), RULE, dataset)
    assert finding.startswith("WARNING") and "different dynamics" in finding


def test_one_wrong_row_is_enough(env, dataset):
    wrong = dataclasses.replace(dataset, next_observations=dataset.next_observations.copy())
    wrong.next_observations[17, 3] += 0.01
    assert transition_error(env, wrong, sample=600) == pytest.approx(0.01, abs=1e-4)
    wrong.next_observations[17, 3] = np.inf
    assert transition_error(env, wrong, sample=600) == np.inf


@needs_adroit
def test_without_states_nothing_is_claimed(env, dataset):
    assert transition_error(make_env(TaskSpec("own", "Pendulum-v1", "never")), dataset) is None
    pen = make_env("pen-human-v1")
    assert transition_error(pen, record_uniform(pen.spec, 50, seed=0, processes=1)) < 1e-6
    assert transition_error(pen, dataclasses.replace(dataset, states={})) is None


def test_where_observations_tell_the_state_they_do(env, dataset):
    stateless = dataclasses.replace(dataset, states={})
    assert transition_error(env, stateless) < 1e-4
    assert transition_error(make_env("hopper-random-v2", physics="gymnasium"), stateless) > 1e-3


def test_data_of_another_task_or_in_other_units_are_warned_of(env, dataset):
    other = dataclasses.replace(dataset, metadata={"task": "walker2d-random-v2"}, actions=dataset.actions * 3)
    warnings = "".join(check_consistency(env, RULE, other)[1:])
    assert "the data are of walker2d-random-v2, the task is hopper-random-v2" in warnings
    assert f"{(abs(other.actions) > 1).any(1).sum()} of 600 recorded actions lie outside" in warnings


def test_data_of_an_earlier_recipe_are_warned_of(env, dataset):
    earlier = dataclasses.replace(dataset, metadata={**dataset.metadata, "recipe_version": 2})
    (warning,) = check_consistency(env, RULE, earlier)[1:]
    assert warning.startswith("WARNING: the data are of version 2 of the recipes;")


def test_states_of_another_model_are_refused(env, dataset):
    states = {name: np.hstack([state, state]) for name, state in dataset.states.items()}
    with pytest.raises(UserError, match="12 columns, the environment 6"):
        transition_error(env, dataclasses.replace(dataset, states=states))


def test_a_termination_rule_that_the_data_contradict_is_warned_of(env, dataset):
    findings = check_consistency(env, lambda obs, act, next_obs: next_obs[:, :1] > 1e9, dataset)
    assert f"in {dataset.terminals.sum()} of 600 rows" in findings[1]


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
        termination_errors(rule, dataset)
