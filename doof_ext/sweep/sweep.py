"""A sweep from its plan to its report."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from doof_ext.checkpointing.signals import SignalWatcher
from doof_ext.errors import RunStoppedError, UserError
from doof_ext.experiment.run_directory import check_logdir, lock
from doof_ext.parallel import cores
from doof_ext.sweep.estimate import UNCAPPED_EPOCHS, costs, measure_all
from doof_ext.sweep.plan import PlannedRun, Queue, check_data_files, find_run, recorded_runs
from doof_ext.sweep.progress import Metric, read_progress
from doof_ext.sweep.search import Search
from doof_ext.sweep.study import RunStatus, Study, duration, table

_PASSED_ON = ("DOOF_", "D4RL_")  # how the environment variables begin that runs on other machines need
_CAVEAT = (
    "for cores with nothing else to do, without making data; episodes count with their time limit, and dynamics "
    f"training without a cap with {UNCAPPED_EPOCHS} epochs"
)


@dataclass(frozen=True)
class Options:
    """How a sweep is run.

    Attributes:
        logdir: Where run directories, study.json and the report go.
        threads: Of each run.
        jobs: Runs at a time; None for as many as the cores are enough for.
        nice: Added to the niceness of each run.
        address: Of a Ray cluster.
        max_failures: Restarts of a run whose process or machine died.
        mix: Whether the report averages over presets, provenance and physics.
        dry_run: Whether to stop after the plan.
        search: What the runs were drawn by.
        metric: What ASHA judges them by.
    """

    logdir: str
    threads: int = 1
    jobs: int | None = None
    nice: int = 0
    address: str | None = None
    max_failures: int = 3
    mix: bool = False
    dry_run: bool = False
    search: Search | None = None
    metric: Metric | None = None


def sweep(runs: Sequence[PlannedRun], options: Options, stream: TextIO | None = None) -> None:
    """Prints the plan, does what is left of it, and writes the report.

    Args:
        runs: The plan.
        options: How.
        stream: Where the plan, the lines and the tables go; standard output by default.

    Raises:
        UserError: --logdir cannot be written, a data file is missing, or Ray is not to be had; nothing was run.
        RunStoppedError: Runs failed.
        Interrupted: A signal has come; all runs are saved.
    """
    check_logdir(options.logdir)
    if options.address is not None:
        check_address(options.address)
    elif options.jobs is None:
        options = dataclasses.replace(options, jobs=max(1, cores() // options.threads))
    tasks = {run.config.task for run in runs}
    queue = Queue(runs, [run for task in tasks for run in recorded_runs(options.logdir, task)])
    statuses = [_status(run) for run in runs]
    started = time.perf_counter()
    estimate(statuses, queue, options.threads, device=options.address and "cpu")  # a cluster's GPUs may be elsewhere
    measured = time.perf_counter() - started
    study = Study(statuses, os.path.join(options.logdir, "study.json"), options.jobs, stream or sys.stdout)
    with _held(options):
        for line in plan_lines(study, queue, measured):
            study.print(line)
        check_data_files(status.run for status in statuses if status.state != "finished")
        if options.dry_run:
            return
        _run(queue, study, options)
    _write_report(study, options)
    failed = [status for status in study.runs if status.state == "failed"]
    for status in failed:
        study.print(f"failed: {status.run}: {status.reason}")
    if failed:
        raise RunStoppedError(f"{len(failed)} of {len(study.runs)} runs failed; the same command tries them again")


def check_address(address: str) -> None:
    """Raises UserError where no cluster answers at HOST:PORT, for which Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not (host and port.isdecimal()) or "/" in host:
        raise UserError(f"--ray-address {address}: give HOST:PORT, or auto on one of the cluster's machines")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--ray-address {address}: no cluster answers there ({error})") from error


def _held(options: Options) -> contextlib.AbstractContextManager[object]:
    """The log directory, held for this sweep; nothing for a dry run.

    Raises:
        UserError: It cannot be written, or another sweep is at work there.
    """
    if options.dry_run:
        return contextlib.nullcontext()
    try:
        os.makedirs(options.logdir, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {options.logdir} ({error.strerror}); choose another --logdir") from error
    return lock(options.logdir)


def _status(run: PlannedRun) -> RunStatus:
    """A run as the log directory has it."""
    found = find_run(run.config)
    if found is None:
        return RunStatus(run)
    state = "finished" if found.finished else "waiting"
    return RunStatus(run, state, found.directory, read_progress(found.directory))


def estimate(statuses: Sequence[RunStatus], queue: Queue, threads: int, device: str | None) -> None:
    """Gives each run that is not finished what its stages cost; the first to need a stage 1 pays for it."""
    left = [status for status in statuses if status.state != "finished"]
    rates = measure_all([status.run for status in left], threads, device)
    paid = set(queue.pretrained)
    for status in left:
        shared = status.run.stage1 in paid and not status.progress.stage.startswith("1 ")
        status.stages = costs(status.run.config, rates[status.run], shared)
        paid.add(status.run.stage1)


def plan_lines(study: Study, queue: Queue, measured: float) -> list[str]:
    """The plan as it is printed: a row per run with the time it takes, and what they come to."""
    rows, trained = [], set(queue.pretrained)
    for status in study.runs:
        row = {name: status.row()[name] for name in ("task", "seed", "arm")}
        if status.state == "finished":
            row |= {"run": "finished", "stage 1": "", "time": ""}
        else:
            row["run"] = "to be resumed" if status.directory else "new"
            row["stage 1"] = "shared" if status.run.stage1 in trained else "trained"
            row["time"] = duration(status.seconds_left)
        trained.add(status.run.stage1)
        rows.append(row)
    pretrainings = len({status.run.stage1 for status in study.runs})
    count = f"{_count(len(rows), 'run')}, {_count(pretrainings, 'pretraining')}"
    how = f"estimated from {measured:.0f} s of measurement here, {_CAVEAT}"
    return [*table(rows), f"{count}; {study.summary()}", how]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _run(queue: Queue, study: Study, options: Options) -> None:
    """Runs what is not finished; a search also goes again through what is, for ASHA to know it."""
    if options.search is None:
        finished = {status.run for status in study.runs if status.state == "finished"}
        queue.waiting = [run for run in queue.waiting if run not in finished]
    if not queue.waiting:
        return
    from doof_ext.sweep import engine

    signals = SignalWatcher()
    shared = {
        "folder": os.getcwd(),
        "study": study.path,
        "threads": options.threads,
        "nice": options.nice,
        "environment": {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)},
        "metric": options.metric,
    }
    study.jobs = engine.connect(options.address, options.jobs, options.threads)
    try:
        study.refresh(now=True)
        with signals.watching():
            engine.run_trials(queue, study, shared, signals, options.max_failures, options.search)
    finally:
        engine.disconnect()
    if signals.received is None:
        study.close()
        return
    for status in study.runs:
        if status.state == "running":
            status.state = "saved"
            if status.directory:
                with lock(status.directory, timeout=600):  # whoever has it is still saving
                    pass
    study.close()
    study.print(f"all runs are saved; go on with: {shlex.join(sys.orig_argv)}")
    signals.raise_interrupted()


def _write_report(study: Study, options: Options) -> None:
    """The report on the finished runs; a line instead where there can be none."""
    directories = [status.directory for status in study.runs if status.state == "finished"]
    if not directories:
        return
    from doof_ext.report.page import write_report

    out = os.path.join(options.logdir, "report")
    try:
        study.print(f"report: {write_report(directories, out, options.mix)}")
    except UserError as error:
        study.print(f"no report: {error}")
