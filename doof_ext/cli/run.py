"""DOOF (Decoupled Offline to Online Finetuning) on a task, from offline pretraining to the finetuned policy.

python run_example/run_doof.py --task hopper-medium-v2 --preset quick
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doof_ext.cli.exit_code import exit_code_of_run
from doof_ext.config import parse_args


def main(argv: Sequence[str] | None = None, command: str = "run_doof.py") -> int:
    """Runs DOOF from a command line; returns the exit code."""

    def run() -> tuple[dict[str, Any], str]:
        config = parse_args(__doc__ or "", argv)
        from doof_ext import pipeline  # torch and the simulator are imported only for a run that can start

        return pipeline.run(config)

    return exit_code_of_run(command, run)
