"""One run of a sweep: a process of its own, started, watched, resumed and stopped from the outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import doof_ext
from doof_ext.config import BaselineConfig, Config, RunSettings, given_flags
from doof_ext.config.baseline_settings import METHODS
from doof_ext.config.parser import settings_from
from doof_ext.errors import UserError
from doof_ext.experiment.run_directory import lock
from doof_ext.sweep.plan import RecordedRun, find_run
from doof_ext.sweep.progress import Metric, read_progress

_LAST_SAVE = 600  # seconds that a run which was told to stop may take to save
_START = "import sys; sys.path.remove(''); from doof_ext.cli.attached import main; sys.exit(main())"
PACKAGES = os.path.dirname(os.path.dirname(os.path.abspath(doof_ext.__file__)))
"""Where this doof_ext is, which the runs are to have, and not one in the working directory."""


class ProcessDiedError(RuntimeError):
    """A run's process was killed, or lost with its machine: the run can go on from its last checkpoint."""


class SweptRun:
    """A run of the log directory, carried on from where it is by a process of its own.

    Args:
        argv: The flags of run_doof.py, or with a baseline's ``--algo`` those of run_baseline.py.
        pretrained: The run directory to take stage 1 from, where another run has it.
        folder: The working directory.
        study: A file that the sweep has written; where it is not seen, the log directory is not shared.
        threads: torch's.
        nice: Added to the niceness.
        environment: Environment variables to set.
        metric: What a search judges it by; each epoch is then reported, one after another, also those of earlier.
    """

    def __init__(
        self,
        argv: Sequence[str],
        pretrained: str | None,
        folder: str,
        study: str,
        threads: int,
        nice: int,
        environment: Mapping[str, str],
        metric: Metric | None = None,
    ) -> None:
        self._argv, self._pretrained, self._folder, self._study = list(argv), pretrained, folder, study
        self._threads, self._nice, self._environment, self._metric = threads, nice, environment, metric
        is_baseline = "--algo" in argv and argv[argv.index("--algo") + 1] in METHODS
        settings: type[RunSettings] = BaselineConfig if is_baseline else Config
        self._command = "baseline" if is_baseline else "run"
        self._config = settings_from(given_flags(argv, settings=settings), settings)
        self._found: RecordedRun | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._told = 0  # points of the metric
        self._death = ""

    def next(self, seconds: float = 1.0) -> dict[str, Any]:
        """What there is to tell after at most ``seconds``.

        Returns:
            ``state`` (running, finished, failed), ``reason`` of a failure or death, ``directory``, ``pretrained``
            (whether stage 1 is there for others), the fields of Progress, and one point of the metric.

        Raises:
            ProcessDiedError: The process was killed, as the last answer said.
        """
        if self._death:
            raise ProcessDiedError(self._death)
        if not os.path.exists(self._study):
            return _failed(f"{self._study} is not to be seen here: all machines must share the log directory")
        code = None
        if not self._untold():
            try:
                code = self._carry_on(seconds)
            except UserError as error:  # another process is at work in the run's directory
                return _failed(str(error))
        found, points = self._find(), self._untold()
        if code is not None and not (found and found.finished):
            return self._end(code)
        self._told += bool(points)
        news: dict[str, Any] = {"state": "running" if code is None or points else "finished"}
        if found is not None:
            news |= {"directory": found.directory, "pretrained": found.pretrained}
            news |= vars(read_progress(found.directory))
        return news | (points[0] if points else {})

    def _find(self) -> RecordedRun | None:
        """The run's directory, once it has one."""
        self._found = self._found or find_run(self._config)
        return self._found

    def _untold(self) -> list[dict[str, Any]]:
        """Points of the metric that are still to be told."""
        found = self._find()
        return self._metric.read(found.directory)[self._told :] if self._metric and found else []

    def _carry_on(self, seconds: float) -> int | None:
        """Starts the process of an unfinished run, and waits for its end; its exit code, None while it runs."""
        found = self._find()
        if self._process is None:
            if found is not None and found.finished:
                return 0
            self._process = self._start(found)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def _start(self, found: RecordedRun | None) -> subprocess.Popen[bytes]:
        if found is not None:
            with lock(found.directory, timeout=_LAST_SAVE):  # what was started before may still be saving
                pass
            argv = ["--resume", found.directory]
        else:
            argv = [*self._argv, *(["--pretrained", self._pretrained] if self._pretrained else [])]
        niceness = ["nice", "-n", str(self._nice)] if self._nice else []
        command = [*niceness, sys.executable, "-c", _START, self._command, *argv, "--threads", str(self._threads)]
        threads = {name: str(self._threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        path = os.pathsep.join(filter(None, [PACKAGES, os.environ.get("PYTHONPATH")]))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        return subprocess.Popen(
            command,
            cwd=self._folder,
            env={**os.environ, **threads, **self._environment, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,  # a terminal's Ctrl-C is the sweep's
        )

    def _end(self, code: int) -> dict[str, Any]:
        """The news of a process that ended without the run's: a failure that would come again, or a death."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if code in (0, 1, 2):
            reason = (
                (lines[-1] if lines else f"exit code {code}")
                .removeprefix(f"doof {self._command}: ")
                .removeprefix("error: ")
            )
            return _failed(reason)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._death = f"its process {how}"
        return {"state": "running", "reason": self._death}

    def stop(self) -> None:
        """Has the process save the run and end, and waits for that."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_LAST_SAVE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _failed(reason: str) -> dict[str, Any]:
    return {"state": "failed", "reason": reason}
