"""A Weights & Biases run beside a run directory; never asks, never waits for a network it does not have."""

import contextlib
import dataclasses
import netrc
import os
import uuid

from doof_ext.files import publish


def resolve_mode(mode: str) -> str:
    """``auto`` as online where an API key is set up, else offline; the other modes as they are."""
    if mode != "auto":
        return mode
    return "online" if os.environ.get("WANDB_API_KEY") or _key_in_netrc() else "offline"


def _key_in_netrc():
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def start(config, run_dir):
    """The :class:`WandbRun` of a run directory, new or going on, or None where it is off."""
    mode = resolve_mode(config.wandb)
    if mode == "off":
        return None
    import wandb

    ledger = _Ledger(os.path.join(run_dir, "record", "wandb_rows.txt"))
    settings = dict(silent=True, init_timeout=20, console="off")
    arguments = dict(
        project="doof_ext", name=f"{config.task}-seed{config.seed}", dir=run_dir, config=dataclasses.asdict(config),
        id=ledger.run_id, resume="allow",
    )  # fmt: skip
    try:
        run = wandb.init(mode=mode, settings=wandb.Settings(**settings), **arguments)
    except wandb.errors.Error as error:
        if mode == "offline":
            raise
        print(f"W&B cannot be reached ({error}); this run is logged offline, for `wandb sync` later")
        run = wandb.init(mode="offline", settings=wandb.Settings(**settings), **arguments)
    return WandbRun(run, ledger)


class _Ledger:
    """A file with W&B's id of the run and how many rows it was given, for a run that goes on."""

    def __init__(self, path):
        self._path, self.run_id, self.rows = path, uuid.uuid4().hex[:8], 0
        with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
            run_id, rows = file.read().split()
            self.run_id, self.rows = run_id, int(rows)

    def write(self, rows):
        self.rows = rows
        publish(self._path, lambda file: file.write(f"{self.run_id} {rows}\n".encode()))


class WandbRun:
    """W&B's run; a row that it was given before a run went on is not given again."""

    def __init__(self, run, ledger):
        self._run, self._ledger = run, ledger
        self._known = max(ledger.rows, run.step if run.resumed else 0)
        self.rows = 0  # of this run's history, those before it went on included

    def log(self, row):
        """Adds a row, a dict of numbers by name, under its number in the run's history."""
        number, self.rows = self.rows, self.rows + 1
        if number >= self._known:
            self._run.log(row, step=number, commit=True)
            self._ledger.write(self.rows)

    def describe(self, facts):
        """Adds to the run's settings."""
        self._run.config.update(facts, allow_val_change=True)

    def summarise(self, summary):
        """Takes what a reader looks for first from the run's summary."""
        shown = ("dataset", "physics", "scores", "gain", "distance")
        self._run.summary.update({name: summary[name] for name in shown})

    def finish(self):
        """Closes the run."""
        self._run.finish()
