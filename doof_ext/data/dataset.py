"""D4RL's dataset: the in-memory form, and its HDF5 file (contract 3)."""

import hashlib
import os
from dataclasses import dataclass, field

import h5py
import numpy as np

from doof_ext.errors import UserError

LARGEST = 1e15  # beyond it a square leaves float32
_REQUIRED = ("observations", "actions", "rewards", "terminals")


@dataclass
class Dataset:
    """Recorded steps in order, episode after episode; N steps.

    ``terminals`` mark states where the episode truly ended, ``timeouts`` where it was cut.
    """

    observations: np.ndarray  # [N, O] float32
    actions: np.ndarray  # [N, A] float32
    next_observations: np.ndarray  # [N, O] float32
    rewards: np.ndarray  # [N] float32
    terminals: np.ndarray  # [N] bool
    timeouts: np.ndarray  # [N] bool
    qpos: np.ndarray | None = None  # [N, nq] float64, the simulator's state before the step
    qvel: np.ndarray | None = None  # [N, nv] float64
    metadata: dict = field(default_factory=dict)  # strings and numbers: how the data came to be

    def __len__(self):
        return len(self.observations)

    def transitions(self):
        """What learning needs: a dict of float32 arrays [N, ·] by the kit's names, terminals as 0 and 1.

        Every recorded step stays: with its next observation recorded, a step cut by a time limit is as good as any.
        """
        return {
            "observations": self.observations,
            "actions": self.actions,
            "next_observations": self.next_observations,
            "rewards": self.rewards.reshape(-1, 1),
            "terminals": self.terminals.reshape(-1, 1).astype(np.float32),
        }

    def sha256(self):
        """A digest of the transitions, whatever file they came from."""
        digest = hashlib.sha256()
        for name, column in self.transitions().items():
            digest.update(name.encode() + np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


def read_dataset(path, spec=None) -> Dataset:
    """Reads a D4RL HDF5 file.

    Args: the file; the task's spec, to check the dimensions against, or None.
    Raises: UserError, one line, for a file that is missing, truncated, wrongly shaped or holds NaN or infinity.
    """
    if not os.path.isfile(path):
        raise UserError(f"no dataset file at {path}; give the path of a D4RL HDF5 file")
    try:
        with h5py.File(path, "r") as file:
            missing = [name for name in _REQUIRED if name not in file]
            if missing:
                raise UserError(f"{path}: no {', '.join(missing)}; a D4RL file has {', '.join(_REQUIRED)}")
            columns = {name: file[name][()] for name in (*_REQUIRED, "next_observations", "timeouts") if name in file}
            states = {name: file[f"infos/{name}"][()] for name in ("qpos", "qvel") if f"infos/{name}" in file}
            metadata = _read_metadata(file)
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"{path}: not a whole HDF5 file ({_first_line(error)}); fetch or make it again") from error
    return dataset_from_columns(
        path, columns | {f"infos/{name}": state for name, state in states.items()}, metadata, spec
    )


def _first_line(error):
    return str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__


def _read_metadata(file):
    metadata = {}
    if isinstance(file.get("metadata"), h5py.Group):
        for name, item in file["metadata"].items():
            if isinstance(item, h5py.Dataset) and item.shape == ():
                value = item[()]
                metadata[name] = value.decode(errors="replace") if isinstance(value, bytes) else value.item()
    return metadata


def dataset_from_columns(label, columns, metadata=None, spec=None) -> Dataset:
    """A checked dataset from D4RL's arrays by name; ``label`` names their origin in errors.

    Raises: UserError for arrays that are missing, empty, of a wrong shape, not numbers, or not finite.
    """
    names = (*_REQUIRED, "next_observations", "timeouts", "infos/qpos", "infos/qvel")
    columns = {name: columns[name] for name in names if name in columns}
    count = len(columns["rewards"]) if np.ndim(columns["rewards"]) else 0
    if count == 0:
        raise UserError(f"{label}: no transitions in it")
    if "next_observations" not in columns:
        raise UserError(f"{label}: no next_observations; record them, they are what the dynamics model learns")
    columns.setdefault("timeouts", np.zeros(count, dtype=bool))
    obs_dim, action_dim = (spec.obs_dim, spec.action_dim) if spec else (None, None)
    matrices = {
        "observations": obs_dim, "actions": action_dim, "next_observations": obs_dim,
        "infos/qpos": None, "infos/qvel": None,
    }  # fmt: skip
    for name, column in columns.items():
        _check(label, name, column, count, name in matrices, matrices.get(name))
    if columns["observations"].shape != columns["next_observations"].shape:
        raise UserError(f"{label}: observations and next_observations differ in shape")
    floats = ("observations", "actions", "next_observations", "rewards")
    return Dataset(
        **{name: np.ascontiguousarray(columns[name], dtype=np.float32) for name in floats},
        terminals=columns["terminals"].astype(bool), timeouts=columns["timeouts"].astype(bool),
        qpos=columns.get("infos/qpos"), qvel=columns.get("infos/qvel"), metadata=dict(metadata or {}),
    )  # fmt: skip


def _check(path, name, column, count, is_matrix, width):
    if not isinstance(column, np.ndarray):
        raise UserError(f"{path}: {name} is not an array; expected one row per transition")
    if column.dtype.kind not in "fiub":
        raise UserError(f"{path}: {name} holds {column.dtype}, not numbers")
    expected = f"[{count}, {width or '·'}]" if is_matrix else f"[{count}]"
    if column.ndim != 1 + is_matrix or len(column) != count or (width and column.shape[1] != width):
        raise UserError(f"{path}: {name} has shape {list(column.shape)}; expected {expected}: a file of another task?")
    bad = np.flatnonzero(~(abs(column) < LARGEST).reshape(count, -1).all(1))
    if len(bad):
        rows = f"{len(bad)} of {count} rows, first in row {bad[0]}"
        raise UserError(f"{path}: {name} is NaN, infinite or beyond {LARGEST:g} in {rows}")


def write_dataset(path, dataset: Dataset) -> None:
    """Writes a D4RL HDF5 file; the final name appears only once the file is whole."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with h5py.File(temporary, "w") as file:
            for name in ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts"):
                column = getattr(dataset, name)
                file.create_dataset(name, data=column, **_compression(column))
            for name in ("qpos", "qvel"):
                state = getattr(dataset, name)
                if state is not None:
                    file.create_dataset(f"infos/{name}", data=state, **_compression(state))
            for name, value in dataset.metadata.items():
                file.create_dataset(f"metadata/{name}", data=value)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _compression(column):
    """Flags shrink a thousandfold; floats hardly at all, and would be slow to read."""
    return {"compression": "gzip", "compression_opts": 1} if column.dtype == bool else {}
