"""Hopper, HalfCheetah and Walker2d with the physics that generated D4RL.

MuJoCo after 2.1 computes other masses and inertias for capsules, so Gymnasium's bodies are 2-8 % heavier than those
that D4RL's datasets come from. ``physics="d4rl"`` writes MuJoCo 2.1's values (``mujoco21_bodies.npz``) into the model.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import mujoco
import numpy as np

from doof_ext.tasks.mujoco_env import MujocoTaskEnv
from doof_ext.tasks.oracle import locomotion_state
from doof_ext.tasks.specs import TaskSpec

_BODY_FIELDS = ("body_mass", "body_inertia", "body_ipos", "body_iquat")


class LocomotionTaskEnv(MujocoTaskEnv):
    """One of D4RL's three locomotion tasks.

    Args:
        spec: The task's spec.
        seed: Of resets and of the action space.
        physics: ``d4rl`` or ``gymnasium``.

    Raises:
        ValueError: Other physics.
    """

    has_oracle = True
    observation_is_state = True

    def __init__(self, spec: TaskSpec, seed: int = 0, physics: str = "d4rl") -> None:
        if physics not in ("d4rl", "gymnasium"):
            raise ValueError(f"physics must be 'd4rl' or 'gymnasium', not {physics!r}")
        self.physics = physics
        super().__init__(spec, seed)

    def _new_env(self) -> LocomotionTaskEnv:
        return type(self)(self.spec, physics=self.physics)

    def _prepare(self, simulator: Any) -> None:
        if self.physics == "gymnasium":
            return
        path = resources.files("doof_ext.tasks") / "mujoco21_bodies.npz"
        with path.open("rb") as file, np.load(file, allow_pickle=False) as bodies:
            for field in _BODY_FIELDS:
                getattr(simulator.model, field)[:] = bodies[f"{self.spec.domain}/{field}"]
        mujoco.mj_setConst(simulator.model, mujoco.MjData(simulator.model))

    def state_from_observation(self, observations: np.ndarray) -> dict[str, np.ndarray]:
        """See :func:`doof_ext.tasks.oracle.locomotion_state`."""
        return locomotion_state(observations, self._env.unwrapped.model.nq)
