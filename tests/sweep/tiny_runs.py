"""Tiny runs as command lines, and the same runs by hand."""

import os
import subprocess
import sys

from conftest import ROOT

from doof_ext import pipeline
from doof_ext.config import config_from, given_flags

TINY = [
    *("--task", "hopper-random-v2", "--seed", "1", "--preset", "smoke", "--source", "recipe", "--dataset-steps", "400"),
    *("--hidden-dims", "16", "16", "--dynamics-hidden-dims", "16", "16", "--n-ensemble", "3", "--n-elites", "2"),
    *("--dynamics-weight-decay", "1e-5", "1e-5", "1e-5", "--rollout-batch-size", "40", "--step-per-epoch", "4"),
    *("--rollout-freq", "2", "--eval-episodes", "1", "--online-steps", "50", "--uncertainty-buffer-size", "100"),
    *("--finetune-dynamics-steps", "3", "--distance-samples", "20", "--wandb", "off", "--checkpoint-every", "1"),
]
"""A run of seconds, as run_doof.py's flags."""


def by_hand(logdir, *argv):
    """The run directory of a run without a sweep, all by itself."""
    return pipeline.run(config_from(given_flags([*TINY, *argv, "--logdir", str(logdir)])))[1]


def tune(*argv, cwd=ROOT):
    """tune_doof.py as a user types it; the process, with stdout and stderr as pipes."""
    command = [sys.executable, "-W", "ignore", str(ROOT / "run_example" / "tune_doof.py"), *map(str, argv)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    return subprocess.Popen(command, cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes)
