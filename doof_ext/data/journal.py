"""The journal of online steps: every step is written as it happens, so that a run can be resumed after a kill.

The file is a line of JSON, which names the columns, then records of one size: the step's number, the columns' bytes, a
CRC-32. A record is one write; the file is synced when an episode ends.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from doof_ext.data.dataset import STATES, Dataset
from doof_ext.errors import EnvironmentFailedError, UserError, unreadable

_FORMAT = 2
_Dtypes = Mapping[str, tuple[np.dtype, tuple[int, ...]]]  # a record's columns: dtype and shape by name
_STEP = ("observations", "actions", "next_observations", "rewards", "terminals", "truncated", "starts")


class OnlineJournal:
    """The steps of one collection in order, in memory and, with a path, on the disk.

    ``rows`` is a list of dicts: _STEP's columns, the state of the simulator before the step, and ``snapshot/…``, what
    the environment can be restored from after it. ``starts`` marks the first row of an episode.

    Args:
        path: The file; the steps that it holds are read, but a last record that was cut off is dropped.
        say: Called with a warning where a record is dropped.

    Raises:
        UserError: The file is damaged elsewhere than at its end.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, say: Callable[[str], object] = print) -> None:
        self._path = path
        self._file: io.FileIO | None = None
        self._columns: dict[str, list[Any]] | None = None
        self.rows: list[dict[str, np.ndarray]] = []
        if path is not None and os.path.exists(path):
            self._read(path, say)

    def __len__(self) -> int:
        return len(self.rows)

    def append(self, row: Mapping[str, Any], sync: bool = False) -> None:
        """Adds one step; when this returns it survives a kill of the process, with ``sync`` one of the machine.

        Raises:
            EnvironmentFailedError: A column's shape or type differs from the first row's.
        """
        row = {name: np.asarray(value) for name, value in row.items()}
        columns = {name: [value.dtype.str, list(value.shape)] for name, value in row.items()}
        if self._columns is None:
            self._columns = columns
        if columns != self._columns:
            changed = [name for name in {**columns, **self._columns} if columns.get(name) != self._columns.get(name)]
            raise EnvironmentFailedError(f"the environment's {', '.join(changed)} changed their shape or type")
        if self._path is not None:
            record = b"".join(row[name].tobytes() for name in self._columns)
            file = self._open(self._path)
            _write_whole(file, _sealed(len(self.rows), record))
            if sync:
                os.fsync(file.fileno())
        self.rows.append(row)

    def sync(self) -> None:
        """Has all steps survive a kill of the machine, too."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Syncs and closes the file."""
        self.sync()
        if self._file is not None:
            self._file.close()
            self._file = None

    def dataset(self) -> Dataset:
        """The steps in D4RL's form; an episode that the environment did not end is cut by a timeout."""
        columns = {name: np.array([row[name] for row in self.rows]) for name in self._columns or ()}
        floats: dict[str, Any] = {name: columns[name].astype(np.float32) for name in _STEP[:4]}
        cut = np.append(columns["starts"][1:], True)  # the last of its episode, whatever ended it
        return Dataset(
            **floats,
            terminals=columns["terminals"],
            timeouts=cut & ~columns["terminals"],
            states={name: columns[name] for name in STATES if name in columns},
        )

    def _open(self, path: str | os.PathLike[str]) -> io.FileIO:
        if self._file is None:
            new = not self.rows
            self._file = open(path, "wb" if new else "ab", buffering=0)  # noqa: SIM115 - open while collecting
            if new:
                header = {"format": _FORMAT, "columns": self._columns, "crc32": _header_checksum(self._columns)}
                _write_whole(self._file, (json.dumps(header) + "\n").encode())
        return self._file

    def _read(self, path: str | os.PathLike[str], say: Callable[[str], object]) -> None:
        try:
            with open(path, "rb") as file:
                first_line, content = file.readline(), file.read()
        except OSError as error:
            raise unreadable(path, error) from error
        if not first_line.endswith(b"\n") and not _has_whole_json(first_line):
            return  # killed while it wrote the first line: there are no steps
        try:
            header = json.loads(first_line)
            if header["format"] != _FORMAT:
                raise ValueError("another format")
            if header["crc32"] != _header_checksum(header["columns"]):
                raise ValueError("it does not have its checksum")
            columns = {name: (np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in header["columns"].items()}
            if not set(_STEP) <= set(columns) or any(dtype.kind not in "fiub" for dtype, _ in columns.values()):
                raise ValueError("other columns")
            size = sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in columns.values()) + 8
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SyntaxError) as error:
            raise UserError(f"the journal of online steps {path} is damaged in its first line ({error})") from None
        self._columns = {name: [dtype.str, list(shape)] for name, (dtype, shape) in columns.items()}
        records = [content[start : start + size] for start in range(0, len(content) - size + 1, size)]
        steps = [int.from_bytes(sealed[:4], "little") for sealed in records]
        good = [_sealed(step, sealed[4:-4]) == sealed for step, sealed in zip(steps, records, strict=True)]
        whole = sum(1 for _ in itertools.takewhile(lambda n: good[n] and steps[n] == n, range(len(records))))
        if any(good[whole:]):  # intact steps follow a damaged one: not merely a torn end
            raise UserError(f"the journal of online steps {path} is damaged at step {whole}")
        self.rows = [_row(sealed[4:-4], columns) for sealed in records[:whole]]
        kept = len(self.rows) * size
        if kept < len(content):
            say(f"WARNING: the end of {path} was cut off; {len(self.rows)} steps are whole")
        if self.rows:
            os.truncate(path, os.path.getsize(path) - len(content) + kept)
        else:
            self._columns = None


def _header_checksum(columns: Any) -> int:
    return zlib.crc32(json.dumps(columns).encode())


def _has_whole_json(line: bytes) -> bool:
    try:
        json.JSONDecoder().raw_decode(line.decode(errors="replace"))
        return True
    except ValueError:
        return False


def _write_whole(file: io.FileIO, content: bytes) -> None:
    """Writes all of ``content``: in one write, except on a disk that is about to be full."""
    while content:
        content = content[file.write(content) :]


def _sealed(step: int, record: bytes) -> bytes:
    """A record as it is in the file: the step's number, the columns' bytes, a CRC-32 of both."""
    numbered = step.to_bytes(4, "little") + record
    return numbered + zlib.crc32(numbered).to_bytes(4, "little")


def _row(record: bytes, columns: _Dtypes) -> dict[str, np.ndarray]:
    row, start = {}, 0
    for name, (dtype, shape) in columns.items():
        count = int(np.prod(shape))
        row[name] = np.frombuffer(record, dtype, count, start).reshape(shape).copy()
        start += count * dtype.itemsize
    return row
