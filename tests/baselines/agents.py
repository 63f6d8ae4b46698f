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


def journal_rows(dataset):
    """The rows of a dataset as the journal has them."""
    ends = dataset.terminals | dataset.timeouts
    return [
        {
            "observations": dataset.observations[row],
            "actions": dataset.actions[row],
            "next_observations": dataset.next_observations[row],
            "rewards": dataset.rewards[row],
            "terminals": dataset.terminals[row],
            "truncated": dataset.timeouts[row],
            "starts": row == 0 or bool(ends[row - 1]),
        }
        for row in range(len(dataset))
    ]
