"""The dynamics distance on cases with known answers."""

import numpy as np
import pytest
import torch

from doof_ext.errors import UserError
from doof_ext.evaluation import dynamics_distance as distance
from doof_ext.evaluation.dynamics_distance import (
    dataset_pairs,
    dynamics_distance,
    simulate_pairs,
    summarise,
    uniform_pairs,
)
from doof_ext.evaluation.measurements import draw_pairs, read_measurements, write_measurements


class _OffBy:
    """A model that is the truth plus a constant."""

    def __init__(self, pairs, offset):
        self._answer = pairs.next_observations + torch.as_tensor(offset, dtype=torch.float32)

    def mean_next_obs(self, observations, actions):
        return self._answer


def test_a_perfect_model_has_distance_0_and_an_offset_its_norm(env, dataset):
    pairs = simulate_pairs(env, dataset.observations[:20], dataset.actions[:20])
    assert dynamics_distance(_OffBy(pairs, np.zeros(11)), pairs).max() == 0
    offset = np.zeros(11)
    offset[[2, 5]] = 3.0, 4.0
    np.testing.assert_allclose(dynamics_distance(_OffBy(pairs, offset), pairs), 5.0, rtol=1e-5)


def test_the_truth_is_the_recorded_next_observation(env, dataset):
    pairs = simulate_pairs(env, dataset.observations[:50], dataset.actions[:50])
    unclipped = (abs(dataset.observations[:50, 5:]) < 10).all(1)
    np.testing.assert_allclose(pairs.next_observations[unclipped], dataset.next_observations[:50][unclipped], atol=1e-4)


def test_uniform_pairs_stay_in_the_datas_box(env, dataset):
    pairs = uniform_pairs(env, dataset.observations, 30, np.random.default_rng(0))
    assert (pairs.observations.numpy() >= dataset.observations.min(0) - 1e-5).all()
    assert (pairs.observations.numpy() <= dataset.observations.max(0) + 1e-5).all()
    assert pairs.actions.abs().max() <= 1 and pairs.actions.std() > 0.4


def test_summary_is_mean_and_max():
    assert summarise(np.array([1.0, 2.0, 6.0])) == {"mean": 3.0, "max": 6.0}
    assert summarise(np.array([])) == {"mean": None, "max": None}


def test_a_state_that_mujoco_gives_up_on_is_left_out(env, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a log file there
    observations = dataset.observations[:3].astype(float)
    observations[1, 0] = 1e11
    next_obs, _, _ = env.simulate(**env.state_from_observation(observations), action=dataset.actions[:3])
    assert np.isnan(next_obs).all(1).tolist() == [False, True, False]
    assert len(simulate_pairs(env, observations, dataset.actions[:3]).observations) == 2


def test_recorded_states_are_taken_as_they_are(env, dataset):
    """A clipped velocity is in the state, not in the observation."""
    rng = np.random.default_rng(0)
    pairs = dataset_pairs(env, dataset, len(dataset), rng)
    assert pairs.inexact == 0 and len(pairs) == len(dataset)
    rows = np.random.default_rng(0).permutation(len(dataset))
    np.testing.assert_allclose(pairs.next_observations, dataset.next_observations[rows], atol=1e-6)
    np.testing.assert_array_equal(pairs.observations, dataset.observations[rows])


def test_observations_that_hide_a_velocity_are_counted(env, dataset):
    observations = dataset.observations[:5].copy()
    observations[2, 7] = 10.0
    assert simulate_pairs(env, observations, dataset.actions[:5]).inexact == 1


def test_worker_processes_give_the_same_truth(env, dataset, monkeypatch):
    alone = simulate_pairs(env, dataset.observations[:90], dataset.actions[:90])
    monkeypatch.setattr(distance, "_WORTH_WORKERS", 10)
    monkeypatch.setattr(distance, "_BLOCK", 40)
    together = simulate_pairs(env, dataset.observations[:90], dataset.actions[:90])
    assert torch.equal(alone.next_observations, together.next_observations)


def test_each_kind_of_pairs_is_what_it_says(env, dataset, tiny):
    config = tiny(distance_samples=40)
    fake = {"observations": torch.as_tensor(dataset.observations[:40]), "actions": torch.zeros(40, 3)}
    pairs = draw_pairs(config, env, dataset, fake, online=dataset, other=None)
    assert set(pairs) == {"data", "random_actions", "uniform", "fake_buffer", "online"}
    recorded = {row.tobytes() for row in np.hstack([dataset.observations, dataset.actions])}

    def known(kind):
        rows = torch.cat([pairs[kind].observations, pairs[kind].actions], dim=1).numpy()
        return sum(row.tobytes() in recorded for row in rows)

    assert (known("data"), known("online"), known("random_actions"), known("uniform")) == (40, 40, 0, 0)
    assert (pairs["fake_buffer"].actions == 0).all()
    again = draw_pairs(config, env, dataset, fake, online=dataset)
    assert all(torch.equal(pairs[kind].observations, again[kind].observations) for kind in pairs)


def test_measurements_come_back_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    before, after = ({"data": {"distance": rng.random(5), "u": rng.random(5)}} for _ in range(2))
    write_measurements(tmp_path / "d.npz", before, after)
    found = read_measurements(tmp_path / "d.npz")
    np.testing.assert_array_equal(found["data"]["before"]["distance"], before["data"]["distance"])
    np.testing.assert_array_equal(found["data"]["after"]["u"], after["data"]["u"])
    with pytest.raises(UserError, match="cannot be read"):
        read_measurements(tmp_path / "none.npz")
