"""Minari's datasets as D4RL's columns."""

import os

import numpy as np

from doof_ext.errors import UserError


def read_minari(dataset_id: str, download: bool = True) -> dict:
    """The columns of a Minari dataset by D4RL's names, and its metadata.

    A step whose episode was terminated there is a terminal; one that was truncated, or is the last of an episode that
    says neither, is a timeout.

    Args: an id such as ``mujoco/hopper/medium-v0``; whether to fetch it where it is not on this machine.
    Returns: (columns, metadata). Raises: UserError where it cannot be had or has no box spaces.
    """
    try:
        import minari
    except ImportError as error:
        raise UserError("--source minari:ID needs Minari; pip install 'doof_ext[minari]'") from error
    folder = os.environ.get("MINARI_DATASETS_PATH") or os.path.join("~", ".minari", "datasets")
    try:
        local = dataset_id in minari.list_local_datasets()
        dataset = minari.load_dataset(dataset_id, download=download and not local)
    except Exception as error:  # missing ids, damaged files and each of its download back ends raise kinds of their own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"Minari cannot give {dataset_id} ({reason}); `minari download {dataset_id}` puts it into {folder}"
        ) from error
    episodes = [_columns(dataset_id, episode) for episode in dataset.iterate_episodes()]
    if not episodes:
        raise UserError(f"{dataset_id}: no episodes in it")
    columns = {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
    env_spec = dataset.spec.env_spec
    metadata = {"minari": dataset_id, **({"env_id": env_spec.id} if env_spec is not None else {})}
    return columns, metadata


def _columns(dataset_id, episode):
    for name in ("observations", "actions"):
        if not isinstance(getattr(episode, name), np.ndarray):
            raise UserError(f"{dataset_id}: its {name} are a {type(getattr(episode, name)).__name__}, not one array")
    terminals = np.array(episode.terminations, dtype=bool)
    timeouts = np.array(episode.truncations, dtype=bool)
    if len(timeouts):
        timeouts[-1] = True
    observations = episode.observations.astype(np.float32)
    return {
        "observations": observations[:-1],
        "actions": episode.actions.astype(np.float32),
        "next_observations": observations[1:],
        "rewards": episode.rewards.astype(np.float32),
        "terminals": terminals,
        "timeouts": timeouts & ~terminals,
    }
