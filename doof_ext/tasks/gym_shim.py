"""A shim for what the kit's runners use of gym and d4rl: environment, dataset and normalised score."""

from __future__ import annotations

import contextlib
import io
import sys
import types
from collections.abc import Callable
from typing import Any

from doof_ext.tasks import TaskSpec, make_env
from doof_ext.tasks.d4rl_package import is_installed, make_gym, prepare_import
from doof_ext.tasks.protocol import TaskEnv


class D4RLEnv:
    """A task's environment with ``get_dataset``, as D4RL's environments have it; delegates all else to the task's."""

    def __init__(self, env: TaskEnv, get_columns: Callable[[], dict[str, Any]]) -> None:
        self.task_env, self._get_columns = env, get_columns
        self._max_episode_steps = env.spec.max_episode_steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task_env, name)

    def get_dataset(self) -> dict[str, Any]:
        """The dataset's arrays by D4RL's names."""
        return self._get_columns()


def install(
    get_spec: Callable[[str], TaskSpec],
    physics: str,
    get_columns: Callable[[TaskSpec], dict[str, Any]],
    notify: Callable[[str], object],
) -> None:
    """Makes ``gym.make(task)`` and ``import d4rl`` work in this process; installed packages take precedence.

    Args:
        get_spec: Task → spec; raises UserError for an unknown task.
        physics: The environments' physics.
        get_columns: Spec → D4RL's arrays by name.
        notify: Called with one line for each environment that is substituted.
    """

    def make_substitute(task: str, reason: str) -> D4RLEnv:
        spec = get_spec(task)
        notify(f"{reason}: {task} is doof_ext's own environment and data")
        env = make_env(spec, physics=physics)
        return D4RLEnv(env, lambda: get_columns(env.spec))

    prepare_import()  # the runner will import d4rl
    if not is_installed("gym"):
        gym: Any = types.ModuleType("gym")
        gym.make = lambda task, **_: make_substitute(task, "gym is not installed")
        sys.modules["gym"] = gym
    else:
        _wrap_make(make_substitute)
    if not is_installed("d4rl"):
        d4rl: Any = types.ModuleType("d4rl")
        sys.modules["d4rl"] = d4rl
        from doof_ext.kit.embedded.load_dataset import qlearning_dataset

        d4rl.qlearning_dataset = qlearning_dataset


def _wrap_make(make_substitute: Callable[[str, str], D4RLEnv]) -> None:
    with contextlib.redirect_stderr(io.StringIO()):  # gym's deprecation notice
        import gym

    def make_or_substitute(task: str, **settings: Any) -> Any:
        if not is_installed("d4rl"):
            reason = "the d4rl package is not installed"
        else:
            try:
                return make_gym(task, **settings)
            except Exception as error:  # gym, d4rl and mujoco-py each raise their own types
                reason = f"gym cannot make it ({(str(error).strip() or type(error).__name__).splitlines()[0]})"
        return make_substitute(task, reason)

    wrapper: Any = make_or_substitute
    wrapper.__wrapped__ = gym.make
    gym.make = wrapper
