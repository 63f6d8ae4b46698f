"""When an episode ends in a terminal state, as a function of the transition, for model rollouts.

The rules use only operators that NumPy arrays and torch tensors share, so one rule serves both. A comparison with
NaN is False, so a NaN state ends the rollout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doof_ext.tasks.specs import TerminationFn


def _bounded(next_obs: Any) -> Any:
    """Whether every coordinate [B, 1] is finite and within ±100, as any real state of these bodies is."""
    return (abs(next_obs) < 100).all(-1)[:, None]


def termination_fn_halfcheetah(obs: Any, act: Any, next_obs: Any) -> Any:
    """HalfCheetah has no terminal state, but a prediction beyond ±100 ends a model rollout."""
    return ~_bounded(next_obs)


def termination_fn_hopper(obs: Any, act: Any, next_obs: Any) -> Any:
    """Hopper falls: height at most 0.7, angle beyond ±0.2, or any coordinate but the height beyond ±100."""
    height, angle = next_obs[:, :1], next_obs[:, 1:2]
    return ~(_bounded(next_obs[:, 1:]) & (height > 0.7) & (height < float("inf")) & (abs(angle) < 0.2))


def termination_fn_walker2d(obs: Any, act: Any, next_obs: Any) -> Any:
    """Walker2d falls: height outside (0.8, 2.0), angle outside (-1, 1); or a coordinate is beyond ±100."""
    height, angle = next_obs[:, :1], next_obs[:, 1:2]
    return ~(_bounded(next_obs) & (height > 0.8) & (height < 2.0) & (abs(angle) < 1.0))


def termination_fn_pen(obs: Any, act: Any, next_obs: Any) -> Any:
    """The pen is dropped: its height is below 0.075."""
    return ~(next_obs[:, 26:27] >= 0.075)


_RULES: dict[str, TerminationFn] = {
    "halfcheetah": termination_fn_halfcheetah,
    "hopper": termination_fn_hopper,
    "walker2d": termination_fn_walker2d,
    "pen": termination_fn_pen,
}


def get_termination_fn(task: str) -> TerminationFn:
    """The rule of a task such as ``hopper-medium-v2``: fn(obs [B, O], act [B, A], next_obs [B, O]) → bool [B, 1].

    The part of the name before the first hyphen is the task's domain.

    Raises:
        ValueError: The domain is unknown.
    """
    domain = task.lower().split("-")[0]
    if domain not in _RULES:
        raise ValueError(f"no termination rule for {task!r}; there is one for {', '.join(_RULES)}")
    return _RULES[domain]
