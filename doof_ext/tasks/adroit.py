"""The Adroit hand that turns a pen, as D4RL has it: gymnasium-robotics' with D4RL's horizon and terminal state.

The shipped physics are D4RL's (no difference beyond 1e-11 in MuJoCo 2.1's transitions); the shipped environment never
ends an episode, where D4RL's ends it when the pen is dropped.
"""

import contextlib
import io

import gymnasium
import mujoco
import numpy as np

from doof_ext.errors import UserError
from doof_ext.tasks.mujoco_env import MujocoTaskEnv
from doof_ext.tasks.oracle import simulate_rows

try:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import gymnasium_robotics  # prints advice on other environments than this
except ImportError as error:
    raise UserError("the pen needs gymnasium-robotics; pip install 'doof_ext[adroit]'") from error

_PEN_HEIGHT = 26  # index in the observation
_DROPPED = 0.075  # metres


class PenTaskEnv(MujocoTaskEnv):
    """One of D4RL's pen tasks. A state is qpos, qvel and the pen's desired orientation, a quaternion."""

    physics = "d4rl"
    has_oracle = True

    def __init__(self, spec, seed=0):
        gymnasium.register_envs(gymnasium_robotics)
        super().__init__(spec, seed)

    def step(self, action):
        next_obs, reward, done, info = super().step(action)
        terminal = self._is_terminal(next_obs, False)
        info["TimeLimit.truncated"] = done and not terminal
        return next_obs, reward, done or terminal, info

    def state(self):
        simulator = self._env.unwrapped
        target = simulator.model.body_quat[simulator.target_obj_body_id]
        return {**super().state(), "desired_orien": target.copy()}

    def snapshot(self):
        simulator = self._env.unwrapped
        lengths = np.array([simulator.pen_length, simulator.tar_length])  # measured at each reset
        return {**super().snapshot(), "desired_orien": self.state()["desired_orien"], "lengths": lengths}

    def restore(self, snapshot):
        super().restore(snapshot)
        simulator = self._env.unwrapped
        simulator.model.body_quat[simulator.target_obj_body_id] = snapshot["desired_orien"]
        simulator.pen_length, simulator.tar_length = snapshot["lengths"]

    def simulate(self, qpos, qvel, action, *, desired_orien):
        """As ``MujocoTaskEnv.simulate``, with the pen's desired orientation, a quaternion [4] or [B, 4]."""
        state = {"qpos": qpos, "qvel": qvel, "desired_orien": desired_orien}
        return simulate_rows(self._simulate_one, action, state)

    def _set_state(self, simulator, qpos, qvel, desired_orien):
        simulator.model.body_quat[simulator.target_obj_body_id] = desired_orien
        simulator.set_state(qpos, qvel)

    def _prepare(self, simulator):
        simulator.reset(seed=0)  # measures the pen's length, which rewards and observations divide by

    def _is_terminal(self, next_obs, terminated):
        return bool(next_obs[_PEN_HEIGHT] < _DROPPED)

    def state_from_observation(self, observations):
        """States of observations [..., 45]: a dict of qpos and qvel [..., 30] and desired_orien [..., 4].

        Inexact: the hand's joint velocities are not observed and come back as 0, and positions were observed one
        simulator step (2 ms) before the joints. The pen's turn about its own axis, which nothing observes, is 0.
        """
        observations = np.asarray(observations, dtype=np.float64)
        model = self._env.unwrapped.model
        pen = self._env.unwrapped.obj_body_id
        hand, position, velocity, axis, target = np.split(observations[..., :39], [24, 27, 33, 36], axis=-1)
        frame = self._pen_frame()
        place = (position - model.body_pos[pen]) @ frame
        x, y, z = np.moveaxis(axis @ frame / np.linalg.norm(axis, axis=-1, keepdims=True), -1, 0)
        turns = np.stack([np.arctan2(-y, z), np.arcsin(np.clip(x, -1, 1)), np.zeros_like(x)], axis=-1)
        return {
            "qpos": np.concatenate([hand, place, turns], axis=-1),
            "qvel": np.concatenate([np.zeros_like(hand), velocity], axis=-1),
            "desired_orien": _turn_of_z_axis(target),
        }

    def _pen_frame(self):
        """The rotation matrix [3, 3] of the frame that the pen's joints move in."""
        matrix = np.empty(9)
        model, pen = self._env.unwrapped.model, self._env.unwrapped.obj_body_id
        mujoco.mju_quat2Mat(matrix, model.body_quat[pen])
        return matrix.reshape(3, 3)


def _turn_of_z_axis(direction):
    """The quaternion [..., 4] of the shortest turn from the z axis to ``direction`` [..., 3]."""
    x, y, z = np.moveaxis(direction / np.linalg.norm(direction, axis=-1, keepdims=True), -1, 0)
    x = np.where(z <= -1 + 1e-12, 1.0, x)  # straight down: any half turn will do
    quaternion = np.stack([1 + z, -y, x, np.zeros_like(z)], axis=-1)
    return quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
