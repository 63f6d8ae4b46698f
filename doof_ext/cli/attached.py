"""``doof run`` as a part of a sweep: the run saves itself and ends when the process that started it is gone.

That process holds the other end of this one's standard input, which closes however it ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from doof_ext.cli import run


def _end_with_starter() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Runs DOOF from the command line; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # until the run handles it
    threading.Thread(target=_end_with_starter, daemon=True).start()
    sys.argv = ["doof", "run", *sys.argv[1:]]  # the command by hand, for the summary
    return run.main(sys.argv[2:], "doof run")
