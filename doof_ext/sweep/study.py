"""Where every run of a sweep is: lines as it happens, a table on a terminal, and ``study.json``."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from doof_ext.files import write_json
from doof_ext.sweep.estimate import StageCost, seconds_done
from doof_ext.sweep.plan import PlannedRun
from doof_ext.sweep.progress import Progress

_EVERY = 5.0  # seconds between two looks of the table on a terminal, and two writes of study.json
_UNFINISHED = ("waiting", "running", "saved")


@dataclass
class RunStatus:
    """A run of the sweep and where it is.

    Attributes:
        state: waiting, running, finished, failed, stopped (by ASHA) or saved (for a signal).
        stages: What it costs, by the estimate.
        reason: Of a failure, or of the last death.
        restarts: How often it was started again.
        metric: What a search judges it by, the last one.
    """

    run: PlannedRun
    state: str = "waiting"
    directory: str = ""
    progress: Progress = field(default_factory=Progress)
    stages: Sequence[StageCost] = ()
    reason: str = ""
    restarts: int = 0
    metric: float | None = None
    _since: tuple[float, float] | None = None  # the time of the first progress here, and what was done by then

    def update(self, news: Mapping[str, Any]) -> None:
        """Takes over what SweptRun.next tells."""
        self.state, self.directory = news["state"], news.get("directory", self.directory)
        self.reason = news.get("reason", "")
        if "stage" in news:
            self.progress = Progress(*(news[name] for name in ("stage", "round", "epoch", "epochs", "score")))
        if self._since is None and self.progress.stage:
            self._since = time.time(), self._done()

    def _done(self) -> float:
        return seconds_done(self.stages, self.progress)

    @property
    def seconds_left(self) -> float:
        """By the estimate, corrected by how fast it has been here; 0 for a run that is over."""
        if self.state not in _UNFINISHED:
            return 0.0
        done = self._done()
        left = sum(cost.total for cost in self.stages) - done
        if self._since is not None and done > self._since[1]:
            return left * (time.time() - self._since[0]) / (done - self._since[1])
        return left

    def row(self) -> dict[str, str]:
        """The cells of its line in a table."""
        progress = self.progress
        stage = progress.stage + (f" (round {progress.round})" if progress.round > 1 else "")
        return {
            "task": self.run.config.task,
            "seed": str(self.run.config.seed),
            "arm": self.run.arm,
            "state": self.state,
            "stage": stage,
            "epoch": f"{progress.epoch}/{progress.epochs or '?'}" if progress.stage else "",
            "score": "" if progress.score is None else f"{progress.score:.1f}",
            "metric": "" if self.metric is None else f"{self.metric:.4g}",
            "left": duration(self.seconds_left) if self.state in _UNFINISHED else "",
        }

    def record(self) -> dict[str, Any]:
        """Its part of study.json."""
        return {
            "task": self.run.config.task,
            "seed": self.run.config.seed,
            "arm": self.run.arm,
            "state": self.state,
            **vars(self.progress),
            "seconds_left": round(self.seconds_left),
            "directory": self.directory,
            "restarts": self.restarts,
            "reason": self.reason,
            "metric": self.metric,
            "flags": self.run.argv,
        }


class Study:
    """All runs of a sweep.

    Args:
        runs: The runs, in the order of the plan.
        path: Of study.json.
        jobs: How many go at a time; None where that is not known yet.
        stream: Where lines and the table go.
    """

    def __init__(self, runs: Sequence[RunStatus], path: str, jobs: int | None, stream: TextIO) -> None:
        self.runs, self.path, self.jobs, self._stream = runs, path, jobs, stream
        self._drawn, self._next = 0, 0.0

    def tell(self, index: int, news: Mapping[str, Any]) -> None:
        """Something new of a run; a line where its state or stage is another."""
        status = self.runs[index]
        before = status.state, status.progress.stage, status.progress.round
        status.update(news)
        if (status.state, status.progress.stage, status.progress.round) != before:
            self.line(f"{status.run}: {_what(status)}")

    def line(self, text: str) -> None:
        """A line with the time, above the table."""
        self.print(f"{time.strftime('%H:%M:%S')} {text}")
        self.refresh(now=True)

    def refresh(self, now: bool = False) -> None:
        """Draws the table anew on a terminal and writes study.json, unless that has just been done."""
        if not now and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY
        content = {"updated": time.strftime("%Y-%m-%d %H:%M:%S"), "runs": [status.record() for status in self.runs]}
        with contextlib.suppress(OSError):  # a full disk, of which the runs themselves tell
            write_json(self.path, content)
        if self._stream.isatty():
            size = shutil.get_terminal_size()
            running = [status.row() | {"state": ""} for status in self.runs if status.state == "running"]
            lines = [*table(running[: max(1, size.lines - 4)]), self.summary()]
            lines = [line[: size.columns - 1] for line in lines]
            self.print("\n".join(lines))
            self._drawn = len(lines)

    def close(self) -> None:
        """The table of all runs, for good."""
        self.refresh(now=True)
        self.print("\n".join([*table([status.row() for status in self.runs]), self.summary()]))

    def summary(self) -> str:
        """How many runs are in which state, and the time left."""
        counts = Counter(status.state for status in self.runs)
        states = ", ".join(f"{count} {state}" for state, count in counts.items())
        left = [status.seconds_left for status in self.runs]
        if not sum(left):
            return states
        together = (
            f", about {duration(max(sum(left) / self.jobs, *left))} with {self.jobs} at a time" if self.jobs else ""
        )
        return f"{states}; {duration(sum(left))} of runs left{together}"

    def _erase(self) -> None:
        if self._drawn:
            print(f"\x1b[{self._drawn}F\x1b[J", end="", file=self._stream)
            self._drawn = 0

    def print(self, text: str) -> None:
        """Writes a text for good."""
        try:
            self._erase()
            print(text, file=self._stream, flush=True)
        except BrokenPipeError:  # the console's reader has exited; the runs go on
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _what(status: RunStatus) -> str:
    """A run's state in words."""
    progress = status.progress
    score = "" if progress.score is None else f", score {progress.score:.1f}"
    if status.state == "running":
        return (progress.stage or "started") + (f", round {progress.round}" if progress.round > 1 else "") + score
    return status.state + (f": {status.reason}" if status.state == "failed" else score)


def table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Rows as aligned lines under their headings; a column without content is left out."""
    if not rows:
        return []
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    lines = [{name: name for name in names}, *rows]
    return ["  ".join(line[name].ljust(widths[name]) for name in names).rstrip() for line in lines]


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"
