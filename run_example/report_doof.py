"""Every figure and table of the paper, for your runs, and one page to share.

python run_example/report_doof.py log --out report
"""

import argparse
import sys

from doof_ext.config import OneLineParser
from doof_ext.errors import UserError


def main():
    """Returns the exit code."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logdir", nargs="+", help="log directories or run directories")
    parser.add_argument("--out", default="report", help="the folder to write (default: report)")
    parser.add_argument("--mix", action="store_true",
                        help="let runs of different presets, provenance or physics stand in one aggregate")  # fmt: skip
    try:
        args = parser.parse_args()
        from doof_ext.analysis.report import write_report

        print(write_report(args.logdir, args.out, args.mix, say=lambda line: print(line, file=sys.stderr)))
    except UserError as error:
        print(f"report_doof.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
