"""What a user sees of long work: a bar per stage with the time left and the last score, a line per epoch in the log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm


class StageProgress:
    """A bar on the terminal's standard error; where there is no terminal, the lines alone tell the time left.

    Args:
        title: The stage.
        total: How many epochs or steps it has; None where that is not known, as with early stopping.
        logger: Where lines go.
        unit: What is counted.
    """

    def __init__(self, title: str, total: int | None, logger: Any, unit: str = "epoch") -> None:
        self._title, self._total, self._logger = title, total, logger
        self._started = time.time()
        self._first: int | None = None  # what this process did first
        self._bar = tqdm(total=total, desc=title, unit=unit, disable=None)

    def __enter__(self) -> StageProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, done: int, **figures: str) -> None:
        """``done`` of all are done by now; ``figures`` are the latest, by name."""
        if self._first is None:
            self._first = self._bar.initial = done - 1
        self._bar.set_postfix_str(", ".join(f"{name} {value}" for name, value in figures.items()), refresh=False)
        self._bar.update(done - self._bar.n)

    def report(self, done: int, **figures: str) -> None:
        """As :meth:`update`, with a line in the log that has the figures and the time left."""
        self.update(done, **figures)
        assert self._first is not None
        left = ""
        if self._total and done < self._total:
            seconds = (time.time() - self._started) / (done - self._first) * (self._total - done)
            left = f", {int(seconds // 60)}:{int(seconds % 60):02d} left"
        of_total = f"/{self._total}" if self._total else ""
        listed = ", ".join(f"{name} {value}" for name, value in figures.items())
        with tqdm.external_write_mode():
            self._logger.log(f"{self._title} {done}{of_total}: {listed}{left}")


def dynamics_epochs(progress: StageProgress) -> Callable[[int, float, float], None]:
    """Reports an epoch of dynamics training: its number, training loss and held-out loss."""
    return lambda epoch, train, holdout: progress.report(epoch, loss=f"{train:.2f}", holdout=f"{holdout:.4g}")


def policy_epochs(progress: StageProgress) -> Callable[[int, Any, Any], None]:
    """Reports an epoch of policy training: its number, evaluation and estimate in the model, None without one."""

    def report(epoch: int, evaluation: Any, estimate: Any) -> None:
        figures = {}
        if evaluation is not None:
            figures["score"] = f"{evaluation.mean:.1f} ± {evaluation.std:.1f}"
        if estimate is not None:
            mean, spread = estimate.figures["mean"], estimate.figures["spread"]
            figures["model return"] = f"{mean:.4g} ± {spread:.2g}" if math.isfinite(mean) else "none, an elite diverges"
        progress.report(epoch, **figures)

    return report
