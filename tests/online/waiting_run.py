"""Runs that wait for their online steps, and a control loop that takes them."""

from pathlib import Path

import pytest

from doof_ext import pipeline
from doof_ext.errors import StoppedAfter
from doof_ext.tasks.interaction import reset_env


def fallen(obs, act, next_obs):
    """The termination rule of Gymnasium's inverted pendulum."""
    return abs(next_obs[:, 1:2]) > 0.2


def stop(config):
    """A run that has stopped where it was asked to."""
    with pytest.raises(StoppedAfter) as caught:
        pipeline.run(config)
    return Path(caught.value.run_directory)


def files_of(directory):
    """The contents of a run directory's files."""
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def take(session, env, count):
    """``count`` steps of a session in a simulator, which starts an episode with them."""
    for _ in range(count):
        if session.starts_episode:
            env.seed(session.reset_seed)
            observation = reset_env(env)
        action = session.act(observation)
        observation, reward, done, info = env.step(action)
        truncated = info["TimeLimit.truncated"] if done else False
        session.record(observation, reward, done and not truncated, truncated)
