"""An environment that fails in the middle of the collection: no step is lost, none invented."""

from pathlib import Path

import numpy as np
import pytest
from conftest import assert_same_run, resumed, wrap_stage

from doof_ext import pipeline
from doof_ext.data.dataset import read_dataset
from doof_ext.errors import EnvironmentFailedError
from doof_ext.tasks.gymnasium_env import GymnasiumTaskEnv
from doof_ext.tasks.locomotion import LocomotionTaskEnv


def fail_at(monkeypatch, number, broken):
    """The environment's step ``number`` of stage 3 returns ``broken(its result)``."""
    step = LocomotionTaskEnv.step

    def failing(collect):
        def wrapper(*inputs):
            count = 0

            def fails(self, action):
                nonlocal count
                count += 1
                result = step(self, action)
                return broken(result) if count == number else result

            with monkeypatch.context() as patch:
                patch.setattr(LocomotionTaskEnv, "step", fails)
                return collect(*inputs)

        return wrapper

    wrap_stage(monkeypatch, "collect", failing)


def _raise(result):
    raise RuntimeError("motor 3 is hot\nand more")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (_raise, r"step failed \(RuntimeError: motor 3 is hot\)"),
        (lambda r: (r[0] * np.nan, *r[1:]), "not finite"),
        (lambda r: (r[0], float("inf"), *r[2:]), "not finite"),
    ],
)
def test_an_environment_that_fails_loses_no_step(settings, monkeypatch, broken, message):
    config = settings()
    _, whole = pipeline.run(config)
    with monkeypatch.context() as patch:
        fail_at(patch, 31, broken)
        with pytest.raises(EnvironmentFailedError, match=message) as caught:
            pipeline.run(config)
    directory = Path(caught.value.run_directory)
    assert "\n" not in str(caught.value)
    assert "EnvironmentFailedError" in (directory / "record" / "failure.txt").read_text()
    taken, step = [], LocomotionTaskEnv.step
    with monkeypatch.context() as patch:
        patch.setattr(LocomotionTaskEnv, "step", lambda self, action: taken.append(self) or step(self, action))
        summary, _ = pipeline.run(resumed(directory))
    assert summary["online_steps"] == 50
    assert_same_run(whole, directory)
    collected = read_dataset(directory / "result" / "online_buffer.hdf5")
    assert len(collected) == 50


def test_an_unrestorable_episode_is_cut_and_the_rest_collected(settings, monkeypatch):
    monkeypatch.setattr(LocomotionTaskEnv, "snapshot", GymnasiumTaskEnv.snapshot)
    with monkeypatch.context() as patch:
        fail_at(patch, 6, _raise)
        with pytest.raises(EnvironmentFailedError) as caught:
            pipeline.run(settings())
    taken = []

    def counting(collect):
        def wrapper(ctx, *inputs):
            step = ctx.env.step
            ctx.env.step = lambda action: taken.append(action) or step(action)
            collection = collect(ctx, *inputs)
            del ctx.env.step
            return collection

        return wrapper

    wrap_stage(monkeypatch, "collect", counting)
    pipeline.run(resumed(caught.value.run_directory))
    online = read_dataset(Path(caught.value.run_directory) / "result" / "online_buffer.hdf5")
    assert len(taken) == 45 and len(online) == 50
    assert online.timeouts[4] and not online.terminals[4]
    np.testing.assert_array_equal(online.actions[5:], np.array(taken))
