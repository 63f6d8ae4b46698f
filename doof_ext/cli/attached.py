"""``doof run`` or ``doof baseline`` in a sweep: the run saves itself and ends when the process that started it is gone.

That process holds the other end of this one's standard input, which closes however it ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from doof_ext.cli import baseline, run


def _end_with_starter() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Runs what the command line says after its subcommand, run or baseline; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # until the run handles it
    threading.Thread(target=_end_with_starter, daemon=True).start()
    sys.argv[0] = "doof"  # the command by hand, for the summary
    name, arguments = sys.argv[1], sys.argv[2:]
    return {"run": run, "baseline": baseline}[name].main(arguments, f"doof {name}")
