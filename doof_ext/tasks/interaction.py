"""Resets and steps of a real environment, checked before and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from doof_ext.errors import DivergenceError, EnvironmentFailedError
from doof_ext.tasks.protocol import TaskEnv


def step_env(env: TaskEnv, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
    """Takes one step.

    Args:
        env: A task's environment.
        action: [A].

    Returns:
        Next observation [O], reward, done, info, as the environment returns them.

    Raises:
        DivergenceError: The action is not finite or outside the action space; it does not reach the environment.
        EnvironmentFailedError: The environment raises, or returns an observation or a reward that is not finite.
    """
    space = env.action_space
    if not ((action >= space.low) & (action <= space.high)).all():  # False for NaN, too
        raise DivergenceError(f"the policy's action {action} does not fit the action space; it was not taken")
    next_obs, reward, done, info = _guarded("step", env.step, action)
    if not (np.isfinite(next_obs).all() and np.isfinite(reward)):
        raise EnvironmentFailedError("the environment answered with an observation or a reward that is not finite")
    return next_obs, reward, done, info


def reset_env(env: TaskEnv) -> np.ndarray:
    """The first observation [O] of a new episode; raises EnvironmentFailedError where the environment raises."""
    return _guarded("reset", env.reset)


def _guarded(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # an environment may raise anything
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise EnvironmentFailedError(f"the environment's {name} failed ({type(error).__name__}: {reason})") from error
