"""SIGINT and SIGTERM: the first asks a run to stop after its present step, the second stops it at once."""

import contextlib
import os
import signal
from contextlib import contextmanager

from doof_ext.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether a signal has asked the run to stop."""

    signal = None

    def stop(self):
        """Raises Interrupted."""
        raise Interrupted(self.signal)

    @contextmanager
    def noted(self):
        """While it lasts, a first signal is noted here; a second one ends the process as if nothing were installed."""
        try:
            before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        except ValueError:  # not the main thread: signals are somebody else's
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number, frame):
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.signal = number
        with contextlib.suppress(OSError):  # whoever reads it may have been stopped by the same signal
            os.write(2, b"\nfinishing the present step, then saving; once more to stop at once\n")
