"""simulate() against MuJoCo 2.1's own transitions: the world that D4RL's data come from."""

from pathlib import Path

import numpy as np
import pytest

from doof_ext.tasks import make_env

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.mark.parametrize(("domain", "tolerance"), [("hopper", 1e-5), ("halfcheetah", 1e-4), ("walker2d", 1e-4)])
def test_simulate_reproduces_mujoco_21(domain, tolerance):
    recorded = np.load(FIXTURES / f"transitions_{domain}.npz", allow_pickle=False)
    env = make_env(f"{domain}-medium-v2")
    next_obs, rewards, terminals = env.simulate(recorded["qpos"], recorded["qvel"], recorded["a"])
    assert len(next_obs) == 2000
    np.testing.assert_allclose(next_obs, recorded["obs2"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(rewards, recorded["r"], rtol=0, atol=1e-5)
    if domain != "halfcheetah":  # its recorded dones are all time limits
        np.testing.assert_array_equal(terminals, recorded["d"])
    assert not (terminals & ~recorded["d"]).any()


@pytest.mark.parametrize("domain", ["hopper", "halfcheetah", "walker2d"])
def test_gymnasiums_own_bodies_are_another_world(domain):
    recorded = np.load(FIXTURES / f"transitions_{domain}.npz", allow_pickle=False)
    env = make_env(f"{domain}-medium-v2", physics="gymnasium")
    assert env.physics == "gymnasium"
    next_obs, _, _ = env.simulate(*(recorded[name][:100] for name in ("qpos", "qvel", "a")))
    assert abs(next_obs - recorded["obs2"][:100]).max() > 1e-3


def test_simulate_does_not_depend_on_what_was_simulated_before_nor_disturb_the_episode(env):
    env.reset()
    qpos, qvel = env.state()
    action = np.array([0.3, -0.5, 0.9])
    first = env.simulate(qpos, qvel, action)
    env.simulate(qpos * 1.1, qvel + 1.0, -action)
    again = env.simulate(qpos, qvel, action)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(env.state()[0], qpos)
    stepped, reward, _, _ = env.step(action)
    np.testing.assert_allclose(first[0], stepped, atol=1e-9)
    assert first[1] == pytest.approx(reward, abs=1e-9)


def test_same_seed_same_episode():
    def episode(seed):
        env = make_env("walker2d-medium-v2", seed=seed)
        return np.stack([env.reset(), *(env.step(env.action_space.sample())[0] for _ in range(5))])

    np.testing.assert_array_equal(episode(3), episode(3))
    assert not np.array_equal(episode(3), episode(4))


def test_state_from_observation_restores_the_state_up_to_the_root_position(env):
    obs = env.reset()
    qpos, qvel = env.state_from_observation(obs)
    true_qpos, true_qvel = env.state()
    assert qpos[0] == 0
    np.testing.assert_allclose(qpos[1:], true_qpos[1:])
    np.testing.assert_allclose(qvel, true_qvel)


def test_a_time_limit_is_no_terminal():
    env = make_env("halfcheetah-medium-v2")
    env.reset()
    for _ in range(1000):
        _, _, done, info = env.step(np.zeros(6))
    assert done and info["TimeLimit.truncated"]
