"""A Weights & Biases run beside a run directory; never asks, never waits for a network it does not have."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import http.client
import json
import netrc
import os
import shutil
import ssl
import textwrap
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from typing import Any, TextIO

import numpy as np

from doof_ext.config import RunSettings
from doof_ext.files import publish

_PATIENCE = 5  # seconds that W&B's server has for an answer, and a run for its start there


def resolve_mode(mode: str) -> str:
    """``auto`` as online where an API key is set up, else offline; the other modes as they are."""
    if mode != "auto":
        return mode
    return "online" if os.environ.get("WANDB_API_KEY") or _key_in_netrc() else "offline"


def _key_in_netrc() -> bool:
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def start(config: RunSettings, run_dir: str, ledger_path: str) -> WandbLogger | None:
    """The W&B run of a run directory, new or resumed, or None where it is off."""
    mode = resolve_mode(config.wandb)
    if mode == "off":
        return None
    import wandb

    ledger = _Ledger(ledger_path)
    for folder in glob.glob(os.path.join(glob.escape(run_dir), "wandb", f"offline-run-*-{ledger.run_id}")):
        shutil.rmtree(folder)  # a resumed run sends W&B all of its rows again
    if mode == "online" and not _answers(wandb.setup().settings.base_url):
        mode = _offline("its server does not answer")
    if mode == "offline":  # else W&B's telemetry waits for an answer when the process ends
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    arguments: dict[str, Any] = dict(
        settings=wandb.Settings(silent=True, init_timeout=2 * _PATIENCE, console="off"),
        mode=mode,
        project="doof_ext",
        name=f"{config.task}-seed{config.seed}",
        dir=run_dir,
        config=dataclasses.asdict(config),
        id=ledger.run_id,
        resume="allow",
    )
    try:
        run = wandb.init(**arguments)
    except wandb.errors.Error as error:
        if mode == "offline":
            raise
        ledger.run_id = _new_id()  # W&B's service holds the old one until this process ends
        run = wandb.init(**arguments | {"mode": _offline(error), "id": ledger.run_id})
    return WandbLogger(run, ledger)


def _answers(url: str) -> bool:
    """Whether a server answers at ``url`` in time; in a thread, since a name server may be silent for longer."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=_PATIENCE).close()
        except (urllib.error.HTTPError, http.client.HTTPException):
            pass  # it is there; what it thinks of this page is all the same
        except OSError as error:  # W&B may know certificates that Python does not
            if not isinstance(getattr(error, "reason", error), ssl.SSLError):
                return
        answers.append(True)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return bool(answers)


def _offline(reason: object) -> str:
    """The mode of a run that W&B's server is not to be had for, after a line that says so."""
    why = textwrap.shorten(str(reason), 150)
    print(f"W&B cannot be reached ({why}); this run is logged offline, for `wandb sync` later")
    return "offline"


def _new_id() -> str:
    return uuid.uuid4().hex[:8]


class _Ledger:
    """A file with W&B's id of the run and every row that it was sent, so that a resumed run can send them again.

    W&B's own offline file is no such record: what was not yet flushed to it is lost when the process is killed.
    """

    def __init__(self, path: str) -> None:
        self._path, self.run_id = path, _new_id()
        self._file: TextIO | None = None
        self.rows: list[dict[str, float]] = []
        with contextlib.suppress(OSError, ValueError, KeyError), open(path, encoding="utf-8") as file:
            self.run_id = json.loads(file.readline())["id"]
            for line in file:
                self.rows.append(json.loads(line))

    def truncate(self, count: int) -> None:
        """Keeps the first ``count`` rows."""
        self.rows = self.rows[:count]
        lines = [json.dumps(line) + "\n" for line in ({"id": self.run_id}, *self.rows)]
        publish(self._path, lambda file: file.write("".join(lines).encode()))
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the run

    def append(self, row: dict[str, float]) -> None:
        assert self._file is not None
        self.rows.append(row)
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


_STAGES = {1: "pretrain", 2: "explore", 5: "finetune"}
_AXIS = "step"  # of each stage's metrics


def by_stage(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of the run's log under its stage's name (explore/…, finetune/…, dynamics/…), with that stage's step."""
    if "stage" in row:
        prefix = _STAGES[int(row["stage"])]
    elif any(name.startswith("loss/dynamics") for name in row):
        prefix = "dynamics"
    else:
        return row
    return {f"{prefix}/{_AXIS if name == 'timestep' else name}": value for name, value in row.items()}


class WandbLogger:
    """W&B's run. A resumed one is sent again what W&B may have lost, each row under its number: none twice."""

    def __init__(self, run: Any, ledger: _Ledger) -> None:
        self._run, self._ledger = run, ledger
        self._known = run.step if run.resumed else 0  # rows that W&B's server has
        for prefix in (*_STAGES.values(), "dynamics"):
            run.define_metric(f"{prefix}/*", step_metric=f"{prefix}/{_AXIS}")

    @property
    def rows(self) -> int:
        """How many rows the run's history has."""
        return len(self._ledger.rows)

    def resume_from(self, rows: int) -> None:
        """Keeps the first ``rows`` rows, 0 for a new run."""
        self._ledger.truncate(rows)
        for number, row in enumerate(self._ledger.rows):
            self._send(row, number)

    def log(self, row: Mapping[str, Any]) -> None:
        """Adds a row, a dict of numbers by name."""
        self._ledger.append({name: float(value) for name, value in row.items()})
        self._send(row, self.rows - 1)

    def _send(self, row: Mapping[str, Any], number: int) -> None:
        if number >= self._known:
            self._run.log(row, step=number, commit=True)

    def describe(self, settings: Mapping[str, Any]) -> None:
        """Adds to the run's settings."""
        self._run.config.update(settings, allow_val_change=True)

    def summarise(
        self,
        summary: Mapping[str, Any],
        distances: Mapping[str, Mapping[str, np.ndarray]],
        files: Mapping[str, tuple[str, list[str]]],
    ) -> None:
        """Sends what a reader looks for at a run's end.

        Args:
            summary: The run's summary.
            distances: The dynamics distances, {kind: {"before" | "after": array}}.
            files: Files by the name of the artifact they make up, {name: (type, paths)}.
        """
        import wandb

        columns = ("last_10", "mean", "std", "best", "length")
        rows = [[name, *(score[column] for column in columns)] for name, score in summary["scores"].items()]
        table = wandb.Table(columns=["policy", "score", "last", "std", "best", "length"], data=rows)
        histograms = {
            f"distance/{kind}/{when}": wandb.Histogram(np_histogram=np.histogram(column, bins=40))
            for kind, both in distances.items()
            for when, column in both.items()
            if len(column)
        }
        self._run.log({"final/scores": table, **histograms}, step=self.rows, commit=True)
        shown = ("dataset", "physics", "scores", "gain", "gain_over", "model_return", "distance")
        self._run.summary.update({name: summary[name] for name in shown})
        for name, (kind, paths) in files.items():
            artifact = wandb.Artifact(f"{name}-{self._run.id}", type=kind, metadata=summary["dataset"])
            for path in paths:
                artifact.add_file(path, policy="immutable")  # no copy of it elsewhere
            self._run.log_artifact(artifact)

    def finish(self) -> None:
        """Closes the run."""
        self._ledger.close()
        self._run.finish()
