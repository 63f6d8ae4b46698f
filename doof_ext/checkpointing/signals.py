"""SIGINT and SIGTERM: the first asks a run to stop after its present step, the second stops it at once."""

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from doof_ext.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SignalWatcher:
    """Whether a signal has asked the run to stop: ``received`` is its number, None before."""

    def __init__(self) -> None:
        self.received: int | None = None

    def raise_interrupted(self) -> NoReturn:
        """Raises Interrupted for the signal received."""
        assert self.received is not None
        raise Interrupted(self.received)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While it lasts, a first signal is recorded; a second one ends the process as without a handler."""
        try:
            before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        except ValueError:  # not the main thread: signals are another's to handle
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.received = number
        with contextlib.suppress(OSError):  # whoever reads it may have been stopped by the same signal
            os.write(2, b"\nfinishing the present step, then saving; once more to stop at once\n")
