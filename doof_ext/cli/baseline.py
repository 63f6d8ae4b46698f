"""A baseline of Table 3 on a task: offline pretraining, online finetuning (ON-10K), offline finetuning (OFF-300K).

python run_example/run_baseline.py --algo iql --task hopper-medium-v2 --preset lite
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doof_ext.cli.exit_code import exit_code_of_run
from doof_ext.config import BaselineConfig, parse_settings


def main(argv: Sequence[str] | None = None, command: str = "run_baseline.py") -> int:
    """Runs a baseline from a command line; returns the exit code."""

    def run() -> tuple[dict[str, Any], str]:
        config = parse_settings(__doc__ or "", argv, BaselineConfig)
        from doof_ext.baselines.run import run  # torch and the simulator are imported only for a run that can start

        return run(config)

    return exit_code_of_run(command, run)
