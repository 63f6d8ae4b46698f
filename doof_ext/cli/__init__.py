"""The command ``doof``: each subcommand is the code of a script in ``run_example/``, installed with the package.

    doof run        a DOOF run (run_doof.py)
    doof baseline   a baseline under the same protocol (run_baseline.py)
    doof data       makes, converts and describes datasets (make_dataset.py)
    doof report     figures, tables and a page for run directories (report_doof.py)
    doof tune       many runs on Ray (tune_doof.py)
    doof export     a run's policy as a folder of its own (export_doof.py)
    doof kit        OfflineRL-Kit's own runners with DOOF plugged in (python -m doof_ext)

``doof COMMAND --help`` lists a command's flags.
"""

import importlib
import sys
from collections.abc import Sequence

from doof_ext.cli.exit_code import exit_code_of, print_anywhere
from doof_ext.errors import UserError

_COMMANDS = {
    "run": "doof_ext.cli.run",
    "baseline": "doof_ext.cli.baseline",
    "data": "doof_ext.cli.data",
    "report": "doof_ext.cli.report",
    "tune": "doof_ext.cli.tune",
    "export": "doof_ext.cli.export",
    "kit": "doof_ext.cli.kit",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand; returns the exit code."""
    name, *arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print_anywhere()
        print(__doc__)
        return 0
    if name not in _COMMANDS:
        return exit_code_of("doof", lambda: _refuse(name))
    command = importlib.import_module(_COMMANDS[name])
    return command.main(arguments, f"doof {name}")


def _refuse(name: str) -> None:
    raise UserError(f"unknown command {name!r}; choose {', '.join(_COMMANDS)}, or --help")
