"""Agents and data for the tests of the baselines."""

import numpy as np

from doof_ext.data.dataset import Dataset
from doof_ext.tasks import TaskSpec


def make_agent(agent, config, obs_dim=3, action_dim=2, steps=40):
    """An agent on random data of given dimensions, with actions in [-1, 1]."""
    return agent(config, box_spec(obs_dim, action_dim), random_dataset(obs_dim, action_dim, steps))


def box_spec(obs_dim, action_dim, low=-1.0, high=1.0):
    bounds = (low,) * action_dim, (high,) * action_dim
    return TaskSpec(
        "box", None, "never", obs_dim=obs_dim, action_dim=action_dim, action_low=bounds[0], action_high=bounds[1]
    )


def random_dataset(obs_dim, action_dim, steps, episode=10, terminal=(), seed=0):
    """Episodes of one length with a timeout, or a terminal step where their number is named."""
    rng = np.random.default_rng(seed)
    ends = np.arange(steps) % episode == episode - 1
    terminals = ends & np.isin(np.arange(steps) // episode, terminal)
    observations = rng.normal(size=(steps + 1, obs_dim)).astype(np.float32)
    return Dataset(
        observations=observations[:-1],
        actions=rng.uniform(-1, 1, (steps, action_dim)).astype(np.float32),
        next_observations=observations[1:],
        rewards=rng.normal(size=steps).astype(np.float32),
        terminals=terminals,
        timeouts=ends & ~terminals,
    )
