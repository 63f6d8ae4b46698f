"""Gymnasium's MuJoCo environments in the world that generated D4RL, speaking the kit trainer's protocol.

MuJoCo after 2.1 computes other masses and inertias for capsules, so Gymnasium's bodies are 2-8 % heavier than those
that D4RL's datasets come from. ``physics="d4rl"`` writes MuJoCo 2.1's values (``mujoco21_bodies.npz``) into the model.
"""

import warnings
from importlib import resources

import gymnasium
import mujoco
import numpy as np

from doof_ext.tasks.specs import TaskSpec

_RESETS = tuple(int(getattr(mujoco.mjtWarning, f"mjWARN_BADQ{quantity}")) for quantity in ("POS", "VEL", "ACC"))
_BODY_FIELDS = ("body_mass", "body_inertia", "body_ipos", "body_iquat")


def _make_gymnasium(spec: TaskSpec, physics: str) -> gymnasium.Env:
    with warnings.catch_warnings():
        # Gymnasium asks for -v5; its rewards and observations differ from the -v2 that D4RL recorded, -v4's do not.
        warnings.filterwarnings("ignore", message=".*is out of date.*")
        env = gymnasium.make(spec.env_id, max_episode_steps=spec.max_episode_steps, disable_env_checker=True)
    if physics == "d4rl":
        _write_mujoco21_bodies(env.unwrapped.model, spec.domain)
    return env


def _write_mujoco21_bodies(model: mujoco.MjModel, domain: str) -> None:
    path = resources.files("doof_ext.tasks") / "mujoco21_bodies.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as bodies:
        for field in _BODY_FIELDS:
            getattr(model, field)[:] = bodies[f"{domain}/{field}"]
    mujoco.mj_setConst(model, mujoco.MjData(model))


class GymnasiumTaskEnv:
    """One task's environment in the old gym protocol that the kit's trainer speaks.

    ``reset()`` gives an observation [O]; ``step(action)`` gives observation, reward, done, info, where
    ``info["TimeLimit.truncated"]`` tells a time limit from a terminal state. Observations are float64, as MuJoCo's.
    """

    def __init__(self, spec: TaskSpec, seed: int = 0, physics: str = "d4rl"):
        """Args: the task's spec; the seed of resets and of the action space; ``d4rl`` or ``gymnasium`` physics."""
        if physics not in ("d4rl", "gymnasium"):
            raise ValueError(f"physics must be 'd4rl' or 'gymnasium', not {physics!r}")
        self.spec = spec
        self.physics = physics
        self._env = _make_gymnasium(spec, physics)
        self._simulator = None  # a second world for simulate(), so that a running episode is never disturbed
        self.observation_space = self._env.observation_space
        self.action_space = self._env.action_space
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Seeds the next reset (and with it all later ones) and the action space."""
        self._next_reset_seed = seed
        self.action_space.seed(seed)

    def reset(self) -> np.ndarray:
        """Starts an episode; returns its first observation [O]."""
        observation, _ = self._env.reset(seed=self._next_reset_seed)
        self._next_reset_seed = None
        return observation

    def step(self, action: np.ndarray):
        """Acts once; returns next observation [O], reward, done, info."""
        observation, reward, terminated, truncated, info = self._env.step(action)
        info["TimeLimit.truncated"] = truncated and not terminated
        return observation, float(reward), terminated or truncated, info

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """The simulator's present qpos [nq] and qvel [nv]."""
        data = self._env.unwrapped.data
        return data.qpos.copy(), data.qvel.copy()

    def simulate(self, qpos, qvel, action):
        """The true dynamics from any state: one environment step, independent of the running episode.

        Args: qpos [nq], qvel [nv], action [A], or a batch of each with a leading [B].
        Returns: next_obs [O] or [B, O] float64 (NaN where MuJoCo finds the state unstable),
        reward float or [B], terminal bool or [B].
        """
        qpos, qvel, action = np.asarray(qpos), np.asarray(qvel), np.asarray(action)
        if qpos.ndim == 1:
            return self._simulate_one(qpos, qvel, action)
        steps = [self._simulate_one(*row) for row in zip(qpos, qvel, action, strict=True)]
        next_obs, rewards, terminals = zip(*steps, strict=True)
        return np.stack(next_obs), np.array(rewards), np.array(terminals)

    def _simulate_one(self, qpos, qvel, action):
        if self._simulator is None:
            self._simulator = _make_gymnasium(self.spec, self.physics).unwrapped
        simulator = self._simulator
        mujoco.mj_resetData(simulator.model, simulator.data)  # else the solver's warm start remembers the last call
        simulator.set_state(qpos, qvel)
        next_obs, reward, terminal, _, _ = simulator.step(action)
        if any(simulator.data.warning[kind].number for kind in _RESETS):
            next_obs = np.full_like(next_obs, np.nan)  # MuJoCo gave up and silently reset the state
        return next_obs, float(reward), bool(terminal)

    def state_from_observation(self, observations):
        """qpos [..., nq] and qvel [..., nv] of observations [..., O], the unobserved root position x set to 0.

        Exact for HalfCheetah. Hopper's and Walker2d's observations clip velocities at +-10, so that a state whose
        velocity was beyond comes back with +-10.
        """
        observations = np.asarray(observations, dtype=np.float64)
        model = self._env.unwrapped.model
        root = np.zeros((*observations.shape[:-1], 1))
        qpos = np.concatenate([root, observations[..., : model.nq - 1]], axis=-1)
        return qpos, observations[..., model.nq - 1 :].copy()

    def get_normalized_score(self, episode_return):
        """D4RL's normalised score of a return, as a fraction."""
        return self.spec.normalized_score(episode_return)

    def close(self) -> None:
        """Frees the simulators."""
        self._env.close()
        if self._simulator is not None:
            self._simulator.close()
