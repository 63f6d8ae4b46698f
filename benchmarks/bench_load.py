"""How long a cached dataset of a million transitions takes to load, and how many copies of it memory holds.

python benchmarks/bench_load.py --steps 1000000
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

from doof_ext.data.dataset import Dataset, read_dataset, write_dataset
from doof_ext.tasks import get_spec


def write(path, spec, steps):
    """A file as a recipe's, states included, of random numbers."""
    rng = np.random.default_rng(0)
    states = {name: rng.normal(size=(steps, 9)) for name in ("qpos", "qvel")}

    def matrix(*shape):
        return rng.standard_normal((steps, *shape), dtype=np.float32)

    floats = matrix(spec.obs_dim), matrix(spec.action_dim), matrix(spec.obs_dim), matrix()
    terminals = rng.random(steps) < 0.001
    timeouts = ~terminals & (rng.random(steps) < 0.001)
    write_dataset(path, Dataset(*floats, terminals, timeouts, states, {"recipe": "random numbers"}))


def peak_memory():
    """The most memory this process has held, in bytes (Linux)."""
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def load(path, spec):
    """Loads in this process; prints seconds, bytes of the data, and by how much the process grew at its peak."""
    before, started = peak_memory(), time.perf_counter()
    dataset = read_dataset(path, spec)
    seconds, grown = time.perf_counter() - started, peak_memory() - before
    columns = [*(v for v in vars(dataset).values() if isinstance(v, np.ndarray)), *dataset.states.values()]
    size = sum(column.nbytes for column in columns)
    print(json.dumps({"steps": len(dataset), "seconds": seconds, "data_bytes": size, "copies": grown / size}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="halfcheetah-medium-v2")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--load", metavar="FILE", help="load this file and stop")
    args = parser.parse_args()
    spec = get_spec(args.task)
    if args.load:
        load(args.load, spec)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "million.hdf5")
        write(path, spec, args.steps)
        subprocess.run([sys.executable, __file__, "--task", args.task, "--load", path], check=True)


if __name__ == "__main__":
    main()
