"""The true dynamics: a MuJoCo environment that can be set to any state and stepped once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import mujoco
import numpy as np

from doof_ext.tasks.gymnasium_env import GymnasiumTaskEnv, make_gymnasium
from doof_ext.tasks.oracle import simulate_rows
from doof_ext.tasks.specs import TaskSpec

_BAD_STATES = tuple(int(getattr(mujoco.mjtWarning, f"mjWARN_BADQ{quantity}")) for quantity in ("POS", "VEL", "ACC"))
_FULL_STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


class MujocoTaskEnv(GymnasiumTaskEnv):
    """A Gymnasium MuJoCo environment with an oracle. Observations are float64, as MuJoCo's."""

    def __init__(self, spec: TaskSpec, seed: int = 0) -> None:
        super().__init__(spec, seed)
        self._prepare(self._env.unwrapped)
        self._extra_envs: list[MujocoTaskEnv] = []  # of parallel_envs()
        self._simulator: Any = None  # simulate()'s own, so that a running episode is never disturbed

    def parallel_envs(self, count: int) -> list[MujocoTaskEnv]:
        """``count`` environments to step in parallel, this one first."""
        while len(self._extra_envs) < count - 1:
            self._extra_envs.append(self._new_env())
        return [self, *self._extra_envs[: count - 1]]

    def _new_env(self) -> MujocoTaskEnv:
        return type(self)(self.spec)

    def _prepare(self, simulator: Any) -> None:
        """Corrects a new simulator, where the task's physics are not the shipped ones."""

    def state(self) -> dict[str, np.ndarray]:
        data = self._env.unwrapped.data
        return {"qpos": data.qpos.copy(), "qvel": data.qvel.copy()}

    def reset_to(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """Starts an episode in a state, arrays by the names of :meth:`state`; returns its first observation [O]."""
        self.reset()
        simulator = self._env.unwrapped
        self._set_state(simulator, **state)
        return np.array(simulator._get_obs())

    def is_unstable(self) -> bool:
        """Whether MuJoCo has found a state of this episode unstable and silently reset it."""
        return _is_unstable(self._env.unwrapped.data)

    def snapshot(self) -> dict[str, Any]:
        """The simulator's full integration state and the episode's number of steps."""
        simulator = self._env.unwrapped
        physics = np.empty(mujoco.mj_stateSize(simulator.model, _FULL_STATE))
        mujoco.mj_getState(simulator.model, simulator.data, physics, _FULL_STATE)
        return {"physics": physics, "elapsed": np.int64(self._time_limit()._elapsed_steps)}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Restores a :meth:`snapshot`, bit for bit."""
        self._env.reset()
        simulator = self._env.unwrapped
        mujoco.mj_setState(simulator.model, simulator.data, snapshot["physics"], _FULL_STATE)
        self._time_limit()._elapsed_steps = int(snapshot["elapsed"])

    def _time_limit(self) -> Any:
        wrapper = self._env
        while not isinstance(wrapper, gymnasium.wrappers.TimeLimit):
            wrapper = wrapper.env
        return wrapper

    def simulate(self, qpos: np.ndarray, qvel: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, Any, Any]:
        """The true dynamics from any state: one environment step, independent of the running episode.

        Args:
            qpos: [nq], or [B, nq] for a batch.
            qvel: [nv], or [B, nv].
            action: [A], or [B, A].

        Returns:
            next_obs [O] or [B, O] float64 (NaN where MuJoCo finds the state unstable), reward float or [B], terminal
            bool or [B].
        """
        return simulate_rows(self._simulate_one, action, {"qpos": qpos, "qvel": qvel})

    def observe(self, states: Mapping[str, np.ndarray]) -> np.ndarray:
        """The observations [B, O] of states, arrays [B, ·] by name as ``state_from_observation`` returns them."""
        simulator, rows = self._get_simulator(), []
        for index in range(len(states["qpos"])):
            self._set_state(simulator, **{name: value[index] for name, value in states.items()})
            rows.append(simulator._get_obs())
        return np.stack(rows)

    def _get_simulator(self) -> Any:
        if self._simulator is None:
            self._simulator = make_gymnasium(self.spec).unwrapped
            self._prepare(self._simulator)
        return self._simulator

    def _simulate_one(self, action: np.ndarray, **state: np.ndarray) -> tuple[np.ndarray, float, bool]:
        simulator = self._get_simulator()
        mujoco.mj_resetData(simulator.model, simulator.data)  # else the last call's warm start affects the solver
        self._set_state(simulator, **state)
        next_obs, reward, terminal, _, _ = simulator.step(action)
        if _is_unstable(simulator.data):
            next_obs = np.full_like(next_obs, np.nan)  # MuJoCo has silently reset the unstable state
        return next_obs, float(reward), self._is_terminal(next_obs, terminal)

    def _set_state(self, simulator: Any, qpos: np.ndarray, qvel: np.ndarray) -> None:
        simulator.set_state(qpos, qvel)

    def _is_terminal(self, next_obs: np.ndarray, terminated: bool) -> bool:
        return bool(terminated)

    def close(self) -> None:
        super().close()
        if self._simulator is not None:
            self._simulator.close()


def _is_unstable(simulation: mujoco.MjData) -> bool:
    return any(simulation.warning[kind].number for kind in _BAD_STATES)
