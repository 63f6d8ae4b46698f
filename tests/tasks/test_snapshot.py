"""An environment that is restored goes on to the bit."""

import numpy as np
import pytest

from doof_ext.errors import UserError
from doof_ext.tasks import make_env


@pytest.mark.parametrize("task", ["hopper-medium-v2", "halfcheetah-medium-v2", "walker2d-medium-v2", "pen-human-v1"])
def test_a_restored_world_goes_on_to_the_bit(task):
    try:
        env, other = make_env(task, seed=3), make_env(task, seed=8)
    except UserError as error:
        pytest.skip(str(error))
    rng = np.random.default_rng(0)
    env.reset()
    other.reset()
    for _ in range(7):
        env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
    snapshot = {name: np.array(value) for name, value in env.snapshot().items()}
    actions = rng.uniform(-1, 1, (150, *env.action_space.shape)).astype(np.float32)
    runs = []
    for world in (env, other):
        if world is other:
            world.restore(snapshot)
        steps = []
        for action in actions:
            obs, reward, done, info = world.step(action)
            steps.append((obs.tobytes(), reward, done, info["TimeLimit.truncated"]))
            if done:
                break
        runs.append(steps)
    assert runs[0] == runs[1] and len(runs[0]) > 3
    for name, value in env.snapshot().items():  # the time limit's count is among them
        np.testing.assert_array_equal(other.snapshot()[name], value)
