"""A baseline of Table 3 on a task: offline pretraining, online finetuning (ON-10K), offline finetuning (OFF-300K).

python run_example/run_baseline.py --algo iql --task hopper-medium-v2 --preset lite

With --algo iql --doof the five stages of DOOF instead, IQL in place of MOPO and an ensemble beside it (experimental);
its flags are run_doof.py's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from doof_ext.cli.exit_code import exit_code_of_run
from doof_ext.cli.run import run_config
from doof_ext.config import BaselineConfig, Config, parse_args, parse_settings
from doof_ext.config.settings import IN_MODEL
from doof_ext.errors import UserError


def main(argv: Sequence[str] | None = None, command: str = "run_baseline.py") -> int:
    """Runs a baseline from a command line; returns the exit code."""

    given = list(sys.argv[1:] if argv is None else argv)

    def run() -> tuple[dict[str, Any], str]:
        if "--doof" in given:
            return run_config(_doof_settings(given))
        config = parse_settings(__doc__ or "", given, BaselineConfig)
        from doof_ext.baselines.run import run  # torch and the simulator are imported only for a run that can start

        return run(config)

    return exit_code_of_run(command, run)


def _doof_settings(argv: Sequence[str]) -> Config:
    """The settings of a DOOF run that a baseline takes MOPO's place in; raises UserError for what does not fit."""
    parser = argparse.ArgumentParser(add_help=False)  # which knows an abbreviated --algo, as the command does
    parser.add_argument("--algo", default="iql")
    parser.add_argument("--doof", action="store_true")
    given, rest = parser.parse_known_args(argv)
    if given.algo not in ("iql", IN_MODEL):
        raise UserError(f"--doof is built for --algo iql alone, not for {given.algo}")
    return parse_args(__doc__ or "", ["--algo", IN_MODEL, *rest])
