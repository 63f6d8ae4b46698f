"""The journal of online steps: every step on the disk as it happens, so that a run may end at any moment.

The file is a line of JSON, which names the columns, then records of one size: the step's number, the columns' bytes, a
CRC-32. A record is one write; the file is synced when an episode ends.
"""

import itertools
import json
import os
import zlib

import numpy as np

from doof_ext.data.dataset import STATES, Dataset
from doof_ext.errors import EnvironmentFailedError, UserError

_FORMAT = 2
_STEP = ("observations", "actions", "next_observations", "rewards", "terminals", "truncated", "starts")


class OnlineJournal:
    """The steps of one collection in order, in memory and, with a path, on the disk.

    ``rows`` is a list of dicts: _STEP's columns, the state of the simulator before the step, and ``snapshot/…``, what
    the environment can be restored from after it. ``starts`` says that the row is the first of an episode.
    """

    def __init__(self, path=None, say=print):
        """Reads what the journal at ``path`` holds; a record that was cut off is dropped, and ``say`` is told.

        Raises: UserError for a journal that is damaged elsewhere than at its end.
        """
        self._path, self._file, self._columns, self.rows = path, None, None, []
        if path is not None and os.path.exists(path):
            self._read(say)

    def __len__(self):
        return len(self.rows)

    def append(self, row, sync=False):
        """Adds one step; it is with the operating system when this returns, with ``sync`` on the disk."""
        row = {name: np.asarray(value) for name, value in row.items()}
        columns = {name: [value.dtype.str, list(value.shape)] for name, value in row.items()}
        if self._columns is None:
            self._columns = columns
        if columns != self._columns:
            changed = [name for name in {**columns, **self._columns} if columns.get(name) != self._columns.get(name)]
            raise EnvironmentFailedError(f"the environment's {', '.join(changed)} changed their shape or type")
        if self._path is not None:
            record = b"".join(row[name].tobytes() for name in self._columns)
            _write_whole(self._open(), _sealed(len(self.rows), record))
            if sync:
                os.fsync(self._file.fileno())
        self.rows.append(row)

    def close(self):
        """Closes the file, all of it on the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def dataset(self) -> Dataset:
        """The steps as D4RL has them; an episode that was not ended by the environment is cut by a timeout."""
        columns = {name: np.array([row[name] for row in self.rows]) for name in self._columns}
        floats = [columns[name].astype(np.float32) for name in _STEP[:4]]
        cut = np.append(columns["starts"][1:], True)  # the last of its episode, whatever ended it
        return Dataset(
            *floats,
            columns["terminals"],
            cut & ~columns["terminals"],
            states={name: columns[name] for name in STATES if name in columns},
        )

    def _open(self):
        if self._file is None:
            new = not self.rows
            self._file = open(self._path, "wb" if new else "ab", buffering=0)  # noqa: SIM115 - open while collecting
            if new:
                header = {"format": _FORMAT, "columns": self._columns, "crc32": _header_checksum(self._columns)}
                _write_whole(self._file, (json.dumps(header) + "\n").encode())
        return self._file

    def _read(self, say):
        with open(self._path, "rb") as file:
            header, content = file.readline(), file.read()
        if not header.endswith(b"\n") and not _has_whole_json(header):
            return  # cut off while its first line was written: no step was
        try:
            header = json.loads(header)
            if header["format"] != _FORMAT:
                raise ValueError("another format")
            if header["crc32"] != _header_checksum(header["columns"]):
                raise ValueError("it does not have its checksum")
            columns = {name: (np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in header["columns"].items()}
            if not set(_STEP) <= set(columns) or any(dtype.kind not in "fiub" for dtype, _ in columns.values()):
                raise ValueError("other columns")
            size = sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in columns.values()) + 8
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SyntaxError) as error:
            raise UserError(
                f"the journal of online steps {self._path} is damaged in its first line ({error})"
            ) from None
        self._columns = {name: [dtype.str, list(shape)] for name, (dtype, shape) in columns.items()}
        records = [content[start : start + size] for start in range(0, len(content) - size + 1, size)]
        steps = [int.from_bytes(sealed[:4], "little") for sealed in records]
        good = [_sealed(step, sealed[4:-4]) == sealed for step, sealed in zip(steps, records, strict=True)]
        whole = sum(1 for _ in itertools.takewhile(lambda n: good[n] and steps[n] == n, range(len(records))))
        if any(good[whole:]):  # steps that follow one that is not there: more than a torn end
            raise UserError(f"the journal of online steps {self._path} is damaged at step {whole}")
        self.rows = [_row(sealed[4:-4], columns) for sealed in records[:whole]]
        kept = len(self.rows) * size
        if kept < len(content):
            say(f"WARNING: the end of {self._path} was cut off; {len(self.rows)} steps are whole")
        if self.rows:
            os.truncate(self._path, os.path.getsize(self._path) - len(content) + kept)
        else:
            self._columns = None


def _header_checksum(columns):
    return zlib.crc32(json.dumps(columns).encode())


def _has_whole_json(line):
    try:
        json.JSONDecoder().raw_decode(line.decode(errors="replace"))
        return True
    except ValueError:
        return False


def _write_whole(file, content):
    """One write, as long as the disk has room."""
    while content:
        content = content[file.write(content) :]


def _sealed(step, record):
    """A record as the file has it: its number, the columns' bytes, a CRC-32 of both."""
    numbered = step.to_bytes(4, "little") + record
    return numbered + zlib.crc32(numbered).to_bytes(4, "little")


def _row(record, columns):
    row, start = {}, 0
    for name, (dtype, shape) in columns.items():
        count = int(np.prod(shape))
        row[name] = np.frombuffer(record, dtype, count, start).reshape(shape).copy()
        start += count * dtype.itemsize
    return row
