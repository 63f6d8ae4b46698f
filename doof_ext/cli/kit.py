"""python -m doof_ext PATH/run_mopo.py --task hopper-medium-v2 [the runner's flags] [--doof-preset smoke …]

Runs one of OfflineRL-Kit's model-based runners (run_mopo.py, run_mobile.py) as it is, with DOOF's stages 2-5 after its
pretraining. run_doof.py's flags follow with the prefix --doof-; the preset rules what the runner leaves open: dataset
size, dynamics epochs, stages 2-5.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from doof_ext.cli.exit_code import exit_code_of_run, print_anywhere


def main(argv: Sequence[str] | None = None, command: str = "doof_ext") -> int:
    """Runs a runner of the kit from a command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["-h"], ["--help"]):
        print_anywhere()
        print(__doc__)
        return 0

    def run() -> tuple[dict[str, Any], str]:
        from doof_ext.plugin.runner import run_kit_script

        return run_kit_script(arguments)

    return exit_code_of_run(command, run, "--doof-resume")
