"""simulate() against MuJoCo 2.1's own transitions: the world that D4RL's data come from."""

from pathlib import Path

import numpy as np
import pytest
from conftest import needs_adroit

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


def test_simulate_has_no_memory_and_leaves_the_episode_alone(env):
    env.reset()
    qpos, qvel = env.state().values()
    action = np.array([0.3, -0.5, 0.9])
    first = env.simulate(qpos, qvel, action)
    env.simulate(qpos * 1.1, qvel + 1.0, -action)
    again = env.simulate(qpos, qvel, action)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(env.state()["qpos"], qpos)
    stepped, reward, _, _ = env.step(action)
    np.testing.assert_allclose(first[0], stepped, atol=1e-9)
    assert first[1] == pytest.approx(reward, abs=1e-9)


def test_same_seed_same_episode():
    def episode(seed):
        env = make_env("walker2d-medium-v2", seed=seed)
        return np.stack([env.reset(), *(env.step(env.action_space.sample())[0] for _ in range(5))])

    np.testing.assert_array_equal(episode(3), episode(3))
    assert not np.array_equal(episode(3), episode(4))


def test_state_from_observation_restores_all_but_the_root(env):
    obs = env.reset()
    qpos, qvel = env.state_from_observation(obs).values()
    true_qpos, true_qvel = env.state().values()
    assert qpos[0] == 0
    np.testing.assert_allclose(qpos[1:], true_qpos[1:])
    np.testing.assert_allclose(qvel, true_qvel)


def test_a_time_limit_is_no_terminal():
    env = make_env("halfcheetah-medium-v2")
    env.reset()
    for _ in range(1000):
        _, _, done, info = env.step(np.zeros(6))
    assert done and info["TimeLimit.truncated"]


@pytest.fixture(scope="module")
def pen():
    """The pen's environment and MuJoCo 2.1's transitions."""
    return make_env("pen-human-v1"), np.load(FIXTURES / "transitions_pen.npz", allow_pickle=False)


@needs_adroit
def test_the_pen_reproduces_mujoco_21(pen):
    env, recorded = pen
    state = {name: recorded[name] for name in ("qpos", "qvel", "desired_orien")}
    next_obs, rewards, terminals = env.simulate(action=recorded["a"], **state)
    assert len(next_obs) == 1500
    np.testing.assert_allclose(next_obs, recorded["obs2"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(rewards, recorded["r"], rtol=0, atol=1e-8)
    assert (terminals != recorded["d"]).sum() == 1 and terminals.sum() == 26  # one of its dones is the time limit


@needs_adroit
def test_a_pen_episode_ends_when_it_is_dropped_or_after_100_steps(pen):
    env, _ = pen
    ends = []
    for seed in range(12):
        env.seed(seed)
        env.reset()
        for step in range(1, 101):
            next_obs, _, done, info = env.step(0.1 * env.action_space.sample())
            assert done == (next_obs[26] < 0.075 or step == 100)
            if done:
                assert info["TimeLimit.truncated"] == (next_obs[26] >= 0.075)
                ends.append(info["TimeLimit.truncated"])
                break
    assert len(ends) == 12 and set(ends) == {True, False}


@needs_adroit
def test_the_pens_state_can_be_set_from_what_is_observed(pen):
    env, recorded = pen
    restored = env.state_from_observation(recorded["obs2"][:200])
    simulator = env._env.unwrapped
    for row in range(200):
        env._set_state(simulator, **{name: value[row] for name, value in restored.items()})
        np.testing.assert_allclose(simulator._get_obs(), recorded["obs2"][row], atol=1e-6)
    assert (restored["qvel"][:, :24] == 0).all()  # not observed


@needs_adroit
def test_a_pen_state_carries_its_target(pen):
    env, _ = pen
    env.reset()
    state, action = env.state(), np.linspace(-1, 1, 24)
    simulated, reward, _ = env.simulate(action=action, **state)
    stepped, stepped_reward, _, _ = env.step(action)
    np.testing.assert_allclose(simulated, stepped, atol=1e-9)
    assert reward == pytest.approx(stepped_reward)


@needs_adroit
def test_the_pens_score_is_d4rls(pen):
    env, _ = pen
    assert env.get_normalized_score(96.262799) == 0 and env.get_normalized_score(3076.8331017826877) == 1
    assert env.physics == "d4rl"
