"""A run's policy as a folder that needs neither the run nor doof_ext: the network, checked, and policy.json.

python run_example/export_doof.py RUN --format numpy --out my-policy
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from doof_ext.cli.exit_code import exit_code_of
from doof_ext.config import OneLineParser
from doof_ext.deploy import FORMATS, POLICIES


def main(argv: Sequence[str] | None = None, command: str = "export_doof.py") -> int:
    """Exports a policy from a command line; returns the exit code."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run directory")
    parser.add_argument(
        "--format",
        required=True,
        choices=FORMATS,
        help="onnx (needs doof_ext[deploy]), torchscript, or numpy: weights and a reader that needs NumPy alone",
    )
    parser.add_argument("--out", required=True, help="the folder to write: a new one, or an empty one")
    parser.add_argument("--which", default=POLICIES[0], choices=POLICIES, help=f"the policy (default: {POLICIES[0]})")

    def export() -> None:
        args = parser.parse_args(argv)
        from doof_ext.deploy.export import export_policy

        described = export_policy(args.run, args.format, args.out, args.which)
        checked = described["checked"]
        print(
            f"{args.out}: the {args.which} policy of {described['provenance']['task']} in {described['file']}; on "
            f"{checked['observations']} observations within {checked['largest_difference']:.1e} of the run's actions"
        )

    return exit_code_of(command, export)
