"""A run on disk while it lasts: lock, settings, logs, checkpoints, artifacts, and how it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from doof_ext import kit
from doof_ext.checkpointing.signals import SignalWatcher
from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.checkpointing.training_state import TrainingState, check_same_run, is_past, position
from doof_ext.config import RunSettings
from doof_ext.config.completion import idle_settings
from doof_ext.config.recorded import differences, recorded_settings, refuse_differences
from doof_ext.config.rules import rules_of
from doof_ext.data import LoadedDataset
from doof_ext.errors import Interrupted, RunStoppedError, StoppedAfter, UserError
from doof_ext.evaluation.measurements import Measurements
from doof_ext.experiment import run_directory, wandb_logger
from doof_ext.experiment.artifacts import Artifacts, RunFiles
from doof_ext.experiment.logger import RunLogger
from doof_ext.experiment.online_record import OnlineSteps
from doof_ext.experiment.provenance import provenance
from doof_ext.experiment.summary import describe_dataset, read_summary
from doof_ext.files import write_json
from doof_ext.learning.denormals import denormals_flushed


class Experiment:
    """A run's directory with its lock, logger, state and W&B run; closed at the end however the run ends.

    As a context it watches for signals, and gives every error from inside the run directory as ``run_directory``.

    Args:
        config: The settings.
        loaded: D with its provenance.
        online: Online steps that were taken outside the run and that it takes over.

    Raises:
        UserError: The run cannot be resumed, or is past where it is to stop.
    """

    def __init__(self, config: RunSettings, loaded: LoadedDataset, online: OnlineSteps | None = None) -> None:
        self.config, self.loaded, self._online = config, loaded, online
        self._dataset = describe_dataset(loaded)
        self._notices: list[str] = []
        fresh = None if config.resume else self._load_pretraining()  # refused before a directory is made
        self.directory = config.resume or run_directory.create_run_directory(config)
        self.files = RunFiles(self.directory)
        self._signals = SignalWatcher()
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            opened.enter_context(run_directory.lock(self.directory))
            opened.enter_context(denormals_flushed())  # before torch starts threads, which a resumed run may do earlier
            try:
                self._open(opened, fresh)
            except OSError as error:
                raise self._stopped(error) from error
            self._closing = opened.pop_all()

    def _open(self, opened: contextlib.ExitStack, exported: dict[str, Any] | None) -> None:
        config = self.config
        settings = dataclasses.asdict(config)
        if config.resume:
            refuse_differences(settings, recorded_settings(self.directory), self.directory)
            run_directory.remove_temporary_files(self.directory)
        else:
            os.makedirs(os.path.dirname(self.files.settings))
            write_json(self.files.settings, settings)
        store = CheckpointStore(self.files.checkpoints)
        checkpoint = store.load(self._notices.append) if config.resume else None
        fingerprint = self._fingerprint()
        if checkpoint is not None:
            check_same_run(checkpoint, fingerprint)
            self._check_stop(position(checkpoint))
        elif config.resume:  # stopped before its first checkpoint
            exported = self._load_pretraining()
        self._wandb = wandb_logger.start(config, self.directory, self.files.wandb_ledger)
        if self._wandb is not None:
            opened.callback(self._wandb.finish)
        self.logger = RunLogger(self.directory, self._wandb, checkpoint and checkpoint["logger"])
        opened.callback(self.logger.close)
        self.state = TrainingState(
            store, config.checkpoint_every, fingerprint, provenance(config), self._signals, self.logger
        )
        self.artifacts = Artifacts(self.files, self.state, self.logger.log)
        self.resumed = checkpoint is not None
        if checkpoint is not None:
            self.state.load(checkpoint)
            self._compare_provenance(checkpoint["provenance"])
        elif exported is not None:
            self.state.import_stage(exported)

    def _check_stop(self, reached: tuple[str, int]) -> None:
        """Raises UserError where a run that has reached a stage of a round would never stop as asked."""
        stage = self.config.stop_after
        rounds = range(1, self.config.most_rounds + 1) if stage == "explore" else [1]
        if stage is not None and not any(self._stops(stage, round, reached) for round in rounds):
            at = f"stage {reached[0]}, round {reached[1]}"
            raise UserError(f"--stop-after {stage}: {self.directory} is past it, in {at}")

    def _stops(self, stage: str, round: int, reached: tuple[str, int]) -> bool:
        """Whether the run is to stop after a stage of a round: it has not begun what follows.

        Without an environment it stops after every stage 2 whose online steps are not there.
        """
        asked = stage == self.config.stop_after or (stage == "explore" and not self.config.has_env)
        if not asked or is_past(reached, stage, round):
            return False
        is_given = self._online is not None and self._online.round == round
        return stage == "pretrain" or not (is_given or os.path.exists(self.files.online_record(round)))

    def keep(self, stage: str, result: Any) -> None:
        """Writes the result of a stage that has ended.

        Raises:
            RunStoppedError: It cannot be written.
            StoppedAfter: The run is to end here.
        """
        self.artifacts.save(stage, result)
        round = self.state.round
        if self._stops(stage, round, self.state.reached):
            self.state.wait_for(self.config.stage_after(stage), round)
            raise StoppedAfter(stage, self.config.has_env, self.config.has_session)

    def _fingerprint(self) -> dict[str, Any]:
        """What a checkpoint must share with the run that is resumed from it: settings and data."""
        rules = rules_of(self.config)
        settings = {n: value for n, value in dataclasses.asdict(self.config).items() if not rules[n].resumable}
        return {"settings": json.loads(json.dumps(settings)), "dataset": self._dataset["sha256"]}

    def _compare_provenance(self, before: dict[str, Any]) -> None:
        now = self.state.provenance
        changed = [f"{name} {old} is now {now.get(name)}" for name, old in before.items() if now.get(name) != old]
        if changed:
            self._notices.append(f"WARNING: {', '.join(changed)}: results may differ from an uninterrupted run's")

    def _load_pretraining(self) -> dict[str, Any] | None:
        """Stage 1 of the run ``config.pretrained``, if any; raises UserError where that is not this run's stage 1."""
        directory = self.config.pretrained
        if directory is None:
            return None
        exported = CheckpointStore(RunFiles(directory).pretraining).load(self._notices.append)
        if exported is None:
            raise UserError(f"--pretrained {directory}: no run has ended its stage 1 there")
        theirs, ours = exported["fingerprint"], self._fingerprint()
        found = differences(ours["settings"], theirs["settings"], lambda rules: rules.after_pretraining)
        if theirs["dataset"] != ours["dataset"]:
            found.append("the dataset is another")
        if found:
            raise UserError(f"--pretrained {directory}: its stage 1 is not this run's: {'; '.join(found)}")
        return exported

    def start(self, env: Any, findings: Sequence[str]) -> None:
        """Records task and data, and logs what the run is on, or where it resumes.

        Args:
            env: The environment.
            findings: Lines on whether data and environment are consistent.
        """
        log, loaded = self.logger.log, self.loaded
        self.artifacts.save_task(env.spec)
        write_json(self.files.dataset, self._dataset)
        if self._online is not None:
            self.artifacts.take_over(self._online)
        for notice in self._notices:
            log(notice)
        if self._wandb is not None:
            self._wandb.describe({"dataset_source": loaded.source, "dataset_id": loaded.id})
        if self.resumed:
            log(f"resuming from the checkpoint in {self.state.resumed_at}; run directory: {self.directory}")
            for finding in self._online.findings if self._online is not None else ():
                log(finding)
            return
        made_here = " (made here; this is not D4RL's data)" if loaded.source == "recipe" else ""
        log(f"data: {loaded.source.upper()} {loaded.id}, {len(loaded.dataset)} transitions{made_here}")
        if self.config.dataset_steps not in (None, len(loaded.dataset)):
            log(f"WARNING: --dataset-steps {self.config.dataset_steps} shortens recipes only: all transitions are used")
        log(f"physics: {env.physics}; kit: {kit.NAME} {kit.VERSION}; run directory: {self.directory}")
        if self.config.physics not in ("d4rl", env.physics):
            log(f"WARNING: --physics {self.config.physics} has no effect here, where there are no others")
        for finding in (*idle_settings(self.config), *findings):
            log(finding)

    def finish(
        self, summary: dict[str, Any], before: Measurements | None = None, after: Measurements | None = None
    ) -> None:
        """Logs the results and writes distances and summary: the run is complete.

        Args:
            summary: See experiment.summary.
            before: The dynamics distances of P̂; None of a run without dynamics.
            after: Those of P̂*.
        """
        logger = self.logger
        distances: dict[str, Any] = {}
        if before is not None and after is not None:
            self.artifacts.save_distances(before, after)
            distances = {k: {"before": before[k]["distance"], "after": after[k]["distance"]} for k in before}
        for name, score in summary["scores"].items():
            if score["last_10"] is not None:
                logger.logkv(f"final/score/{name}", score["last_10"])
        if summary["gain"] is not None:
            logger.logkv("final/gain", summary["gain"])
        for kind, gain in summary["gain_over"].items():
            logger.logkv(f"final/gain_over/{kind}", gain)
        for name, figures in summary["model_return"].items():
            for when, found in (("before", figures["before"]), ("after", figures)):
                if found["mean"] is not None:
                    logger.logkv(f"final/model_return/{name}/{when}", found["mean"])
        for kind, both in summary["distance"].items():
            for when in ("before", "after"):
                if both[when]["mean"] is not None:
                    logger.logkv(f"final/distance/{kind}/{when}", both[when]["mean"])
        logger.set_timestep(sum(stage["gradient_steps"] for stage in summary["stages"]))
        logger.dumpkvs(exclude=["policy_training_progress", "dynamics_training_progress", "consoleout_backup"])
        if self._wandb is not None:
            self._wandb.summarise(summary, distances, self.artifacts.for_upload())
        self.artifacts.save_summary(summary)

    def __enter__(self) -> Experiment:
        self._closing.enter_context(self._signals.watching())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.run_directory = self.directory  # type: ignore[attr-defined]  # for the command to name it
            self._record_failure(error)
        with contextlib.suppress(OSError) if error is not None else contextlib.nullcontext():
            self._closing.close()
        if isinstance(error, OSError):
            raise self._stopped(error) from error

    def _stopped(self, error: OSError) -> RunStoppedError:
        """A RunStoppedError for an OSError."""
        where = error.filename or self.directory
        stopped = RunStoppedError(f"{where} cannot be written or read ({error.strerror or error})")
        stopped.run_directory = self.directory
        return stopped

    def _record_failure(self, error: BaseException) -> None:
        """How the run ended, in record/failure.txt, where that can still be written."""
        if isinstance(error, StoppedAfter):
            return
        with contextlib.suppress(OSError), open(self.files.failure, "w", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {error}\n")
            if not isinstance(error, Interrupted):
                traceback.print_exception(type(error), error, error.__traceback__, file=file)


def finished_summary(config: RunSettings) -> dict[str, Any] | None:
    """The summary of a run that is complete already; None for one that is not, or that is new."""
    if not config.resume:
        return None
    path = RunFiles(config.resume).summary
    if not os.path.exists(path):
        return None
    if config.stop_after is not None or config.given_steps is not None:
        asked = "--online-data comes" if config.given_steps is not None else "--stop-after comes"
        raise UserError(f"{config.resume} is complete: {asked} too late")
    refuse_differences(dataclasses.asdict(config), recorded_settings(config.resume), config.resume)
    print(f"{config.resume} is complete: nothing is left to do", file=sys.stderr)
    return read_summary(path)
