"""The environment of a task that has none (``--env none``): what its data tell of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from doof_ext.errors import EnvironmentFailedError, UserError
from doof_ext.tasks.specs import TaskSpec


@dataclass
class Bounds:
    """What is read of a Box: ``low`` and ``high``, arrays [D]."""

    low: np.ndarray
    high: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.low.shape


class NoEnv:
    """A task's dimensions and bounds, as :class:`doof_ext.tasks.gymnasium_env.GymnasiumTaskEnv` has them; no steps.

    Args:
        spec: The task's spec; its action bounds are -1 and 1 where it has none.
        obs_dim: Of the data.
        action_dim: Of the data.

    Raises:
        UserError: The bounds have another number of dimensions than the data's actions.
    """

    physics = "none"
    has_oracle = False
    observation_is_state = False

    def __init__(self, spec: TaskSpec, obs_dim: int, action_dim: int) -> None:
        bounds = [spec.action_low or (-1.0,) * action_dim, spec.action_high or (1.0,) * action_dim]
        low, high = (bound * action_dim if len(bound) == 1 else bound for bound in bounds)
        if len(low) != action_dim:
            dimensions = f"{action_dim} dimension{'s' * (action_dim > 1)}"
            raise UserError(f"--action-low and --action-high have {len(low)} numbers, the data's actions {dimensions}")
        self.spec = dataclasses.replace(spec, obs_dim=obs_dim, action_dim=action_dim, action_low=low, action_high=high)
        self.action_space = Bounds(np.array(low, np.float32), np.array(high, np.float32))
        self.observation_space = Bounds(np.full(obs_dim, -np.inf), np.full(obs_dim, np.inf))

    def seed(self, seed: int) -> None:
        """Nothing is random here."""

    def reset(self) -> NoReturn:
        """Raises EnvironmentFailedError."""
        raise EnvironmentFailedError("--env none: there is no environment to take a step in")

    def step(self, action: np.ndarray) -> NoReturn:
        """Raises EnvironmentFailedError."""
        self.reset()

    def state(self) -> dict[str, np.ndarray]:
        """Empty: there is no simulator."""
        return {}

    def snapshot(self) -> dict[str, np.ndarray]:
        """Empty: there is no episode."""
        return {}

    def parallel_envs(self, count: int) -> Sequence[NoEnv]:
        """This one."""
        return [self]

    def get_normalized_score(self, episode_return: Any) -> Any:
        """D4RL's normalised score of a return, as a fraction."""
        return self.spec.normalized_score(episode_return)

    def close(self) -> None:
        """Nothing is open."""
