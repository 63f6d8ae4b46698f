"""Whether the runs of two log directories are the same: weights, curves and online steps, bit for bit.

python tools/compare_runs.py LOGDIR OTHER_LOGDIR

For a change that must not change results: make the same runs with the code before and after it, one thread each, and
compare. Runs are paired by task, arm and seed. Exits with 1 where a pair differs or a run has no partner.
"""

import argparse
import csv
import sys
from pathlib import Path

import torch

from doof_ext.data.dataset import read_dataset


def runs_by_name(logdir):
    """The finished runs below a folder: {(folders above the seed's, seed): run directory}."""
    found = {}
    for summary in sorted(Path(logdir).rglob("result/summary.json")):
        run = summary.parents[1]
        found[str(run.parent.relative_to(logdir)), run.name.split("&")[0]] = run
    return found


def differences(one, other):
    """What differs between two run directories, a phrase each."""
    found = []
    for path in ("model/policy.pth", "model/dynamics.pth", "checkpoint/exploration_policy.pth"):
        states = [torch.load(run / path, weights_only=True) for run in (one, other)]
        if states[0].keys() != states[1].keys() or any(not torch.equal(t, states[1][n]) for n, t in states[0].items()):
            found.append(path)
    for name in ("policy_training_progress.csv", "dynamics_training_progress.csv"):
        rows = [list(csv.DictReader((run / "record" / name).read_text().splitlines())) for run in (one, other)]
        if rows[0] != rows[1]:
            found.append(name)
    if len({read_dataset(run / "result" / "online_buffer.hdf5").sha256() for run in (one, other)}) > 1:
        found.append("online_buffer.hdf5")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logdirs", nargs=2)
    one, other = (runs_by_name(logdir) for logdir in parser.parse_args().logdirs)
    same = True
    for name in sorted({*one, *other}):
        if name in one and name in other:
            found = differences(one[name], other[name])
            result = f"differs in {', '.join(found)}" if found else "identical"
        else:
            result = "only in one of the two"
        print(f"{'/'.join(name)}: {result}")
        same = same and result == "identical"
    return 0 if same and one else 1


if __name__ == "__main__":
    sys.exit(main())
