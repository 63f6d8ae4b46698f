"""D4RL's arrays as the transitions that learning starts from."""

import numpy as np


def qlearning_dataset(env, dataset=None, terminate_on_end=False, **kwargs):
    """The transitions of ``dataset``, by default ``env.get_dataset(**kwargs)``, with the recorded next observations.

    A step that a time limit cut is left out, unless ``terminate_on_end``; so is the last row. Without recorded next
    observations they are the next row's, and terminal steps, which have none, are left out too. Without timeouts an
    episode is cut after ``env._max_episode_steps`` steps.

    Returns: observations, actions, next_observations [N, ·], rewards [N] float32, terminals [N] bool.
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


def _cut_after(terminals, limit):
    cut, step = np.zeros(len(terminals), dtype=bool), 0
    for row, terminal in enumerate(terminals):
        step += 1
        cut[row] = step == limit
        if terminal or cut[row]:
            step = 0
    return cut
