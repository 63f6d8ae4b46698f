"""The sweep on Ray Tune: a trial per run, which Ray places, restarts where its process or machine dies, and ends.

Ray does the scheduling. What it is told here is which run may start next (a searcher), what a run's process says (a
trainable), and to stop everything when a signal asks for it (a stopper).
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from typing import Any

from doof_ext.checkpointing.signals import SignalWatcher
from doof_ext.errors import UserError
from doof_ext.sweep.plan import PlannedRun, Queue
from doof_ext.sweep.progress import Metric, gradient_steps
from doof_ext.sweep.search import Search
from doof_ext.sweep.study import Study
from doof_ext.sweep.swept_run import PACKAGES

os.environ.update(  # read when Ray is imported or started
    RAY_USAGE_STATS_ENABLED="0",  # nothing is sent anywhere
    RAY_worker_niceness="0",  # 15 by default
    RAY_CHDIR_TO_TRIAL_DIR="0",
    RAY_DEDUP_LOGS_SKIP_REGEX=".*",  # what its daemons have to say is in Ray's own logs
    RAY_AIR_NEW_OUTPUT="0",  # the other one prints at every verbosity
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",  # runs have logs of their own
    TUNE_DISABLE_STRICT_METRIC_CHECKING="1",  # the metric comes with the first epoch
    TUNE_DISABLE_SIGINT_HANDLER="1",
    TUNE_PRINT_ALL_TRIAL_ERRORS="0",
)

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import Searcher

from doof_ext.sweep.trial import Trial

_STORE = 80 * 2**20  # bytes of Ray's object store; about its least, since only a few numbers go through it
_STARTS = 3  # of Ray, before it cannot be started
_LOST = "its worker or its machine was lost"


class _Order(Searcher):
    """Gives Ray Tune the plan's runs, each when its stage 1 is there or its own to train."""

    def __init__(self, queue: Queue, study: Study, shared: Mapping[str, Any]) -> None:
        super().__init__()
        self._queue, self._study, self._shared = queue, study, shared
        self._index = {status.run: index for index, status in enumerate(study.runs)}
        self._running: dict[str, PlannedRun] = {}

    def suggest(self, trial_id: str) -> Any:
        if not self._queue.waiting:
            return Searcher.FINISHED
        run = self._queue.take()
        if run is None:
            return None
        self._running[trial_id] = run
        started = {"argv": run.argv, "pretrained": self._queue.pretrained.get(run.stage1), **self._shared}
        return {"index": self._index[run], "gpus": int(run.config.device == "cuda"), "run": started}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        if result.get("pretrained"):
            self._queue.stage1_is_there(self._running[trial_id], result["directory"])

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        run = self._running.pop(trial_id)
        if result and result.get("pretrained"):
            self._queue.stage1_is_there(run, result["directory"])
        state = "stopped" if result and result["state"] == "running" else "failed"  # by ASHA, or by itself
        for lost in self._queue.ended(run):
            reason = f"its stage 1 is that of {run}, which did not end it"
            self._study.tell(self._index[lost], {"state": state, "reason": reason})

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the log directory says what has been done."""
        open(checkpoint_path, "wb").close()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""


class _Watcher(tune.Callback):
    """Passes on to the study what Ray Tune hears of the trials."""

    def __init__(self, study: Study, metric: Metric | None) -> None:
        self._study, self._metric = study, metric

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Mapping[str, Any], **info: Any) -> None:
        index = trial.config["index"]
        if self._metric is not None and self._metric.name in result:
            self._study.runs[index].metric = result[self._metric.name]
        stopped = {"state": "stopped"} if result.get("done") and result["state"] == "running" else {}
        self._study.tell(index, {**result, **stopped})

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        status = self._study.runs[trial.config["index"]]
        status.restarts += 1
        self._study.line(f"{status.run}: {status.reason or _LOST}; it goes on from its last checkpoint")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        index = trial.config["index"]
        self._study.tell(index, {"state": "failed", "reason": self._study.runs[index].reason or _LOST})

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        self._study.refresh()


class _StopAtSignal(tune.Stopper):
    def __init__(self, signals: SignalWatcher) -> None:
        self._signals = signals

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._signals.received is not None


def connect(address: str | None, jobs: int | None, threads: int) -> int:
    """Starts Ray on this machine, or joins the cluster at ``address``; returns how many runs go at a time.

    Raises:
        UserError: Ray cannot be started, there is no cluster, or none of its machines has the threads of a run.
    """
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    folder = os.getcwd()
    os.chdir(PACKAGES)  # Ray's workers import from its working directory before anything else
    try:
        if address is None:
            assert jobs is not None
            _start(num_cpus=jobs * threads, include_dashboard=False, object_store_memory=_STORE, **quiet)
            return jobs
        ray.init(address, **quiet)
    except Exception as error:  # ray/_private/node.py raises no more special one
        what = "Ray cannot be started here" if address is None else f"--ray-address {address}: no cluster answers there"
        raise UserError(f"{what} ({error})") from error
    finally:
        os.chdir(folder)
    slots = [int(node["Resources"].get("CPU", 0)) // threads for node in ray.nodes() if node["Alive"]]
    if not sum(slots):
        raise UserError(f"--threads {threads}: no machine of the cluster has as many cores")
    return jobs or sum(slots)


def _start(**settings: Any) -> None:
    """Starts Ray on this machine; tries again where it is too busy for the 30 s that ray/_private/node.py gives it."""
    for _ in range(_STARTS - 1):
        try:
            ray.init("local", **settings)
            return
        except Exception:
            ray.shutdown()
    ray.init("local", **settings)


def run_trials(
    queue: Queue,
    study: Study,
    shared: Mapping[str, Any],
    signals: SignalWatcher,
    max_failures: int,
    search: Search | None = None,
) -> None:
    """Runs all that is in the queue, and returns when it is over or a signal has come.

    Args:
        queue: What to run.
        study: What is told of it, and whose ``jobs`` go at a time.
        shared: Arguments of SweptRun that all runs have.
        signals: Asks all runs to save and end.
        max_failures: Restarts of a run whose process or machine died.
        search: For ASHA, by ``shared["metric"]``.
    """
    notes = os.path.join(os.path.dirname(study.path), ".tune")  # Ray Tune's own, on a disk that all machines share
    shutil.rmtree(notes, ignore_errors=True)
    tuner = tune.Tuner(
        Trial,
        tune_config=tune.TuneConfig(
            search_alg=_Order(queue, study, shared),
            scheduler=FIFOScheduler() if search is None else _asha(search, study, shared["metric"]),
            num_samples=-1,
            max_concurrent_trials=study.jobs,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=notes,
            stop=_StopAtSignal(signals),
            failure_config=tune.FailureConfig(max_failures=max_failures),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # runs have their own
            callbacks=[_Watcher(study, shared["metric"])],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(notes, ignore_errors=True)


def _name(trial: Any) -> str:
    return f"run_{trial.config['index']}"


def _asha(search: Search, study: Study, metric: Metric) -> ASHAScheduler:
    config = study.runs[0].run.config
    return ASHAScheduler(
        time_attr="timestep",
        metric=metric.name,
        mode="max",
        max_t=max(gradient_steps(status.run.config) for status in study.runs),
        grace_period=search.grace_epochs * config.step_per_epoch,
        reduction_factor=search.reduction,
        stop_last_trials=False,
    )


def disconnect() -> None:
    """Ends Ray on this machine, or leaves the cluster."""
    ray.shutdown()
