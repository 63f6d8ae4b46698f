"""D4RL's dataset: the in-memory form, and its HDF5 file (contract 3)."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from doof_ext.data import episodes
from doof_ext.errors import UserError, unreadable
from doof_ext.tasks.specs import TaskSpec

LARGEST = 1e15  # magnitude whose squares, and sums of them, stay within float32
STATES = ("qpos", "qvel", "desired_orien")  # what a simulator's state may consist of
_REQUIRED = ("observations", "actions", "rewards", "terminals")
_FLOATS = ("observations", "actions", "next_observations", "rewards")
_FLAGS = ("terminals", "timeouts")
_ROWS_AT_ONCE = 1 << 16
_Path = str | os.PathLike[str]


@dataclass
class Dataset:
    """N recorded steps in order, episode after episode.

    ``terminals`` mark steps into a terminal state, ``timeouts`` steps after which the episode was cut.
    """

    observations: np.ndarray  # [N, O] float32
    actions: np.ndarray  # [N, A] float32
    next_observations: np.ndarray  # [N, O] float32
    rewards: np.ndarray  # [N] float32
    terminals: np.ndarray  # [N] bool
    timeouts: np.ndarray  # [N] bool
    states: dict[str, np.ndarray] = field(default_factory=dict)  # before the step, float64: qpos [N, nq], qvel [N, nv]…
    metadata: dict[str, Any] = field(default_factory=dict)  # strings and numbers: how the data were made

    def __len__(self) -> int:
        return len(self.observations)

    def transitions(self) -> dict[str, np.ndarray]:
        """What learning needs: float32 arrays [N, ·] by the kit's names, terminals as 0 and 1.

        No step is left out: its next observation is recorded, even where a time limit cut the episode.
        """
        return {
            "observations": self.observations,
            "actions": self.actions,
            "next_observations": self.next_observations,
            "rewards": self.rewards.reshape(-1, 1),
            "terminals": self.terminals.reshape(-1, 1).astype(np.float32),
        }

    def sha256(self) -> str:
        """A digest of the transitions, independent of the file they were read from."""
        digest = hashlib.sha256()
        for name, column in self.transitions().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()


def concatenate(first: Dataset | None, second: Dataset) -> Dataset:
    """The steps of both in order, with the second's metadata; states that both have."""
    if first is None:
        return second
    columns = {n: np.concatenate([getattr(first, n), getattr(second, n)]) for n in (*_FLOATS, *_FLAGS)}
    common = [name for name in second.states if name in first.states]
    states = {name: np.concatenate([first.states[name], second.states[name]]) for name in common}
    return Dataset(**columns, states=states, metadata=second.metadata)


def first_steps(dataset: Dataset, steps: int | None) -> Dataset:
    """The first ``steps`` steps, all for None; the episode that is cut there ends in a timeout."""
    if steps is None or steps >= len(dataset):
        return dataset
    columns = {name: getattr(dataset, name)[:steps].copy() for name in (*_FLOATS, *_FLAGS)}
    columns["timeouts"][-1] = not columns["terminals"][-1]
    return Dataset(**columns, states={n: s[:steps] for n, s in dataset.states.items()}, metadata=dataset.metadata)


def repeated_steps(dataset: Dataset, steps: int) -> Dataset:
    """``steps`` steps: the dataset's, over and over; its last episode, and the one that is cut, end in timeouts."""
    rows = np.arange(steps) % len(dataset)
    columns = {name: getattr(dataset, name)[rows] for name in (*_FLOATS, *_FLAGS)}
    ends = np.append(np.flatnonzero(rows == len(dataset) - 1), steps - 1)
    columns["timeouts"][ends] = ~columns["terminals"][ends]
    return Dataset(**columns, states={n: s[rows] for n, s in dataset.states.items()}, metadata=dataset.metadata)


def read_dataset(path: _Path, spec: TaskSpec | None = None) -> Dataset:
    """Reads a D4RL HDF5 file, each column without an intermediate copy.

    Args:
        path: The file.
        spec: The task's spec, to check the dimensions against.

    Raises:
        UserError: The file is missing, held by another process, truncated, wrongly shaped or holds NaN or infinity.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FileNotFoundError
        with h5py.File(path, "r") as file:
            names = (*_REQUIRED, "next_observations", "timeouts", *(f"infos/{name}" for name in STATES))
            columns = {name: _read_column(path, name, file[name]) for name in names if name in file}
            metadata = _read_metadata(file)
    except UserError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no dataset file at {path}; give the path of a D4RL HDF5 file") from None
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if "unable to lock file" in str(error):
            held = "another process may be writing it; wait for its end, or set HDF5_USE_FILE_LOCKING=FALSE"
            raise UserError(f"{path} cannot be locked for reading: {held}") from error
        if isinstance(error, OSError) and error.errno is not None:  # the system's; HDF5's own have no number
            raise unreadable(path, error) from error
        raise UserError(f"{path}: not a whole HDF5 file ({_first_line(error)}); fetch or make it again") from error
    return dataset_from_columns(path, columns, metadata, spec)


def _read_column(path: _Path, name: str, item: Any) -> np.ndarray:
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        raise UserError(f"{path}: {name} is not an array; expected one row per transition")
    kind = item.dtype.kind
    if kind not in "fiub":
        raise UserError(f"{path}: {name} holds {item.dtype}, not numbers")
    column = np.empty(item.shape, np.float32 if name in _FLOATS else item.dtype)
    if column.size:
        item.read_direct(column)
    return column


def _first_line(error: Exception) -> str:
    return str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__


def _read_metadata(file: h5py.File) -> dict[str, Any]:
    metadata = {}
    if isinstance(file.get("metadata"), h5py.Group):
        for name, item in file["metadata"].items():
            if isinstance(item, h5py.Dataset) and item.shape == ():
                value = item[()]
                metadata[name] = value.decode(errors="replace") if isinstance(value, bytes) else value.item()
    return metadata


def dataset_from_columns(
    label: object, columns: Mapping[str, Any], metadata: Mapping[str, Any] | None = None, spec: TaskSpec | None = None
) -> Dataset:
    """A checked dataset from D4RL's arrays.

    Absent timeouts are inferred where a next observation differs from the next row's observation; absent next
    observations are the next row's, where timeouts separate the episodes. ``metadata["reconstructed"]`` then says so,
    and ``rewards_left_out`` and ``terminals_left_out`` beside it what went with the last steps of episodes.

    Args:
        label: Names the arrays' origin in errors.
        columns: Arrays by D4RL's names; rewards and flags may be [N] or [N, 1].
        metadata: How the data were made; by default the values under metadata/ in ``columns``.
        spec: The task's spec, to check the dimensions against.

    Raises:
        UserError: An array is missing, empty, of a wrong shape, not of numbers, or not finite; a flag has more values
            than two.
    """
    if metadata is None:
        metadata = _metadata_of(columns)
    names = (*_REQUIRED, "next_observations", "timeouts", *(f"infos/{name}" for name in STATES))
    columns = {name: columns[name] for name in names if name in columns}
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise UserError(f"{label}: no {', '.join(missing)}; a D4RL file has {', '.join(_REQUIRED)}")
    for name in ("rewards", *_FLAGS):
        if name in columns and np.ndim(columns[name]) == 2 and columns[name].shape[1] == 1:
            columns[name] = columns[name][:, 0]
    count = len(columns["rewards"]) if np.ndim(columns["rewards"]) else 0
    if count == 0:
        raise UserError(f"{label}: no transitions in it")
    obs_dim, action_dim = (spec.obs_dim, spec.action_dim) if spec else (None, None)
    widths = {"observations": obs_dim, "actions": action_dim, "next_observations": obs_dim}
    for name, column in columns.items():
        _check(label, name, column, count, name in widths or name.startswith("infos/"), widths.get(name))
    for name in _FLAGS:
        if name in columns:
            columns[name] = _as_flags(label, name, columns[name])
    metadata = dict(metadata or {})
    if "next_observations" not in columns:
        columns, left_out = episodes.reconstruct_next_observations(label, columns)
        metadata |= left_out
    if columns["observations"].shape != columns["next_observations"].shape:
        raise UserError(f"{label}: observations and next_observations differ in shape")
    if "timeouts" not in columns:
        columns["timeouts"], metadata["reconstructed"] = episodes.infer_timeouts(columns)
    return Dataset(
        **{name: np.ascontiguousarray(columns[name], dtype=np.float32) for name in _FLOATS},
        terminals=columns["terminals"],
        timeouts=columns["timeouts"] & ~columns["terminals"],
        states={name: columns[f"infos/{name}"] for name in STATES if f"infos/{name}" in columns},
        metadata=metadata,
    )


def _metadata_of(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The values under metadata/, so that a recipe's file is reported as a recipe through D4RL's loader too."""
    found = {name.removeprefix("metadata/"): value for name, value in columns.items() if name.startswith("metadata/")}
    found = {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}
    return {name: value for name, value in found.items() if isinstance(value, (str, int, float, np.number))}


def _check(label: object, name: str, column: Any, count: int, is_matrix: bool, width: int | None) -> None:
    if not isinstance(column, np.ndarray):
        raise UserError(f"{label}: {name} is not an array; expected one row per transition")
    if column.dtype.kind not in "fiub":
        raise UserError(f"{label}: {name} holds {column.dtype}, not numbers")
    expected = f"[{count}, {width or '·'}]" if is_matrix else f"[{count}]"
    if column.ndim != 1 + is_matrix or len(column) != count or (width and column.shape[1] != width):
        raise UserError(f"{label}: {name} has shape {list(column.shape)}; expected {expected}: a file of another task?")
    bad = [start + row for start in range(0, count, _ROWS_AT_ONCE) for row in _unusable(column[start:][:_ROWS_AT_ONCE])]
    if bad:
        rows = f"{len(bad)} of {count} rows, first in row {bad[0]}"
        raise UserError(f"{label}: {name} is NaN, infinite or beyond {LARGEST:g} in {rows}")


def _as_flags(label: object, name: str, column: np.ndarray) -> np.ndarray:
    """Flags [N] as bool; raises UserError for anything but 0 and one positive whole number, as 1 or 255."""
    if column.dtype == bool:
        return column
    values = np.unique(column)
    raised = values[values != 0]
    if len(raised) > 1 or not ((raised > 0) & (raised % 1 == 0)).all():
        raise UserError(f"{label}: {name} holds {', '.join(f'{value:g}' for value in values[:4])}; a flag is 0 or 1")
    return column.astype(bool)


def _unusable(rows: np.ndarray) -> np.ndarray:
    return np.flatnonzero(~(abs(rows) < LARGEST).reshape(len(rows), -1).all(1))


def write_dataset(path: _Path, dataset: Dataset) -> None:
    """Writes a D4RL HDF5 file atomically.

    Raises:
        UserError: It cannot be written (a full disk, a folder without permission); no partial file remains.
    """
    temporary = None
    try:
        temporary = temporary_beside(path)
        with h5py.File(temporary, "w") as file:
            for name in (*_FLOATS, *_FLAGS):
                column = getattr(dataset, name)
                file.create_dataset(name, data=column, **_compression(column))
            for name, state in dataset.states.items():
                file.create_dataset(f"infos/{name}", data=state)
            for name, value in dataset.metadata.items():
                file.create_dataset(f"metadata/{name}", data=value)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # HDF5 raises a failed flush as RuntimeError
        code: Any = getattr(error, "errno", None)
        reason = os.strerror(code) if code in errno.errorcode else _first_line(error)
        raise UserError(f"{path} cannot be written ({reason}); make room or choose another place") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.remove(temporary)


def temporary_beside(path: _Path) -> str:
    """A new empty file in the folder of ``path``, which is created where it is missing; raises OSError on failure."""
    folder, name = os.path.split(os.path.abspath(path))
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f"{name}.", suffix=".tmp", dir=folder)
    os.close(handle)
    os.chmod(temporary, 0o644)
    return temporary


def check_writable(path: _Path) -> None:
    """Raises UserError where ``path`` cannot be written, before its content is computed."""
    try:
        os.remove(temporary_beside(path))
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another place") from error


def _compression(column: np.ndarray) -> dict[str, Any]:
    """Of flags only, which shrink a thousandfold; floats hardly shrink and would be slow to read."""
    return {"compression": "gzip", "compression_opts": 1} if column.dtype == bool else {}
