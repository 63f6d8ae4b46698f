"""A short video of a policy, drawn by MuJoCo's offscreen renderer.

Drawing runs in a subprocess: the graphics library is chosen when MuJoCo is imported, and a broken one ends the process.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from doof_ext.files import publish
from doof_ext.tasks.interaction import reset_env, step_env

_BACKENDS = ("egl", "osmesa", "glfw")
_SIZE = 240, 320  # rows, columns


def record_video(env: Any, policy: Any, path: str | os.PathLike[str], steps: int = 250) -> str:
    """Saves an MP4 of one episode of the policy's mean actions.

    Args:
        env: A task's environment.
        policy: Has ``select_action(obs [1, O], deterministic)``.
        path: Of the MP4 file.
        steps: The most steps that it shows.

    Returns:
        "" where it was saved, else the reason why not, in one line.
    """
    if not (env.has_oracle and env.state()):
        return f"{env.spec.name} has no MuJoCo world to draw"
    env.seed(0)
    obs, states = reset_env(env), [env.state()]
    for _ in range(steps):
        obs, _, done, _ = step_env(env, policy.select_action(np.asarray(obs).reshape(1, -1), deterministic=True)[0])
        states.append(env.state())
        if done:
            break
    columns: dict[str, Any] = {name: np.stack([state[name] for state in states]) for name in states[0]}
    reason = ""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(os.path.join(folder, "states.npz"), **columns)
        for backend in [os.environ["MUJOCO_GL"]] if os.environ.get("MUJOCO_GL") else _BACKENDS:
            command = [sys.executable, "-m", "doof_ext.tasks.video", env.spec.name, folder]
            environment = os.environ | {"MUJOCO_GL": backend}
            try:
                drawn = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
            except subprocess.TimeoutExpired:
                reason = "drawing took more than five minutes"
                continue
            if drawn.returncode == 0:
                with open(os.path.join(folder, "video.mp4"), "rb") as video:
                    publish(path, functools.partial(shutil.copyfileobj, video))
                return ""
            reason = (drawn.stderr.strip().splitlines() or [f"exit code {drawn.returncode}"])[-1]
    return f"no graphics library that MuJoCo can draw with ({reason})"


def _draw(task: str, folder: str) -> None:
    """Draws the states in folder/states.npz into folder/video.mp4."""
    import imageio.v2 as imageio
    import mujoco

    from doof_ext.tasks import make_env

    env: Any = make_env(task)
    env.reset()
    simulator = env._env.unwrapped
    cameras = [simulator.model.camera(number).name for number in range(simulator.model.ncam)]
    renderer = mujoco.Renderer(simulator.model, *_SIZE)
    fps = max(1, round(1 / simulator.dt))
    with (
        np.load(os.path.join(folder, "states.npz"), allow_pickle=False) as states,
        imageio.get_writer(os.path.join(folder, "video.mp4"), fps=fps, macro_block_size=8) as video,
    ):
        for index in range(len(states["qpos"])):
            env._set_state(simulator, **{name: states[name][index] for name in states.files})
            renderer.update_scene(simulator.data, camera="track" if "track" in cameras else -1)
            video.append_data(renderer.render())  # type: ignore[attr-defined]  # imageio declares no writer


if __name__ == "__main__":
    _draw(*sys.argv[1:])
