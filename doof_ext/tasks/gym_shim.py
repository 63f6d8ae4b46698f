"""What the kit's runners use of gym and d4rl, where these cannot give it: environment, dataset, normalised score."""

import contextlib
import io
import sys
import types
from collections.abc import Callable
from typing import Any

from doof_ext.tasks import TaskSpec, make_env
from doof_ext.tasks.d4rl_package import is_installed, make_gym, prepare_import


class D4RLEnv:
    """A task's environment with ``get_dataset``, as D4RL's environments have it; all else is the task environment's."""

    def __init__(self, env, get_columns):
        self.task_env, self._get_columns = env, get_columns
        self._max_episode_steps = env.spec.max_episode_steps

    def __getattr__(self, name):
        return getattr(self.task_env, name)

    def get_dataset(self):
        """The dataset's arrays by D4RL's names."""
        return self._get_columns()


def install(
    get_spec: Callable[[str], TaskSpec],
    physics: str,
    get_columns: Callable[[TaskSpec], dict[str, Any]],
    notify: Callable[[str], object],
) -> None:
    """Lets ``gym.make(task)`` and ``import d4rl`` work in this process; what is installed goes first.

    Args: task → spec (raises UserError for an unknown one); the environments' physics; spec → D4RL's arrays; ``notify``
    is called with a line on what stands in for what.
    """

    def stand_in(task, reason):
        spec = get_spec(task)
        notify(f"{reason}: {task} is doof_ext's own environment and data")
        env = make_env(spec, physics=physics)
        return D4RLEnv(env, lambda: get_columns(env.spec))

    prepare_import()  # the runner will import d4rl
    if not is_installed("gym"):
        gym = types.ModuleType("gym")
        gym.make = lambda task, **_: stand_in(task, "gym is not installed")
        sys.modules["gym"] = gym
    else:
        _wrap_make(stand_in)
    if not is_installed("d4rl"):
        sys.modules["d4rl"] = types.ModuleType("d4rl")
        from doof_ext.kit.embedded.load_dataset import qlearning_dataset

        sys.modules["d4rl"].qlearning_dataset = qlearning_dataset


def _wrap_make(stand_in):
    with contextlib.redirect_stderr(io.StringIO()):  # gym's notice that it is old
        import gym

    make = gym.make

    def make_or_stand_in(task, **settings):
        if not is_installed("d4rl"):
            reason = "the d4rl package is not installed"
        else:
            try:
                return make_gym(task, **settings)
            except Exception as error:  # gym, d4rl and mujoco-py each raise kinds of their own
                reason = f"gym cannot make it ({(str(error).strip() or type(error).__name__).splitlines()[0]})"
        return stand_in(task, reason)

    make_or_stand_in.__wrapped__ = make
    gym.make = make_or_stand_in
