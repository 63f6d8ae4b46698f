"""DOOF (Decoupled Offline to Online Finetuning) on a task, from offline pretraining to the finetuned policy.

python run_example/run_doof.py --task hopper-medium-v2 --preset quick
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doof_ext.cli.exit_code import exit_code_of_run
from doof_ext.config import Config, parse_args
from doof_ext.config.settings import IN_MODEL


def main(argv: Sequence[str] | None = None, command: str = "run_doof.py") -> int:
    """Runs DOOF from a command line; returns the exit code."""

    def run() -> tuple[dict[str, Any], str]:
        return run_config(parse_args(__doc__ or "", argv))

    return exit_code_of_run(command, run)


def run_config(config: Config) -> tuple[dict[str, Any], str]:
    """A run of any algorithm; torch and the simulator are imported only now, for a run that can start."""
    if config.algo == IN_MODEL:
        from doof_ext.baselines import in_model

        return in_model.run(config)
    from doof_ext import pipeline

    return pipeline.run(config)
