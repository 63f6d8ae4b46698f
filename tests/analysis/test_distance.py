"""The dynamics distance on cases with known answers."""

import numpy as np
import torch

from doof_ext.analysis.distance import dynamics_distance, simulate_pairs, summarise, uniform_pairs


class _OffBy:
    """A model that is the truth plus a constant."""

    def __init__(self, pairs, offset):
        self._answer = pairs.next_observations + torch.as_tensor(offset, dtype=torch.float32)

    def mean_next_obs(self, observations, actions):
        return self._answer


def test_a_perfect_model_has_distance_0_and_a_constant_error_its_norm(env, dataset):
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
