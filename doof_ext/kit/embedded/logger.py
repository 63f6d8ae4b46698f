"""The outputs of a run's numbers: console and its backup, CSV, TensorBoard."""

from __future__ import annotations

import csv
import itertools
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TextIO

ROOT_DIR = "log"


def make_log_dirs(
    task_name: str, algo_name: str, seed: int, args: Mapping[str, Any], record_params: Sequence[str] | None = None
) -> str:
    """Creates and returns ``log/<task>/<algo>[&param=value…]/seed_<s>&timestamp_<t>``, a new folder each time."""
    params = "".join(f"&{name}={args[name]}" for name in record_params or ())
    stamp = time.strftime("%y-%m%d-%H%M%S")
    base = os.path.join(ROOT_DIR, task_name, f"{algo_name}{params}", f"seed_{seed}&timestamp_{stamp}")
    path, copies = base, 1
    while True:
        try:
            os.makedirs(path)
            return path
        except FileExistsError:  # another run started in the same second
            copies += 1
            path = f"{base}-{copies}"


class _Handler(Protocol):
    """An output; ``position()`` syncs it and returns how much it holds, to resume from."""

    def write(self, kvs: Mapping[str, Any]) -> None: ...

    def position(self) -> Any: ...

    def close(self) -> None: ...


class _CSVHandler:
    """Rows of a growing set of columns: a new column rewrites the file, where older rows leave it empty."""

    def __init__(self, path: str, position: int | None) -> None:
        self._path = path
        self._columns: list[str] = []
        self._rows: list[Mapping[str, Any]] = []
        if position and os.path.exists(path):
            with open(path, newline="") as file:
                self._rows = list(itertools.islice(csv.DictReader(file), position))
            self._columns = list(self._rows[0]) if self._rows else []
        self._file = self._rewrite()

    def _rewrite(self) -> TextIO:
        temporary = f"{self._path}.tmp"
        with open(temporary, "w", newline="") as file:
            if self._columns:
                writer = csv.DictWriter(file, self._columns, restval="")
                writer.writeheader()
                writer.writerows(self._rows)
        os.replace(temporary, self._path)
        return open(self._path, "a", newline="")

    def write(self, kvs: Mapping[str, Any]) -> None:
        self._rows.append(kvs)
        new = [name for name in kvs if name not in self._columns]
        if new:
            self._columns += new
            outdated, self._file = self._file, self._rewrite()
            outdated.close()
        else:
            csv.DictWriter(self._file, self._columns, restval="").writerow(kvs)
        self._file.flush()

    def position(self) -> int:
        os.fsync(self._file.fileno())
        return len(self._rows)

    def close(self) -> None:
        self._file.close()


class _TensorBoardHandler:
    """Event files; earlier ones are truncated to ``position``, the size of each by name."""

    def __init__(self, folder: str, position: Mapping[str, int] | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if position is not None and name in position:
                os.truncate(path, position[name])
            else:
                os.remove(path)
        self._folder, self._writer = folder, SummaryWriter(folder)

    def write(self, kvs: Mapping[str, Any]) -> None:
        for name, value in kvs.items():
            self._writer.add_scalar(name, value, kvs["timestep"])
        self._writer.flush()

    def position(self) -> dict[str, int]:
        self._writer.flush()
        return {name: os.path.getsize(os.path.join(self._folder, name)) for name in sorted(os.listdir(self._folder))}

    def close(self) -> None:
        self._writer.close()


class _StdoutHandler:
    """A table per dump, on the console and in a text file."""

    def __init__(self, path: str, position: int | None) -> None:
        self._file = open(path, "ab")  # noqa: SIM115 - open as long as the run
        self._file.truncate(position or 0)

    def write_text(self, text: str) -> None:
        try:
            print(text, flush=True)
        except UnicodeEncodeError:  # the console has fewer characters than the file
            print(text.encode(sys.stdout.encoding, "replace").decode(sys.stdout.encoding), flush=True)
        except BrokenPipeError:  # the console's reader has exited; continue with the file alone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        self._file.write(f"{text}\n".encode())
        self._file.flush()

    def write(self, kvs: Mapping[str, Any]) -> None:
        width = max(map(len, kvs))
        self.write_text("\n".join(f"| {name:<{width}} | {value!s:<22} |" for name, value in kvs.items()))

    def position(self) -> int:
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()


class Logger:
    """Collects named values and dumps them, row by row, to the handlers of ``output_config``.

    Args:
        dir: The run's folder; record/, checkpoint/, model/ and result/ are created in it.
        output_config: "stdout", "csv" or "tensorboard" by the output's name.
        position: What :meth:`position` returned, to resume the outputs from; without it they are truncated.

    Raises:
        ValueError: An output is of another kind.
    """

    def __init__(self, dir: str, output_config: Mapping[str, str], position: Mapping[str, Any] | None = None) -> None:
        self._dir = dir
        for name in ("record", "checkpoint", "model", "result"):
            os.makedirs(os.path.join(dir, name), exist_ok=True)
        kept = position or {}
        self._handlers = {name: self._make_handler(name, kind, kept.get(name)) for name, kind in output_config.items()}
        self._values: dict[str, Any] = {}
        self._means: dict[str, list[Any]] = defaultdict(list)
        self._timestep = 0

    def _make_handler(self, name: str, kind: str, position: Any) -> _Handler:
        if kind == "csv":
            return _CSVHandler(os.path.join(self.record_dir, f"{name}.csv"), position)
        if kind == "tensorboard":
            return _TensorBoardHandler(os.path.join(self.record_dir, name), position)
        if kind == "stdout":
            return _StdoutHandler(os.path.join(self.record_dir, f"{name}.txt"), position)
        raise ValueError(f"unknown output {kind!r}; there are stdout, csv and tensorboard")

    def logkv(self, key: str, val: Any) -> None:
        """Sets a value of the next row."""
        self._values[key] = val

    def logkv_mean(self, key: str, val: Any) -> None:
        """Adds a value to a mean of the next row."""
        self._means[key].append(val)

    def set_timestep(self, timestep: int) -> None:
        """Sets the next row's timestep."""
        self._timestep = timestep

    def dumpkvs(self, exclude: Sequence[str] | None = None) -> None:
        """Writes the row to every handler but those named in ``exclude``, and starts the next."""
        means = {key: sum(values) / len(values) for key, values in self._means.items()}
        row = {"timestep": self._timestep, **self._values, **means}
        for name, handler in self._handlers.items():
            if name not in (exclude or ()):
                handler.write(row)
        self._values.clear()
        self._means.clear()

    def log(self, s: str) -> None:
        """Writes a line to the console and its backup."""
        for handler in self._handlers.values():
            if isinstance(handler, _StdoutHandler):
                handler.write_text(s)

    def log_hyperparameters(self, hyper_param: Mapping[str, Any]) -> None:
        """Writes record/hyper_param.json."""
        with open(os.path.join(self.record_dir, "hyper_param.json"), "w") as file:
            json.dump(hyper_param, file, indent=4, default=str)

    def position(self) -> dict[str, Any]:
        """Syncs the outputs and returns how much each holds, by its name."""
        return {name: handler.position() for name, handler in self._handlers.items()}

    def close(self) -> None:
        """Closes every handler."""
        for handler in self._handlers.values():
            handler.close()

    @property
    def record_dir(self) -> str:
        """The folder of curves and settings."""
        return os.path.join(self._dir, "record")

    @property
    def checkpoint_dir(self) -> str:
        """The folder of what a run can be resumed from."""
        return os.path.join(self._dir, "checkpoint")

    @property
    def model_dir(self) -> str:
        """The folder of the final networks."""
        return os.path.join(self._dir, "model")

    @property
    def result_dir(self) -> str:
        """The folder of the final results."""
        return os.path.join(self._dir, "result")
