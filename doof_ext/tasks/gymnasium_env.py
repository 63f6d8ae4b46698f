"""Any Gymnasium environment with box spaces, in the protocol of the kit's trainer."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from doof_ext.errors import UserError
from doof_ext.tasks.specs import TaskSpec, search_working_folder


class GymnasiumTaskEnv:
    """One task's environment in the old gym protocol of the kit's trainer.

    ``reset()`` returns an observation [O]; ``step(action)`` returns observation, reward, done, info, where
    ``info["TimeLimit.truncated"]`` distinguishes a time limit from a terminal state. ``spec`` is the task's, completed
    with the environment's dimensions and action bounds.

    Args:
        spec: The task's spec.
        seed: Of resets and of the action space.

    Raises:
        UserError: See :func:`doof_ext.tasks.make_env`; or no time limit ends an episode.
    """

    physics = "gymnasium"
    observation_is_state = False  # whether state_from_observation() returns the state that was observed
    has_oracle = False  # whether simulate() and state_from_observation() give the true dynamics of an observation

    def __init__(self, spec: TaskSpec, seed: int = 0) -> None:
        self._env: Any = make_gymnasium(spec)
        self.observation_space: Any = self._env.observation_space
        self.action_space: Any = self._env.action_space
        limit = spec.max_episode_steps or getattr(self._env.spec, "max_episode_steps", None)
        self.spec = complete(
            dataclasses.replace(spec, max_episode_steps=limit), self.observation_space, self.action_space
        )
        if limit is None:
            raise UserError(
                f"{spec.name}: its episodes have no time limit; give max_episode_steps "
                "(--max-episode-steps), else one may never end"
            )
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Seeds the next reset (and with it all later ones) and the action space."""
        self._next_reset_seed: int | None = seed
        self.action_space.seed(seed)

    def reset(self) -> np.ndarray:
        """Starts an episode; returns its first observation [O]."""
        observation, _ = self._env.reset(seed=self._next_reset_seed)
        self._next_reset_seed = None
        return np.array(observation)  # a copy: the environment may reuse its own array

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        """Takes one step; returns next observation [O], reward, done, info."""
        observation, reward, terminated, truncated, info = self._env.step(np.array(action))
        info["TimeLimit.truncated"] = bool(truncated and not terminated)
        return np.array(observation), float(np.asarray(reward).item()), bool(terminated or truncated), info

    def state(self) -> dict[str, np.ndarray]:
        """The simulator's current state, by the names of ``simulate``'s arguments; empty where there is none."""
        return {}

    def snapshot(self) -> dict[str, np.ndarray]:
        """What ``restore`` resumes the episode from, bit for bit; empty where that is impossible."""
        return {}

    def parallel_envs(self, count: int) -> Sequence[GymnasiumTaskEnv]:
        """Up to ``count`` environments to step in parallel; this one alone, since a second may not be possible."""
        return [self]

    def get_normalized_score(self, episode_return: Any) -> Any:
        """D4RL's normalised score of a return, as a fraction."""
        return self.spec.normalized_score(episode_return)

    def close(self) -> None:
        """Frees the simulator."""
        self._env.close()


def make_gymnasium(spec: TaskSpec, **settings: Any) -> gymnasium.Env:
    """Gymnasium's environment of a spec; raises UserError where it cannot be made."""
    if spec.max_episode_steps is not None:
        settings["max_episode_steps"] = spec.max_episode_steps
    search_working_folder()
    try:
        assert spec.env_id is not None  # make_env has refused it
        if callable(spec.env_id):
            env = spec.env_id()
            return gymnasium.wrappers.TimeLimit(env, spec.max_episode_steps) if spec.max_episode_steps else env
        with warnings.catch_warnings():
            # Gymnasium advises -v5, whose rewards and observations differ from the -v2 that D4RL recorded; -v4's do not
            warnings.filterwarnings("ignore", message=".*is out of date.*")
            return gymnasium.make(spec.env_id, disable_env_checker=True, **settings)
    except Exception as error:  # the user's module and constructor may raise anything
        kind = "" if isinstance(error, gymnasium.error.Error | ImportError) else f"{type(error).__name__}: "
        raise UserError(f"{spec.name}: {spec.env_id!r} cannot be made ({kind}{error})") from error


def complete(spec: TaskSpec, observation_space: Any, action_space: Any) -> TaskSpec:
    """The spec with the spaces' dimensions and bounds; raises UserError for spaces that are not bounded boxes."""
    for name, space in (("observations", observation_space), ("actions", action_space)):
        if type(space).__name__ != "Box" or len(space.shape) != 1:  # gymnasium's, or gym's of the original stack
            raise UserError(f"{spec.name}: {name} are {space}; DOOF needs a Box with one dimension")
    if action_space.dtype.kind != "f":
        raise UserError(f"{spec.name}: actions are {action_space}; DOOF needs real numbers")
    if not (np.isfinite(action_space.low).all() and np.isfinite(action_space.high).all()):
        raise UserError(
            f"{spec.name}: actions are {action_space}; DOOF needs finite bounds, see gymnasium.wrappers.RescaleAction"
        )
    for name, names, space in (
        ("observation_names", spec.observation_names, observation_space),
        ("action_names", spec.action_names, action_space),
    ):
        if names is not None and len(names) != space.shape[0]:
            raise UserError(f"{spec.name}: {name} has {len(names)} names for {space.shape[0]} dimensions")
    return dataclasses.replace(
        spec,
        obs_dim=observation_space.shape[0],
        action_dim=action_space.shape[0],
        action_low=_within(action_space, action_space.low, np.inf),
        action_high=_within(action_space, action_space.high, -np.inf),
    )


def _within(space: Any, bounds: np.ndarray, inward: float) -> tuple[float, ...]:
    """Bounds as float32 numbers that lie within the space."""
    rounded = bounds.astype(np.float32)
    outside = (rounded < space.low) | (rounded > space.high)
    return tuple(map(float, np.where(outside, np.nextafter(rounded, np.float32(inward)), rounded)))
