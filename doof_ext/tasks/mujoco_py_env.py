"""D4RL's own environments on the original stack: gym, the d4rl package and mujoco-py with MuJoCo 2.1."""

import numpy as np

from doof_ext.errors import UserError
from doof_ext.tasks.d4rl_package import is_installed, make_gym
from doof_ext.tasks.gymnasium_env import complete
from doof_ext.tasks.oracle import locomotion_state, simulate_rows


class MujocoPyTaskEnv:
    """One of D4RL's locomotion environments, as :class:`doof_ext.tasks.gymnasium_env.GymnasiumTaskEnv` is used."""

    physics = "mujoco-py"
    has_oracle = True
    observation_is_state = True

    def __init__(self, spec, seed=0, env=None):
        """Args: the task's spec; the seed of resets and action space; the gym environment, where there is one already.

        Raises: UserError where gym, d4rl or mujoco-py are missing or do not work.
        """
        missing = [name for name in ("gym", "d4rl", "mujoco_py") if not is_installed(name)]
        if missing:
            raise UserError(f"physics mujoco-py needs the original stack; not installed: {', '.join(missing)}")
        self._env = make_gym(spec.name) if env is None else env
        self._simulator = None
        self.observation_space, self.action_space = self._env.observation_space, self._env.action_space
        self.spec = complete(spec, self.observation_space, self.action_space)
        if env is None:
            self.seed(seed)

    def seed(self, seed):
        """Seeds all later resets and the action space."""
        self._env.seed(int(seed))
        self.action_space.seed(int(seed))

    def reset(self):
        """Starts an episode; returns its first observation [O]."""
        return self._env.reset()

    def step(self, action):
        """Acts once; returns next observation [O], reward, done, info."""
        next_obs, reward, done, info = self._env.step(action)
        info.setdefault("TimeLimit.truncated", False)
        return next_obs, float(reward), bool(done), info

    def state(self):
        """The simulator's present qpos and qvel."""
        data = self._env.sim.data
        return {"qpos": data.qpos.copy(), "qvel": data.qvel.copy()}

    def snapshot(self):
        """Nothing: an interrupted episode cannot go on."""
        return {}

    def simulate(self, qpos, qvel, action):
        """The true dynamics, as ``MujocoTaskEnv.simulate``."""
        return simulate_rows(self._simulate_one, action, {"qpos": qpos, "qvel": qvel})

    def _second_world(self):
        if self._simulator is None:
            self._simulator = make_gym(self.spec.name).unwrapped
        return self._simulator

    def _simulate_one(self, action, qpos, qvel):
        from mujoco_py import MujocoException

        simulator = self._second_world()
        try:
            simulator.sim.reset()  # else the solver's warm start remembers the last call
            simulator.set_state(qpos, qvel)
            next_obs, reward, terminal, _ = simulator.step(action)
        except MujocoException:  # the simulator gave up on the state
            return np.full(self.spec.obs_dim, np.nan), 0.0, True
        return next_obs, float(reward), bool(terminal)

    def state_from_observation(self, observations):
        """See :func:`doof_ext.tasks.oracle.locomotion_state`."""
        return locomotion_state(observations, len(self._env.sim.data.qpos))

    def observe(self, states):
        """The observations [B, O] of states, a dict of arrays [B, ·] as ``state_from_observation`` gives them."""
        simulator, rows = self._second_world(), []
        for qpos, qvel in zip(states["qpos"], states["qvel"], strict=True):
            simulator.set_state(qpos, qvel)
            rows.append(simulator._get_obs())
        return np.stack(rows)

    def parallel_envs(self, count):
        """As ``GymnasiumTaskEnv.parallel_envs``: this one alone."""
        return [self]

    def get_normalized_score(self, episode_return):
        """D4RL's normalised score of a return, as a fraction."""
        return self.spec.normalized_score(episode_return)

    def close(self):
        """Frees the simulators."""
        self._env.close()
