"""Resets and steps of a real environment, checked before and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from doof_ext.errors import DivergenceError, EnvironmentFailedError, UserError
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
        EnvironmentFailedError: The environment raises, or returns an observation or a reward that is not finite, or an
            observation of another shape than its space.
    """
    space = env.action_space
    if not ((action >= space.low) & (action <= space.high)).all():  # False for NaN, too
        raise DivergenceError(f"the policy's action {action} does not fit the action space; it was not taken")
    next_obs, reward, done, info = _guarded("step", env.step, action)
    _check_observation("step", next_obs, env)
    if not np.isfinite(reward):
        raise EnvironmentFailedError(f"the environment's step returned a reward that is not finite ({reward})")
    return next_obs, reward, done, info


def reset_env(env: TaskEnv) -> np.ndarray:
    """The first observation [O] of a new episode; raises EnvironmentFailedError as :func:`step_env`."""
    observation = _guarded("reset", env.reset)
    _check_observation("reset", observation, env)
    return observation


def check_env(env: TaskEnv, step: bool = True) -> None:
    """Resets an environment and takes one step, in the middle of the action bounds, before anything is trained for it.

    Args:
        env: A task's environment.
        step: Whether to take the step; without, it is only reset.

    Raises:
        UserError: It cannot be reset or stepped, or returns what does not fit its spaces.
    """
    low, high = (np.asarray(bound, np.float32) for bound in (env.spec.action_low, env.spec.action_high))
    try:
        reset_env(env)
        if step:
            step_env(env, low + (high - low) / 2)
    except EnvironmentFailedError as error:
        raise UserError(
            f"{env.spec.name}: {error}; as Gymnasium has it, reset() returns (observation, info), step(action) returns "
            "(observation, reward, terminated, truncated, info)"
        ) from error


def _check_observation(name: str, observation: Any, env: TaskEnv) -> None:
    array, shape = np.asarray(observation), tuple(env.observation_space.shape)
    if array.shape != shape or array.dtype.kind not in "fiub":
        what = f"an observation of shape {list(array.shape)} ({array.dtype})"
        raise EnvironmentFailedError(f"the environment's {name} returned {what}; its space has {list(shape)}")
    if not np.isfinite(array).all():
        raise EnvironmentFailedError(f"the environment's {name} returned an observation that is not finite")


def _guarded(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # an environment may raise anything
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise EnvironmentFailedError(f"the environment's {name} failed ({type(error).__name__}: {reason})") from error
