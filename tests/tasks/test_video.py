"""A video of a policy, where MuJoCo can draw."""

import subprocess

import imageio.v3 as imageio
import numpy as np
import pytest

from doof_ext.tasks import video
from doof_ext.tasks.gymnasium_env import GymnasiumTaskEnv
from doof_ext.tasks.specs import TaskSpec


class _Leaning:
    def select_action(self, obs, deterministic):
        assert deterministic
        return np.tanh(np.asarray(obs, np.float32)[:, 1:4])


def test_an_episode_is_drawn(env, tmp_path):
    reason = video.record_video(env, _Leaning(), tmp_path / "v.mp4", steps=12)
    if reason:
        pytest.skip(reason)
    frames = imageio.imread(tmp_path / "v.mp4")
    assert frames.shape[1:] == (240, 320, 3) and 10 <= len(frames) <= 13
    assert frames[0].std() > 5  # something is to be seen
    assert (frames[0] != frames[-1]).any()
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_where_nothing_can_be_drawn_the_reason_is_told(env, tmp_path, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "none-such")
    assert "no graphics library that MuJoCo can draw with" in video.record_video(
        env, _Leaning(), tmp_path / "v.mp4", steps=2
    )
    own = GymnasiumTaskEnv(TaskSpec("p", "Pendulum-v1", "never"))
    assert "no MuJoCo world" in video.record_video(own, None, tmp_path / "v.mp4")
    assert not list(tmp_path.iterdir())


def test_a_drawing_that_hangs_is_given_up(env, tmp_path, monkeypatch):
    def hangs(*args, timeout, **kwargs):
        raise subprocess.TimeoutExpired("draw", timeout)

    monkeypatch.setattr(video.subprocess, "run", hangs)
    assert "more than five minutes" in video.record_video(env, _Leaning(), tmp_path / "v.mp4", steps=2)
