"""Where a run's numbers go: console and its backup, CSV, TensorBoard."""

import csv
import json
import os
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
    """Rows of a growing set of columns: a new column rewrites the file with the old rows left empty in it."""

    def __init__(self, path):
        self._path, self._columns, self._rows = path, [], []
        self._file = open(path, "w", newline="")  # noqa: SIM115 - open as long as the run

    def write(self, kvs):
        self._rows.append(kvs)
        new = [name for name in kvs if name not in self._columns]
        if new:
            self._columns += new
            self._file.seek(0)
            self._file.truncate()
            writer = csv.DictWriter(self._file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows)
        else:
            csv.DictWriter(self._file, self._columns, restval="").writerow(kvs)
        self._file.flush()

    def close(self):
        self._file.close()


class _TensorBoardHandler:
    def __init__(self, folder):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(folder)

    def write(self, kvs):
        for name, value in kvs.items():
            self._writer.add_scalar(name, value, kvs["timestep"])
        self._writer.flush()

    def close(self):
        self._writer.close()


class _StdoutHandler:
    """A table per dump, on the console and in a text file."""

    def __init__(self, path):
        self._file = open(path, "w")  # noqa: SIM115 - open as long as the run

    def write_text(self, text):
        print(text, flush=True)
        self._file.write(text + "\n")
        self._file.flush()

    def write(self, kvs):
        width = max(map(len, kvs))
        self.write_text("\n".join(f"| {name:<{width}} | {value!s:<22} |" for name, value in kvs.items()))

    def close(self):
        self._file.close()


class Logger:
    """Collects named values and dumps them, row by row, to the handlers of ``output_config``.

    ``output_config`` maps an output's name to "stdout", "csv" or "tensorboard". Makes record/, checkpoint/, model/
    and result/ in ``dir``.
    """

    def __init__(self, dir, output_config):
        self._dir = dir
        for name in ("record", "checkpoint", "model", "result"):
            os.makedirs(os.path.join(dir, name), exist_ok=True)
        self._handlers = {name: self._make_handler(name, kind) for name, kind in output_config.items()}
        self._values, self._means = {}, defaultdict(list)
        self._timestep = 0

    def _make_handler(self, name, kind):
        if kind == "csv":
            return _CSVHandler(os.path.join(self.record_dir, f"{name}.csv"))
        if kind == "tensorboard":
            return _TensorBoardHandler(os.path.join(self.record_dir, name))
        if kind == "stdout":
            return _StdoutHandler(os.path.join(self.record_dir, f"{name}.txt"))
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
