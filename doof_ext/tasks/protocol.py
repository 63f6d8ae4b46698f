"""The interface of a task's environment: the kit trainer's old gym protocol, and the true dynamics of a state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from doof_ext.tasks.specs import TaskSpec


class TaskEnv(Protocol):
    """A task's environment, whichever simulator it runs on; see GymnasiumTaskEnv for the methods."""

    spec: TaskSpec  # complete with dimensions and action bounds
    physics: str
    has_oracle: bool  # whether the environment is an OracleEnv
    observation_is_state: bool  # whether state_from_observation() returns the state that was observed
    observation_space: Any  # a Box of gymnasium's, or of gym's
    action_space: Any

    def seed(self, seed: int) -> None: ...

    def reset(self) -> np.ndarray: ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]: ...

    def state(self) -> dict[str, np.ndarray]: ...

    def snapshot(self) -> dict[str, np.ndarray]: ...

    def parallel_envs(self, count: int) -> Sequence[TaskEnv]: ...

    def get_normalized_score(self, episode_return: Any) -> Any: ...

    def close(self) -> None: ...


class OracleEnv(TaskEnv, Protocol):
    """A task's environment with the true dynamics of any state; see MujocoTaskEnv for the methods."""

    @property
    def simulate(self) -> Callable[..., tuple[np.ndarray, Any, Any]]: ...  # its arguments are state()'s and the action

    def observe(self, states: Mapping[str, np.ndarray]) -> np.ndarray: ...

    def state_from_observation(self, observations: np.ndarray) -> dict[str, np.ndarray]: ...
