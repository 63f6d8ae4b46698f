"""The original stack's own environments: gym, d4rl and mujoco-py with MuJoCo 2.1 (`make test-legacy`)."""

import os

import numpy as np
import pytest
from test_physics import FIXTURES

from doof_ext.data.dataset import write_dataset
from doof_ext.errors import UserError
from doof_ext.tasks import make_env
from doof_ext.tasks.d4rl_package import is_installed, make_gym

MISSING = [name for name in ("gym", "d4rl", "mujoco_py") if not is_installed(name)]
original_stack = pytest.mark.skipif(bool(MISSING), reason=f"the original stack lacks {', '.join(MISSING)}")


@original_stack
@pytest.mark.parametrize("domain", ["hopper", "halfcheetah", "walker2d"])
def test_simulate_is_mujoco_21(domain):
    recorded = np.load(FIXTURES / f"transitions_{domain}.npz", allow_pickle=False)
    env = make_env(f"{domain}-medium-v2", physics="mujoco-py")
    assert env.physics == "mujoco-py"
    next_obs, rewards, _ = env.simulate(*(recorded[name][:500] for name in ("qpos", "qvel", "a")))
    np.testing.assert_allclose(next_obs, recorded["obs2"][:500], rtol=0, atol=1e-6)
    np.testing.assert_allclose(rewards, recorded["r"][:500], rtol=0, atol=1e-6)


@original_stack
def test_ours_is_the_same_world():
    theirs, ours = (make_env("hopper-medium-v2", seed=0, physics=physics) for physics in ("mujoco-py", "d4rl"))
    obs, action = theirs.reset(), np.array([0.2, -0.4, 0.1])
    state = theirs.state()
    np.testing.assert_allclose(theirs.observe({name: value[None] for name, value in state.items()})[0], obs)
    stepped, reward, done, _ = theirs.step(action)
    next_obs, expected, terminal = ours.simulate(state["qpos"], state["qvel"], action)
    np.testing.assert_allclose(next_obs, stepped, atol=1e-5)
    assert (reward, done) == (pytest.approx(expected, abs=1e-5), terminal)


@original_stack
def test_d4rls_environment_gives_its_file(dataset, tmp_path, monkeypatch):
    """A recipe's file where D4RL keeps its own comes back through its environment, and is still a recipe."""
    import d4rl.offline_env

    from doof_ext import data
    from doof_ext.tasks import get_spec

    monkeypatch.setattr(d4rl.offline_env, "DATASET_PATH", str(tmp_path))
    env = make_gym("hopper-random-v2").unwrapped
    write_dataset(env.dataset_filepath, dataset)
    np.testing.assert_array_equal(env.get_dataset()["observations"], dataset.observations)
    loaded = data.load("d4rl", get_spec("hopper-random-v2"))
    assert loaded.source == "recipe" and loaded.dataset.sha256() == dataset.sha256()


@pytest.mark.skipif(not MISSING, reason="the original stack is here")
def test_what_it_lacks_is_named():
    with pytest.raises(UserError, match=f"not installed: {', '.join(MISSING)}"):
        make_env("hopper-medium-v2", physics="mujoco-py")


@original_stack
def test_a_whole_run_in_it(tmp_path):
    from conftest import run_command

    done = run_command(
        "--physics",
        "mujoco-py",
        "--task",
        "hopper-random-v2",
        "--preset",
        "smoke",
        "--wandb",
        "off",
        "--logdir",
        tmp_path,
        "--source",
        "recipe",
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*/*/*/result/summary.json")
    assert '"physics": "mujoco-py"' in path.read_text()
    assert os.path.exists(path.parent / "online_buffer.hdf5")
