"""What results/ keeps of runs: settings, curves, summaries and distances, without weights or folders of a machine.

python tools/gather_results.py LOGDIR results/NAME

Run directories keep their names and layout, so that `doof report results/NAME` draws them again; unfinished runs are
kept as such. An absolute path inside LOGDIR becomes one below `log`, any other its last part.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

KEPT = (
    "record/hyper_param.json",
    "record/dataset.json",
    "record/policy_training_progress.csv",
    "record/dynamics_training_progress.csv",
    "record/failure.txt",
    "result/summary.json",
    "result/distances.npz",
)
_PATH = re.compile(r"(?<![\w./-])(?:/[^/\s\"'\\,;]+)+/?")


def without_folders(text, logdir):
    """A text in which no path says where on a machine it was."""

    inside = re.compile(rf"(?<![\w./-]){re.escape(str(logdir))}(?![\w.-])")  # which may have spaces in it
    return _PATH.sub(lambda found: found.group().rstrip("/").rpartition("/")[2], inside.sub("log", text))


def gather(logdir, out):
    """Copies the runs below a log directory, in place of those that were kept before; returns how many there are."""
    logdir, out = Path(logdir).resolve(), Path(out)
    runs = sorted(path.parents[1] for path in logdir.rglob("record/hyper_param.json"))
    if not runs:
        sys.exit(f"gather_results.py: error: there are no runs in {logdir}; what {out} has is left as it is")
    for kept in list(out.rglob("record/hyper_param.json")):
        shutil.rmtree(kept.parents[1])
    for run in runs:
        for name in filter(lambda name: (run / name).exists(), KEPT):
            target = out / run.relative_to(logdir) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".npz"):
                shutil.copyfile(run / name, target)
            else:
                text = (run / name).read_text(encoding="utf-8", errors="replace")
                target.write_text(without_folders(text, logdir), encoding="utf-8")
    return len(runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logdir")
    parser.add_argument("out")
    args = parser.parse_args()
    if not Path(args.logdir).is_dir():
        sys.exit(f"gather_results.py: error: {args.logdir} is no folder; give a log directory")
    print(f"{gather(args.logdir, args.out)} runs in {args.out}")


if __name__ == "__main__":
    main()
