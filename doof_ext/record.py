"""What a run keeps on the disk while it lasts: lock, settings, logs, checkpoints, and how it ended."""

import contextlib
import dataclasses
import json
import os
import platform
import sys
import time
import traceback
from importlib.metadata import PackageNotFoundError, version

import torch

from doof_ext import kit, run_dir, wandb_run
from doof_ext.checkpoint import CheckpointStore
from doof_ext.config import Config
from doof_ext.errors import Interrupted, RunStoppedError, UserError
from doof_ext.files import write_json
from doof_ext.interruption import Interruption
from doof_ext.resume import AFTER_STAGE_1, FREE, differences, recorded_settings, refuse_differences
from doof_ext.state import RunState
from doof_ext.summary import read_summary

_PRETRAINING = os.path.join("checkpoint", "pretraining")


class RunRecord:
    """A run's directory with its lock, logger, state and W&B run; closed at the end however the run ends.

    As a context it notes signals, and gives every error from inside the run directory as ``run_directory``.
    """

    def __init__(self, config, loaded):
        """Args: the settings; the dataset with its provenance. Raises: UserError where the run cannot go on."""
        self.config, self.loaded = config, loaded
        self.directory = config.resume or run_dir.create_run_dir(config)
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            opened.enter_context(run_dir.lock(self.directory))
            try:
                self._open(opened)
            except OSError as error:
                raise self._stopped(error) from error
            self._closing = opened.pop_all()

    def _open(self, opened):
        config, directory = self.config, self.directory
        settings = dataclasses.asdict(config)
        path = os.path.join(directory, "record", "hyper_param.json")
        if config.resume:
            refuse_differences(settings, recorded_settings(directory, Config), directory)
            run_dir.sweep(directory)
        else:
            os.makedirs(os.path.dirname(path))
            write_json(path, settings)
        store, self._notices = CheckpointStore(os.path.join(directory, "checkpoint")), []
        tree = store.load(self._notices.append) if config.resume else None
        counted = {name: value for name, value in settings.items() if name not in FREE}
        facts = {"settings": json.loads(json.dumps(counted)), "dataset": self.loaded.dataset.sha256()}
        self._interruption = Interruption()
        self.state = RunState(store, config.checkpoint_every, facts, circumstances(), self._interruption)
        if tree is not None:
            self.state.load(tree)
            now = self.state.circumstances
            changed = [f"{name} {old} is now {now.get(name)}" for name, old in tree["circumstances"].items()
                       if now.get(name) != old]  # fmt: skip
            if changed:
                self._notices.append(f"WARNING: {', '.join(changed)}: results may differ from an uninterrupted run's")
        elif config.pretrained:
            self._take_pretraining(config.pretrained)
        self._wandb = wandb_run.start(config, directory)
        if self._wandb is not None:
            opened.callback(self._wandb.finish)
        self.logger = run_dir.RunLogger(directory, self._wandb, tree and tree["logger"])
        opened.callback(self.logger.close)
        self.state.logger = self.logger
        self.resumed = tree is not None

    def _take_pretraining(self, directory):
        tree = CheckpointStore(os.path.join(directory, _PRETRAINING)).load(self._notices.append)
        if tree is None:
            raise UserError(f"--pretrained {directory}: no run has ended its stage 1 there")
        theirs, ours = tree["facts"], self.state.facts
        found = differences(ours["settings"], theirs["settings"], AFTER_STAGE_1)
        if theirs["dataset"] != ours["dataset"]:
            found.append("the dataset is another")
        if found:
            raise UserError(f"--pretrained {directory}: its stage 1 is not this run's: {'; '.join(found)}")
        self.state.adopt(tree)

    def keep_pretraining(self):
        """Stage 1 is over: keeps what it gave, for other runs (``--pretrained``)."""
        store, kept = CheckpointStore(os.path.join(self.directory, _PRETRAINING)), None
        with contextlib.suppress(UserError):  # a damaged copy is written again
            kept = store.load(lambda line: None)
        if kept is None:
            store.save(self.state.part_of("pretrain.1"))

    def begin(self, env, findings):
        """Says what the run is on, or from where it goes on."""
        log, loaded = self.logger.log, self.loaded
        for notice in self._notices:
            log(notice)
        if self._wandb is not None:
            self._wandb.describe({"dataset_source": loaded.source, "dataset_id": loaded.id})
        if self.resumed:
            log(f"going on from the checkpoint in {self.state.place}; run directory: {self.directory}")
            return
        made_here = " (made here; this is not D4RL's data)" if loaded.source == "recipe" else ""
        log(f"data: {loaded.source.upper()} {loaded.id}, {len(loaded.dataset)} transitions{made_here}")
        log(f"physics: {env.physics}; kit: {kit.NAME} {kit.VERSION}; run directory: {self.directory}")
        for finding in findings:
            log(finding)

    def end(self, summary, distances):
        """Logs what came of the run and writes the summary: the run is complete.

        ``distances``: {kind: {"before" | "after": array}}.
        """
        logger = self.logger
        for name, score in summary["scores"].items():
            logger.logkv(f"final/score/{name}", score["mean"])
        logger.logkv("final/gain", summary["gain"])
        for kind, both in summary["distance"].items():
            for when in ("before", "after"):
                if both[when]["mean"] is not None:
                    logger.logkv(f"final/distance/{kind}/{when}", both[when]["mean"])
        logger.set_timestep(sum(stage["gradient_steps"] for stage in summary["stages"]))
        logger.dumpkvs(exclude=["policy_training_progress", "dynamics_training_progress", "consoleout_backup"])
        if self._wandb is not None:
            models = [entry.path for entry in os.scandir(logger.model_dir) if entry.is_file()]
            files = {"model": ("model", sorted(models))}
            online = os.path.join(logger.result_dir, "online_buffer.hdf5")
            if os.path.exists(online):
                files["online-buffer"] = ("dataset", [online])
            self._wandb.summarise(summary, distances, files)
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(logger.record_dir, "failure.txt"))  # an earlier stop that the run has outlived
        write_json(os.path.join(logger.result_dir, "summary.json"), summary)

    def __enter__(self):
        self._closing.enter_context(self._interruption.noted())
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            error.run_directory = self.directory
            self._note_failure(error)
        with contextlib.suppress(OSError) if error is not None else contextlib.nullcontext():
            self._closing.close()
        if isinstance(error, OSError):
            raise self._stopped(error) from error

    def _stopped(self, error):
        """A RunStoppedError for an OSError."""
        where = error.filename or self.directory
        stopped = RunStoppedError(f"{where} cannot be written or read ({error.strerror or error})")
        stopped.run_directory = self.directory
        return stopped

    def _note_failure(self, error):
        """How the run ended, in record/failure.txt, where that can still be written."""
        with contextlib.suppress(OSError):
            path = os.path.join(self.directory, "record", "failure.txt")
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {error}\n")
                if not isinstance(error, Interrupted):
                    traceback.print_exception(type(error), error, error.__traceback__, file=file)


def finished_summary(config):
    """The summary of a run that is complete already; None for one that is not, or that is new."""
    if not config.resume:
        return None
    path = os.path.join(config.resume, "result", "summary.json")
    if not os.path.exists(path):
        return None
    refuse_differences(dataclasses.asdict(config), recorded_settings(config.resume, Config), config.resume)
    print(f"{config.resume} is complete: nothing is left to do", file=sys.stderr)
    return read_summary(path)


def versions() -> dict:
    """Of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in ("doof_ext", "torch", "numpy", "gymnasium", "mujoco", "h5py", "wandb"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def circumstances() -> dict:
    """What the last bits of a run's numbers depend on besides its settings."""
    return {**versions(), "kit": f"{kit.NAME} {kit.VERSION}", "threads": torch.get_num_threads()}
