"""Every figure and table of the paper, for your runs, and one page to share.

python run_example/report_doof.py log --out report
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from doof_ext.cli.exit_code import exit_code_of
from doof_ext.config import OneLineParser


def main(argv: Sequence[str] | None = None, command: str = "report_doof.py") -> int:
    """Writes a report from a command line; returns the exit code."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logdir", nargs="+", type=os.path.expanduser, help="log directories or run directories")
    parser.add_argument(
        "--out", default="report", type=os.path.expanduser, help="the folder to write (default: report)"
    )
    parser.add_argument(
        "--mix", action="store_true", help="let runs of different presets, provenance or physics stand in one aggregate"
    )

    def report() -> None:
        args = parser.parse_args(argv)
        from doof_ext.report.page import write_report

        print(write_report(args.logdir, args.out, args.mix, warn=lambda line: print(line, file=sys.stderr)))

    return exit_code_of(command, report)
