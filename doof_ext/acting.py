"""One step in a real environment, checked before and after."""

import numpy as np

from doof_ext.errors import DivergenceError, EnvironmentFailedError


def take_step(env, action):
    """Acts once; returns next observation [O], reward, done, info as the environment does.

    Raises: DivergenceError before an action [A] that is not finite or outside the action space reaches the
    environment; EnvironmentFailedError where the environment raises, or answers with what is not finite.
    """
    space = env.action_space
    if not ((action >= space.low) & (action <= space.high)).all():  # NaN neither
        raise DivergenceError(f"the policy's action {action} does not fit the action space; it was not taken")
    next_obs, reward, done, info = _guarded("step", env.step, action)
    if not (np.isfinite(next_obs).all() and np.isfinite(reward)):
        raise EnvironmentFailedError("the environment answered with an observation or a reward that is not finite")
    return next_obs, reward, done, info


def start_episode(env):
    """The first observation [O] of a new episode; EnvironmentFailedError where the environment raises."""
    return _guarded("reset", env.reset)


def _guarded(name, function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:  # an environment may raise anything
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise EnvironmentFailedError(f"the environment's {name} failed ({type(error).__name__}: {reason})") from error
