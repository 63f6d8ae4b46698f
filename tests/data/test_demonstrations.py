"""Demonstrations in the form of hand_dapg's pickle, made here from the simulator, and what their replay yields."""

import pickle

import numpy as np
import pytest
from conftest import needs_adroit

from doof_ext import data
from doof_ext.data import episodes
from doof_ext.data.dataset import read_dataset, write_dataset
from doof_ext.data.demonstrations import read_demonstrations, replay
from doof_ext.errors import UserError
from doof_ext.evaluation import consistency
from doof_ext.tasks import get_spec, make_env

SPEC = get_spec("pen-human-v1")
pytestmark = needs_adroit


@pytest.fixture(scope="module")
def recorded():
    """Three demonstrations, one longer than the task's time limit, and one in which the pen is dropped on the way."""
    env, made, rng = make_env(SPEC, seed=5), [], np.random.default_rng(0)
    for length, scale in ((12, 1.3), (110, 0.0), (100, 1.0)):
        observations, rewards, states = [env.reset()], [], [env.state()]
        actions = scale * rng.uniform(-1, 1, (length, 24))
        for action in actions:
            observation, reward, _, _ = env.step(np.clip(action, -1, 1).astype(np.float32))
            observations.append(observation), rewards.append(reward), states.append(env.state())
        made.append((np.array(observations), actions, np.array(rewards), states))
    assert any((observations[:, 26] < 0.075).any() for observations, *_ in made)
    return made


@pytest.fixture(scope="module")
def listed(recorded):
    """The same as hand_dapg lists them."""
    return [
        {"observations": observations[:-1], "actions": actions, "rewards": rewards, "init_state_dict": states[0]}
        for observations, actions, rewards, states in recorded
    ]


@pytest.fixture(scope="module")
def replayed(listed, tmp_path_factory):
    path = tmp_path_factory.mktemp("dapg") / "pen-v0_demos.pickle"
    path.write_bytes(pickle.dumps(listed, protocol=3))
    return replay(str(path), SPEC)


def test_a_replay_is_the_recording_with_states(replayed, recorded):
    observations, actions, rewards, states = zip(*recorded, strict=True)
    for name, expected in (
        ("observations", [rows[:-1] for rows in observations]),
        ("next_observations", [rows[1:] for rows in observations]),
        ("actions", [np.clip(rows, -1, 1) for rows in actions]),
        ("rewards", rewards),
    ):
        np.testing.assert_allclose(getattr(replayed, name), np.concatenate(expected), rtol=0, atol=1e-5, err_msg=name)
    for name in ("qpos", "qvel", "desired_orien"):
        expected = [state[name] for demonstration in states for state in demonstration[:-1]]
        np.testing.assert_allclose(replayed.states[name], expected, rtol=0, atol=1e-9)
        assert replayed.states[name].dtype == np.float64


def test_a_demonstration_goes_on_to_its_end_beyond_time_limit_and_dropped_pen(replayed):
    assert episodes.returns_and_lengths(replayed)[1].tolist() == [12, 110, 100]
    assert replayed.terminals.sum() == 0 and np.flatnonzero(replayed.timeouts).tolist() == [11, 121, 221]
    assert replayed.metadata["behaviour"] == "3 human demonstrations, replayed; the pen is dropped in 1"


def test_rewards_are_d4rls_dense_ones(replayed):
    for obs, reward in zip(replayed.next_observations.astype(np.float64), replayed.rewards, strict=True):
        distance, similarity = np.linalg.norm(obs[39:42]), obs[33:36] @ obs[36:39]
        expected = similarity - distance
        if distance < 0.075 and similarity > 0.9:
            expected += 10
        if distance < 0.075 and similarity > 0.95:
            expected += 50
        if obs[26] < 0.075:
            expected -= 5
        assert reward == pytest.approx(expected, abs=1e-4)


def test_its_file_is_a_recipe_that_the_environment_reproduces(replayed, tmp_path):
    write_dataset(tmp_path / "pen.hdf5", replayed)
    assert consistency.replay(make_env(SPEC), read_dataset(tmp_path / "pen.hdf5", SPEC)).error < 1e-5
    loaded = data.load(f"hdf5:{tmp_path / 'pen.hdf5'}", SPEC)
    assert (loaded.source, loaded.id) == ("recipe", "pen-human-v1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda listed: listed.clear(), "no list of demonstrations"),
        (lambda listed: listed.__setitem__(1, 3), "no list of demonstrations"),
        (lambda listed: listed[1].pop("actions"), "demonstration 1: no array actions"),
        (lambda listed: listed[1].update(actions=[[0.0] * 24]), "demonstration 1: no array actions"),
        (lambda listed: listed[0].update(actions=np.zeros((5, 28))), r"shape \[5, 28\]; expected \[·, 24\]"),
        (lambda listed: listed[0].update(actions=np.zeros((0, 24))), r"shape \[0, 24\]"),
        (lambda listed: listed[2].pop("init_state_dict"), "demonstration 2: no init_state_dict"),
        (lambda listed: listed[0].update(init_state_dict=dict.fromkeys(("qpos", "qvel"), np.zeros(30))), "desired_"),
        (lambda listed: listed[0].update(init_state_dict={"qpos": np.zeros(29)}), r"qpos has shape \[29\]"),
        (lambda listed: listed[0].update(actions=np.full((5, 24), np.nan)), "actions is NaN, infinite"),
    ],
)
def test_what_are_no_demonstrations_of_the_pen_is_one_line(listed, tmp_path, change, message):
    changed = [dict(demonstration) for demonstration in listed]
    change(changed)
    path = tmp_path / "demos.pickle"
    path.write_bytes(pickle.dumps(changed))
    with pytest.raises(UserError, match=message) as caught:
        read_demonstrations(str(path), SPEC)
    assert len(str(caught.value).splitlines()) == 1


def test_a_state_that_no_simulator_goes_on_from_is_one_line(listed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file there
    wild = {**listed[0], "init_state_dict": {**listed[0]["init_state_dict"], "qpos": np.full(30, 1e14)}}
    path = tmp_path / "demos.pickle"
    path.write_bytes(pickle.dumps([listed[0], wild]))
    with pytest.raises(UserError, match=r"demonstration 1 cannot be replayed, .*unstable") as caught:
        replay(str(path), SPEC)
    assert len(str(caught.value).splitlines()) == 1
