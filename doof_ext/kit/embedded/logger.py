"""Where a run's numbers go: console and its backup, CSV, TensorBoard."""

import csv
import itertools
import json
import os
import sys
import time
from collections import defaultdict

ROOT_DIR = "log"


def make_log_dirs(task_name, algo_name, seed, args, record_params=None):
    """Makes and returns ``log/<task>/<algo>[&param=value…]/seed_<s>&timestamp_<t>``, a folder of its own each time."""
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


class _CSVHandler:
    """Rows of a growing set of columns: a new column writes the file anew with the old rows left empty in it."""

    def __init__(self, path, position):
        self._path, self._columns, self._rows = path, [], []
        if position and os.path.exists(path):
            with open(path, newline="") as file:
                self._rows = list(itertools.islice(csv.DictReader(file), position))
            self._columns = list(self._rows[0]) if self._rows else []
        self._file = None
        self._write_anew()

    def _write_anew(self):
        temporary = f"{self._path}.tmp"
        with open(temporary, "w", newline="") as file:
            if self._columns:
                writer = csv.DictWriter(file, self._columns, restval="")
                writer.writeheader()
                writer.writerows(self._rows)
        os.replace(temporary, self._path)
        self.close()
        self._file = open(self._path, "a", newline="")  # noqa: SIM115 - open as long as the run

    def write(self, kvs):
        self._rows.append(kvs)
        new = [name for name in kvs if name not in self._columns]
        if new:
            self._columns += new
            self._write_anew()
        else:
            csv.DictWriter(self._file, self._columns, restval="").writerow(kvs)
        self._file.flush()

    def position(self):
        os.fsync(self._file.fileno())
        return len(self._rows)

    def close(self):
        if self._file is not None:
            self._file.close()


class _TensorBoardHandler:
    """Event files; what earlier ones hold beyond ``position``, the size of each by name, is cut off."""

    def __init__(self, folder, position):
        from torch.utils.tensorboard import SummaryWriter

        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if name in (position or {}):
                os.truncate(path, position[name])
            else:
                os.remove(path)
        self._folder, self._writer = folder, SummaryWriter(folder)

    def write(self, kvs):
        for name, value in kvs.items():
            self._writer.add_scalar(name, value, kvs["timestep"])
        self._writer.flush()

    def position(self):
        self._writer.flush()
        return {name: os.path.getsize(os.path.join(self._folder, name)) for name in sorted(os.listdir(self._folder))}

    def close(self):
        self._writer.close()


class _StdoutHandler:
    """A table per dump, on the console and in a text file."""

    def __init__(self, path, position):
        self._file = open(path, "ab")  # noqa: SIM115 - open as long as the run
        self._file.truncate(position or 0)

    def write_text(self, text):
        try:
            print(text, flush=True)
        except BrokenPipeError:  # nobody reads the console any more; the file goes on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        self._file.write(f"{text}\n".encode())
        self._file.flush()

    def write(self, kvs):
        width = max(map(len, kvs))
        self.write_text("\n".join(f"| {name:<{width}} | {value!s:<22} |" for name, value in kvs.items()))

    def position(self):
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self):
        self._file.close()


class Logger:
    """Collects named values and dumps them, row by row, to the handlers of ``output_config``.

    ``output_config`` maps an output's name to "stdout", "csv" or "tensorboard". Makes record/, checkpoint/, model/
    and result/ in ``dir``.
    """

    def __init__(self, dir, output_config, position=None):
        """``position``, as :meth:`position` gave it, keeps what outputs held by then; without it they are emptied."""
        self._dir = dir
        for name in ("record", "checkpoint", "model", "result"):
            os.makedirs(os.path.join(dir, name), exist_ok=True)
        kept = position or {}
        self._handlers = {name: self._make_handler(name, kind, kept.get(name)) for name, kind in output_config.items()}
        self._values, self._means = {}, defaultdict(list)
        self._timestep = 0

    def _make_handler(self, name, kind, position):
        if kind == "csv":
            return _CSVHandler(os.path.join(self.record_dir, f"{name}.csv"), position)
        if kind == "tensorboard":
            return _TensorBoardHandler(os.path.join(self.record_dir, name), position)
        if kind == "stdout":
            return _StdoutHandler(os.path.join(self.record_dir, f"{name}.txt"), position)
        raise ValueError(f"unknown output {kind!r}; there are stdout, csv and tensorboard")

    def logkv(self, key, val):
        """Sets a value of the next row."""
        self._values[key] = val

    def logkv_mean(self, key, val):
        """Adds a value to a mean of the next row."""
        self._means[key].append(val)

    def set_timestep(self, timestep):
        """The next row's timestep."""
        self._timestep = timestep

    def dumpkvs(self, exclude=None):
        """Writes the row to every handler but those named in ``exclude``, and starts the next."""
        means = {key: sum(values) / len(values) for key, values in self._means.items()}
        row = {"timestep": self._timestep, **self._values, **means}
        for name, handler in self._handlers.items():
            if name not in (exclude or ()):
                handler.write(row)
        self._values.clear()
        self._means.clear()

    def log(self, s):
        """A line for the console and its backup."""
        for handler in self._handlers.values():
            if isinstance(handler, _StdoutHandler):
                handler.write_text(s)

    def log_hyperparameters(self, hyper_param):
        """Writes record/hyper_param.json."""
        with open(os.path.join(self.record_dir, "hyper_param.json"), "w") as file:
            json.dump(hyper_param, file, indent=4, default=str)

    def position(self):
        """How much each output holds by now, on the disk; by output."""
        return {name: handler.position() for name, handler in self._handlers.items()}

    def close(self):
        """Closes every handler."""
        for handler in self._handlers.values():
            handler.close()

    @property
    def record_dir(self):
        """Curves and settings."""
        return os.path.join(self._dir, "record")

    @property
    def checkpoint_dir(self):
        """What a run could go on from."""
        return os.path.join(self._dir, "checkpoint")

    @property
    def model_dir(self):
        """The finished networks."""
        return os.path.join(self._dir, "model")

    @property
    def result_dir(self):
        """The finished results."""
        return os.path.join(self._dir, "result")
