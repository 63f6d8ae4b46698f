"""Behaviour cloning, and the file of pen-cloned that is made with it."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import needs_adroit

from doof_ext.data.behaviour import Behaviour
from doof_ext.data.cloning import clone, generate_cloned
from doof_ext.data.dataset import Dataset, repeated_steps, write_dataset
from doof_ext.data.recipe import record_uniform
from doof_ext.errors import UserError
from doof_ext.evaluation.consistency import replay
from doof_ext.tasks import get_spec, make_env

SPEC = get_spec("pen-cloned-v1")


def _teacher(count):
    """Rows of a known policy, a = tanh(W s), with columns of unlike scales and one that never changes."""
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(count, 4)).astype(np.float32) * [1, 100, 0.01, 0] + [0, 5, 0, 0.3]
    observations = observations.astype(np.float32)
    weights = np.array([[1.0, 0.0, 40.0, 0.0], [0.0, 0.02, 0.0, 0.0]])
    actions = np.tanh(observations @ weights.T).astype(np.float32)
    flags = np.zeros(count, bool)
    return Dataset(observations, actions, observations, flags.astype(np.float32), flags, flags)


def test_a_clone_acts_as_its_demonstrations_do():
    demonstrations = _teacher(500)
    policy, rng = clone(demonstrations, seed=0), np.random.default_rng(0)
    acted = np.stack([policy.act(observation, rng) for observation in demonstrations.observations])
    assert acted.dtype == np.float32 and abs(acted).max() < 1
    assert abs(acted - demonstrations.actions).max() < 0.1
    assert np.sqrt(np.mean((acted - demonstrations.actions) ** 2)) < 0.01


def test_a_clone_depends_on_its_seed_alone_and_leaves_torchs_generator_alone():
    demonstrations, state = _teacher(50), torch.get_rng_state()
    observation, rng = demonstrations.observations[0], np.random.default_rng(0)
    one, same, other = (clone(demonstrations, seed).act(observation, rng) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).all() and torch.equal(torch.get_rng_state(), state)


def test_a_policy_without_a_deviation_is_deterministic():
    weights = {"hidden.0.weight": np.eye(2, dtype=np.float32), "hidden.0.bias": np.zeros(2, np.float32)}
    weights |= {"mean.weight": np.float32([[1, 2]]), "mean.bias": np.float32([0.5])}
    action = Behaviour(weights).act(np.array([0.1, -3.0]), np.random.default_rng(0))
    assert action == pytest.approx(np.tanh(0.6))


def test_repeated_steps_are_whole_copies_and_a_cut_one_that_each_end():
    rows = np.arange(4, dtype=np.float32)[:, None]
    terminals, timeouts = np.array([False, True, False, False]), np.zeros(4, bool)
    dataset = Dataset(rows, rows, rows + 1, rows[:, 0], terminals, timeouts, {"qpos": rows}, {"seed": 1})
    repeated = repeated_steps(dataset, 11)
    assert repeated.rewards.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2] == repeated.states["qpos"][:, 0].tolist()
    assert np.flatnonzero(repeated.terminals).tolist() == [1, 5, 9]
    assert np.flatnonzero(repeated.timeouts).tolist() == [3, 7, 10]
    assert not dataset.timeouts.any() and repeated.metadata == {"seed": 1}
    assert repeated_steps(dataset, 2).timeouts.sum() == 0  # it ends in a terminal


@pytest.fixture(scope="module")
def human(tmp_path_factory):
    """A small file in the place of pen-human's."""
    path = tmp_path_factory.mktemp("human") / "human.hdf5"
    dataset = record_uniform(get_spec("pen-human-v1"), steps=40, seed=0, processes=1)
    write_dataset(path, dataset)
    return str(path), dataset


@needs_adroit
def test_half_of_the_rows_are_the_clones_and_half_the_demonstrations(human):
    path, demonstrations = human
    made = generate_cloned(path, SPEC, steps=241, seed=3, processes=1)
    assert len(made) == 241
    policy, rng = clone(demonstrations, seed=3), np.random.default_rng(0)
    acted = np.stack([policy.act(observation, rng) for observation in made.observations[:120]])
    np.testing.assert_allclose(made.actions[:120], acted, atol=1e-4)
    for name in ("observations", "actions", "next_observations", "rewards"):
        expected = np.concatenate([getattr(demonstrations, name)] * 4)[:121]
        np.testing.assert_array_equal(getattr(made, name)[120:], expected, err_msg=name)
    ends = made.terminals | made.timeouts
    assert ends[119] and ends[159::40].all() and ends[-1]
    assert replay(make_env(SPEC), made).error < 1e-5  # states are recorded
    assert made.metadata["recipe"] == "pen-cloned-v1" and made.metadata["demonstrations"] == "human.hdf5"


@needs_adroit
def test_pen_cloned_depends_on_its_seed_and_has_states_where_the_file_has(human, tmp_path):
    path, demonstrations = human
    once, again, other = (generate_cloned(path, SPEC, 60, seed, processes=1).sha256() for seed in (1, 1, 2))
    assert once == again != other
    write_dataset(tmp_path / "stateless.hdf5", dataclasses.replace(demonstrations, states={}))
    assert not generate_cloned(str(tmp_path / "stateless.hdf5"), SPEC, 60, 1, processes=1).states


def test_another_tasks_file_is_refused_before_anything_is_trained(tmp_path, dataset):
    write_dataset(tmp_path / "hopper.hdf5", dataset)
    with pytest.raises(UserError, match=r"shape \[600, 11\]; expected \[600, 45\]"):
        generate_cloned(str(tmp_path / "hopper.hdf5"), SPEC, 60, 1, processes=1)
