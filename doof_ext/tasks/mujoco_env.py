"""The true dynamics: a MuJoCo environment that can be set to any state and stepped once."""

import gymnasium
import mujoco
import numpy as np

from doof_ext.tasks.gymnasium_env import GymnasiumTaskEnv, make_gymnasium
from doof_ext.tasks.oracle import simulate_rows

_RESETS = tuple(int(getattr(mujoco.mjtWarning, f"mjWARN_BADQ{quantity}")) for quantity in ("POS", "VEL", "ACC"))

_WHOLE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


class MujocoTaskEnv(GymnasiumTaskEnv):
    """A Gymnasium MuJoCo environment with an oracle. Observations are float64, as MuJoCo's."""

    def __init__(self, spec, seed=0):
        super().__init__(spec, seed)
        self._prepare(self._env.unwrapped)
        self._twins = []
        self._simulator = None  # a second world for simulate(), so that a running episode is never disturbed

    def parallel_envs(self, count):
        """Simulators for ``count`` episodes side by side, this one first."""
        while len(self._twins) < count - 1:
            self._twins.append(self._twin())
        return [self, *self._twins[: count - 1]]

    def _twin(self):
        return type(self)(self.spec)

    def _prepare(self, simulator) -> None:
        """Puts a new simulator's model right, where the task's physics are not the shipped ones."""

    def state(self):
        data = self._env.unwrapped.data
        return {"qpos": data.qpos.copy(), "qvel": data.qvel.copy()}

    def snapshot(self):
        """The simulator's whole state, as MuJoCo integrates it, and the steps of the episode."""
        simulator = self._env.unwrapped
        physics = np.empty(mujoco.mj_stateSize(simulator.model, _WHOLE))
        mujoco.mj_getState(simulator.model, simulator.data, physics, _WHOLE)
        return {"physics": physics, "elapsed": np.int64(self._time_limit()._elapsed_steps)}

    def restore(self, snapshot):
        """Puts the environment where :meth:`snapshot` was taken, to the bit."""
        self._env.reset()
        simulator = self._env.unwrapped
        mujoco.mj_setState(simulator.model, simulator.data, snapshot["physics"], _WHOLE)
        self._time_limit()._elapsed_steps = int(snapshot["elapsed"])

    def _time_limit(self):
        wrapper = self._env
        while not isinstance(wrapper, gymnasium.wrappers.TimeLimit):
            wrapper = wrapper.env
        return wrapper

    def simulate(self, qpos, qvel, action):
        """The true dynamics from any state: one environment step, independent of the running episode.

        Args: qpos [nq], qvel [nv], action [A], or a batch of each with a leading [B].
        Returns: next_obs [O] or [B, O] float64 (NaN where MuJoCo finds the state unstable),
        reward float or [B], terminal bool or [B].
        """
        return simulate_rows(self._simulate_one, action, {"qpos": qpos, "qvel": qvel})

    def observe(self, states):
        """The observations [B, O] of states, a dict of arrays [B, ·] as ``state_from_observation`` gives them."""
        simulator, rows = self._second_world(), []
        for index in range(len(states["qpos"])):
            self._set_state(simulator, **{name: value[index] for name, value in states.items()})
            rows.append(simulator._get_obs())
        return np.stack(rows)

    def _second_world(self):
        if self._simulator is None:
            self._simulator = make_gymnasium(self.spec).unwrapped
            self._prepare(self._simulator)
        return self._simulator

    def _simulate_one(self, action, **state):
        simulator = self._second_world()
        mujoco.mj_resetData(simulator.model, simulator.data)  # else the solver's warm start remembers the last call
        self._set_state(simulator, **state)
        next_obs, reward, terminal, _, _ = simulator.step(action)
        if any(simulator.data.warning[kind].number for kind in _RESETS):
            next_obs = np.full_like(next_obs, np.nan)  # MuJoCo gave up and silently reset the state
        return next_obs, float(reward), self._is_terminal(next_obs, terminal)

    def _set_state(self, simulator, qpos, qvel):
        simulator.set_state(qpos, qvel)

    def _is_terminal(self, next_obs, terminated) -> bool:
        return bool(terminated)

    def close(self):
        super().close()
        if self._simulator is not None:
            self._simulator.close()
