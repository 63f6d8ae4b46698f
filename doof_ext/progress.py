"""What a user sees of long work: a bar per stage with the time left and the last score, a line per epoch in the log."""

import time

from tqdm import tqdm


class StageProgress:
    """A bar on the terminal's standard error; where there is no terminal, the lines alone tell the time left."""

    def __init__(self, title, total, logger, unit="epoch"):
        """``total`` is None where the end is not known, as with early stopping."""
        self._title, self._total, self._logger = title, total, logger
        self._started, self._first = time.time(), None  # what this process did first
        self._bar = tqdm(total=total, desc=title, unit=unit, disable=None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def reach(self, done, **facts):
        """``done`` of all are done by now; ``facts`` are the latest figures, by name."""
        if self._first is None:
            self._first = self._bar.initial = done - 1
        self._bar.set_postfix_str(", ".join(f"{name} {value}" for name, value in facts.items()), refresh=False)
        self._bar.update(done - self._bar.n)

    def report(self, done, **facts):
        """As :meth:`reach`, with a line in the log that says what came of it and how long the rest takes."""
        self.reach(done, **facts)
        figures = ", ".join(f"{name} {value}" for name, value in facts.items())
        left = ""
        if self._total and done < self._total:
            seconds = (time.time() - self._started) / (done - self._first) * (self._total - done)
            left = f", {int(seconds // 60)}:{int(seconds % 60):02d} left"
        of_total = f"/{self._total}" if self._total else ""
        with tqdm.external_write_mode():
            self._logger.log(f"{self._title} {done}{of_total}: {figures}{left}")
