"""The Adroit hand that turns a pen, as D4RL has it: gymnasium-robotics' with D4RL's horizon and terminal state.

The shipped physics are D4RL's (no difference beyond 1e-11 in MuJoCo 2.1's transitions); the shipped environment never
ends an episode, where D4RL's ends it when the pen is dropped.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import gymnasium
import mujoco
import numpy as np

from doof_ext.errors import UserError
from doof_ext.tasks.mujoco_env import MujocoTaskEnv
from doof_ext.tasks.oracle import simulate_rows
from doof_ext.tasks.specs import TaskSpec

try:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import gymnasium_robotics  # prints advice on its other environments
except ImportError as error:
    raise UserError("the pen needs gymnasium-robotics; pip install 'doof_ext[adroit]'") from error

_PEN_HEIGHT = 26  # index in the observation
_DROPPED = 0.075  # metres


class PenTaskEnv(MujocoTaskEnv):
    """One of D4RL's pen tasks. A state is qpos, qvel and the pen's desired orientation, a quaternion."""

    physics = "d4rl"
    has_oracle = True

    def __init__(self, spec: TaskSpec, seed: int = 0) -> None:
        gymnasium.register_envs(gymnasium_robotics)
        super().__init__(spec, seed)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        next_obs, reward, done, info = super().step(action)
        terminal = self._is_terminal(next_obs, False)
        info["TimeLimit.truncated"] = done and not terminal
        return next_obs, reward, done or terminal, info

    def state(self) -> dict[str, np.ndarray]:
        simulator = self._env.unwrapped
        target = simulator.model.body_quat[simulator.target_obj_body_id]
        return {**super().state(), "desired_orien": target.copy()}

    def snapshot(self) -> dict[str, Any]:
        simulator = self._env.unwrapped
        lengths = np.array([simulator.pen_length, simulator.tar_length])  # measured at each reset
        return {**super().snapshot(), "desired_orien": self.state()["desired_orien"], "lengths": lengths}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        super().restore(snapshot)
        simulator = self._env.unwrapped
        simulator.model.body_quat[simulator.target_obj_body_id] = snapshot["desired_orien"]
        simulator.pen_length, simulator.tar_length = snapshot["lengths"]

    def simulate(  # type: ignore[override]  # a pen's state has one part more
        self, qpos: np.ndarray, qvel: np.ndarray, action: np.ndarray, *, desired_orien: np.ndarray
    ) -> tuple[np.ndarray, Any, Any]:
        """As ``MujocoTaskEnv.simulate``, with the pen's desired orientation, a quaternion [4] or [B, 4]."""
        state = {"qpos": qpos, "qvel": qvel, "desired_orien": desired_orien}
        return simulate_rows(self._simulate_one, action, state)

    def _set_state(  # type: ignore[override]  # likewise
        self, simulator: Any, qpos: np.ndarray, qvel: np.ndarray, desired_orien: np.ndarray
    ) -> None:
        simulator.model.body_quat[simulator.target_obj_body_id] = desired_orien
        simulator.set_state(qpos, qvel)

    def _prepare(self, simulator: Any) -> None:
        simulator.reset(seed=0)  # measures the pen's length, which rewards and observations divide by

    def _is_terminal(self, next_obs: np.ndarray, terminated: bool) -> bool:
        return bool(next_obs[_PEN_HEIGHT] < _DROPPED)

    def state_from_observation(self, observations: np.ndarray) -> dict[str, np.ndarray]:
        """States of observations.

        Inexact: the hand's joint velocities are not observed and are set to 0, and positions were observed one
        simulator step (2 ms) before the joints. The pen's rotation about its own axis, which is not observed, is 0.

        Args:
            observations: [..., 45].

        Returns:
            qpos and qvel [..., 30], desired_orien [..., 4].
        """
        observations = np.asarray(observations, dtype=np.float64)
        model = self._env.unwrapped.model
        pen = self._env.unwrapped.obj_body_id
        hand, position, velocity, axis, target = np.split(observations[..., :39], [24, 27, 33, 36], axis=-1)
        frame = self._pen_frame()
        place = (position - model.body_pos[pen]) @ frame
        x, y, z = np.moveaxis(axis @ frame / np.linalg.norm(axis, axis=-1, keepdims=True), -1, 0)
        angles = np.stack([np.arctan2(-y, z), np.arcsin(np.clip(x, -1, 1)), np.zeros_like(x)], axis=-1)
        return {
            "qpos": np.concatenate([hand, place, angles], axis=-1),
            "qvel": np.concatenate([np.zeros_like(hand), velocity], axis=-1),
            "desired_orien": _rotation_of_z_axis(target),
        }

    def _pen_frame(self) -> np.ndarray:
        """The rotation matrix [3, 3] of the frame that the pen's joints move in."""
        matrix = np.empty(9)
        model, pen = self._env.unwrapped.model, self._env.unwrapped.obj_body_id
        mujoco.mju_quat2Mat(matrix, model.body_quat[pen])
        return matrix.reshape(3, 3)


def _rotation_of_z_axis(direction: np.ndarray) -> np.ndarray:
    """The quaternion [..., 4] of the shortest rotation from the z axis to ``direction`` [..., 3]."""
    x, y, z = np.moveaxis(direction / np.linalg.norm(direction, axis=-1, keepdims=True), -1, 0)
    x = np.where(z <= -1 + 1e-12, 1.0, x)  # straight down: any half turn is as short
    quaternion = np.stack([1 + z, -y, x, np.zeros_like(z)], axis=-1)
    return quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
