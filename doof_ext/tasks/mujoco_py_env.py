"""D4RL's own environments on the original stack: gym, the d4rl package and mujoco-py with MuJoCo 2.1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from doof_ext.errors import UserError
from doof_ext.tasks.d4rl_package import is_installed, make_gym
from doof_ext.tasks.gymnasium_env import complete
from doof_ext.tasks.oracle import locomotion_state, simulate_rows
from doof_ext.tasks.specs import TaskSpec


class MujocoPyTaskEnv:
    """One of D4RL's locomotion environments, as :class:`doof_ext.tasks.gymnasium_env.GymnasiumTaskEnv` is used.

    Args:
        spec: The task's spec.
        seed: Of resets and of the action space.
        env: The gym environment, where there is one already; it is not seeded.

    Raises:
        UserError: gym, d4rl or mujoco-py is missing.
    """

    physics = "mujoco-py"
    has_oracle = True
    observation_is_state = True

    def __init__(self, spec: TaskSpec, seed: int = 0, env: Any = None) -> None:
        missing = [name for name in ("gym", "d4rl", "mujoco_py") if not is_installed(name)]
        if missing:
            raise UserError(f"physics mujoco-py needs the original stack; not installed: {', '.join(missing)}")
        self._env = make_gym(spec.name) if env is None else env
        self._simulator: Any = None
        self.observation_space, self.action_space = self._env.observation_space, self._env.action_space
        self.spec = complete(spec, self.observation_space, self.action_space)
        if env is None:
            self.seed(seed)

    def seed(self, seed: int) -> None:
        """Seeds all later resets and the action space."""
        self._env.seed(int(seed))
        self.action_space.seed(int(seed))

    def reset(self) -> np.ndarray:
        """Starts an episode; returns its first observation [O]."""
        return self._env.reset()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        """Takes one step; returns next observation [O], reward, done, info."""
        next_obs, reward, done, info = self._env.step(action)
        info.setdefault("TimeLimit.truncated", False)
        return next_obs, float(reward), bool(done), info

    def state(self) -> dict[str, np.ndarray]:
        """The simulator's current qpos and qvel."""
        data = self._env.sim.data
        return {"qpos": data.qpos.copy(), "qvel": data.qvel.copy()}

    def snapshot(self) -> dict[str, np.ndarray]:
        """Empty: an interrupted episode cannot be resumed."""
        return {}

    def simulate(self, qpos: np.ndarray, qvel: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, Any, Any]:
        """The true dynamics, as ``MujocoTaskEnv.simulate``."""
        return simulate_rows(self._simulate_one, action, {"qpos": qpos, "qvel": qvel})

    def _get_simulator(self) -> Any:
        if self._simulator is None:
            self._simulator = make_gym(self.spec.name).unwrapped
        return self._simulator

    def _simulate_one(self, action: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> tuple[np.ndarray, float, bool]:
        from mujoco_py import MujocoException

        simulator = self._get_simulator()
        try:
            simulator.sim.reset()  # else the last call's warm start affects the solver
            simulator.set_state(qpos, qvel)
            next_obs, reward, terminal, _ = simulator.step(action)
        except MujocoException:  # the state is unstable
            return np.full(self.observation_space.shape, np.nan), 0.0, True
        return next_obs, float(reward), bool(terminal)

    def state_from_observation(self, observations: np.ndarray) -> dict[str, np.ndarray]:
        """See :func:`doof_ext.tasks.oracle.locomotion_state`."""
        return locomotion_state(observations, len(self._env.sim.data.qpos))

    def observe(self, states: Mapping[str, np.ndarray]) -> np.ndarray:
        """The observations [B, O] of states, arrays [B, ·] by name as ``state_from_observation`` returns them."""
        simulator, rows = self._get_simulator(), []
        for qpos, qvel in zip(states["qpos"], states["qvel"], strict=True):
            simulator.set_state(qpos, qvel)
            rows.append(simulator._get_obs())
        return np.stack(rows)

    def parallel_envs(self, count: int) -> list[MujocoPyTaskEnv]:
        """As ``GymnasiumTaskEnv.parallel_envs``: this one alone."""
        return [self]

    def get_normalized_score(self, episode_return: Any) -> Any:
        """D4RL's normalised score of a return, as a fraction."""
        return self.spec.normalized_score(episode_return)

    def close(self) -> None:
        """Frees the episode's simulator."""
        self._env.close()
