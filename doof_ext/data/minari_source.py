"""Minari's datasets as D4RL's columns."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from doof_ext.errors import UserError


def read_minari(dataset_id: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The columns of a Minari dataset by D4RL's names, and its metadata.

    A step that terminated its episode is a terminal; one that truncated it, or is the last of an episode that ends in
    neither, is a timeout.

    Args:
        dataset_id: Such as ``mujoco/hopper/medium-v0``; it is downloaded where it is not on this machine.

    Returns:
        (columns, metadata).

    Raises:
        UserError: The dataset cannot be loaded or has no box spaces.
    """
    try:
        import minari
    except ImportError as error:
        raise UserError("--source minari:ID needs Minari; pip install 'doof_ext[minari]'") from error
    folder = os.environ.get("MINARI_DATASETS_PATH") or os.path.join("~", ".minari", "datasets")
    try:
        dataset = minari.load_dataset(dataset_id, download=True)
        for name, space in (("observations", dataset.observation_space), ("actions", dataset.action_space)):
            if type(space).__name__ != "Box" or len(space.shape) != 1:
                raise UserError(f"{dataset_id}: its {name} are {space}; DOOF needs a Box with one dimension")
        episodes = [_columns(dataset_id, episode) for episode in dataset.iterate_episodes()]
    except UserError:
        raise
    except Exception as error:  # missing ids, damaged files and each of its download back ends raise their own types
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"Minari cannot give {dataset_id} ({reason}); `minari download {dataset_id}` puts it into {folder}"
        ) from error
    if not episodes:
        raise UserError(f"{dataset_id}: no episodes in it")
    columns = {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
    env_spec = dataset.spec.env_spec
    metadata = {"minari": dataset_id, **({"env_id": env_spec.id} if env_spec is not None else {})}
    return columns, metadata


def _columns(dataset_id: str, episode: Any) -> dict[str, np.ndarray]:
    steps = len(episode.rewards)
    lengths = [len(column) for column in (episode.actions, episode.terminations, episode.truncations)]
    if len(episode.observations) != steps + 1 or lengths != [steps] * 3:
        raise UserError(f"{dataset_id}: episode {episode.id} is damaged, its columns differ in length")
    terminals = np.array(episode.terminations, dtype=bool)
    timeouts = np.array(episode.truncations, dtype=bool)
    timeouts[-1:] = True
    observations = np.asarray(episode.observations, np.float32)
    return {
        "observations": observations[:-1],
        "actions": np.asarray(episode.actions, np.float32),
        "next_observations": observations[1:],
        "rewards": np.asarray(episode.rewards, np.float32),
        "terminals": terminals,
        "timeouts": timeouts & ~terminals,
    }
