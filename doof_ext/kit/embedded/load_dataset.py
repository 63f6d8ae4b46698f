"""D4RL's arrays as the transitions that learning starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def qlearning_dataset(
    env: Any, dataset: Mapping[str, Any] | None = None, terminate_on_end: bool = False, **kwargs: Any
) -> dict[str, np.ndarray]:
    """The transitions of a dataset, with the recorded next observations.

    The last row is left out. Without recorded next observations they are the next row's, and terminal steps, which
    have none, are left out too. Without timeouts an episode is cut after ``env._max_episode_steps`` steps.

    Args:
        env: The environment.
        dataset: D4RL's arrays by name; by default ``env.get_dataset(**kwargs)``.
        terminate_on_end: Keep the steps that a time limit cut.
        kwargs: See ``dataset``.

    Returns:
        observations, actions, next_observations [N, ·], rewards [N] float32, terminals [N] bool.
    """
    dataset = env.get_dataset(**kwargs) if dataset is None else dataset
    terminals = np.asarray(dataset["terminals"]).astype(bool).reshape(-1)
    if "timeouts" in dataset:
        cut = np.asarray(dataset["timeouts"]).astype(bool).reshape(-1)
    else:
        cut = _cut_after(terminals, env._max_episode_steps)
    recorded = "next_observations" in dataset
    kept = np.ones(len(terminals), dtype=bool) if terminate_on_end else ~cut
    if not recorded:
        kept &= ~(terminals | cut)
    kept[-1] = False
    rows = np.flatnonzero(kept)
    next_observations = dataset["next_observations"][rows] if recorded else dataset["observations"][rows + 1]
    floats = {"observations": dataset["observations"][rows], "actions": dataset["actions"][rows]}
    floats |= {"next_observations": next_observations, "rewards": np.asarray(dataset["rewards"]).reshape(-1)[rows]}
    return {name: np.asarray(column, np.float32) for name, column in floats.items()} | {"terminals": terminals[rows]}


def _cut_after(terminals: np.ndarray, limit: int) -> np.ndarray:
    cut, step = np.zeros(len(terminals), dtype=bool), 0
    for row, terminal in enumerate(terminals):
        step += 1
        cut[row] = step == limit
        if terminal or cut[row]:
            step = 0
    return cut
