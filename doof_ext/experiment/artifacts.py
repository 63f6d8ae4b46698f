"""The files of a run directory (contract 2): every name, and everything that a stage's result leaves there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.checkpointing.training_state import TrainingState
from doof_ext.data.dataset import write_dataset
from doof_ext.data.journal import OnlineJournal
from doof_ext.errors import RunStoppedError, UserError
from doof_ext.evaluation.measurements import Measurements, write_measurements
from doof_ext.experiment.task_record import TaskRecord, write_task
from doof_ext.files import save_tensors, write_json
from doof_ext.tasks import TaskSpec


class RunFiles:
    """Where everything is in a run directory.

    Args:
        directory: The run directory.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def _path(self, *names: str) -> str:
        return os.path.join(self.directory, *names)

    @property
    def settings(self) -> str:
        return self._path("record", "hyper_param.json")

    @property
    def task(self) -> str:
        """What a policy must know of the task; see experiment.task_record."""
        return self._path("record", "task.json")

    @property
    def failure(self) -> str:
        return self._path("record", "failure.txt")

    @property
    def wandb_ledger(self) -> str:
        return self._path("record", "wandb.jsonl")

    @property
    def checkpoints(self) -> str:
        return self._path("checkpoint")

    @property
    def pretraining(self) -> str:
        """Stage 1's results, for other runs (``--pretrained``)."""
        return self._path("checkpoint", "pretraining")

    @property
    def pretrained_policy(self) -> str:
        return self._path("checkpoint", "pretrained_policy.pth")

    @property
    def pretrained_dynamics(self) -> str:
        return self._path("checkpoint", "pretrained_dynamics.pth")

    @property
    def exploration_policy(self) -> str:
        return self._path("checkpoint", "exploration_policy.pth")

    def journal(self, round: int) -> str:
        return self._path("checkpoint", f"online-{round}.journal")

    @property
    def models(self) -> str:
        return self._path("model")

    @property
    def policy(self) -> str:
        return self._path("model", "policy.pth")

    @property
    def online_buffer(self) -> str:
        return self._path("result", "online_buffer.hdf5")

    @property
    def distances(self) -> str:
        return self._path("result", "distances.npz")

    @property
    def video(self) -> str:
        return self._path("result", "finetuned_policy.mp4")

    @property
    def summary(self) -> str:
        return self._path("result", "summary.json")


class Artifacts:
    """Writes what the stages return into a run directory.

    Args:
        files: Where.
        state: The run's state, which stage 1 is exported from.
        log: Called with a line where a journal's end was cut off.
    """

    def __init__(self, files: RunFiles, state: TrainingState, log: Callable[[str], object]) -> None:
        self.files, self._state, self._log = files, state, log

    def save(self, stage: str, result: Any) -> None:
        """Writes what the result of a stage that has ended leaves; of the final evaluation, that is the summary's.

        Raises:
            RunStoppedError: It cannot be written.
        """
        writers: dict[str, Callable[[Any], None]] = {
            "pretrain": self._save_pretraining,
            "explore": lambda result: save_tensors(self.files.exploration_policy, result.policy.state_dict()),
            "collect": self._save_online_data,
            "finetune_dynamics": lambda result: save_dynamics(self.files.models, result.dynamics),
            "finetune_policy": self._save_policy,
            "keep_policy": self._save_policy,
        }
        if stage in writers:
            writers[stage](result)

    def save_task(self, spec: TaskSpec) -> None:
        """Writes what a policy must know of the task."""
        write_task(self.files.task, TaskRecord.of(spec))

    def open_journal(self, round: int) -> OnlineJournal:
        """The journal of a round's online steps, with those that it has already."""
        return OnlineJournal(self.files.journal(round), self._log)

    def save_distances(self, before: Measurements, after: Measurements) -> None:
        """Writes the dynamics distances of P̂ and of P̂*."""
        write_measurements(self.files.distances, before, after)

    def save_summary(self, summary: dict[str, Any]) -> None:
        """Writes the summary: the run is complete, and has outlived earlier failures."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.files.failure)
        write_json(self.files.summary, summary)

    def for_upload(self) -> dict[str, tuple[str, list[str]]]:
        """What W&B keeps of the run: files by the name of the artifact they make up, {name: (type, paths)}."""
        models = sorted(entry.path for entry in os.scandir(self.files.models) if entry.is_file())
        uploads = {"model": ("model", models)}
        if os.path.exists(self.files.online_buffer):
            uploads["online-buffer"] = ("dataset", [self.files.online_buffer])
        return uploads

    def _save_pretraining(self, result: Any) -> None:
        self._export_pretraining()
        save_tensors(self.files.pretrained_policy, result.policy.state_dict())
        save_tensors(self.files.pretrained_dynamics, result.dynamics.model.state_dict())
        save_dynamics(self.files.models, result.dynamics)

    def _save_policy(self, result: Any) -> None:
        save_tensors(self.files.policy, result.policy.state_dict())

    def _save_online_data(self, result: Any) -> None:
        try:
            write_dataset(self.files.online_buffer, result.data)
        except UserError as error:  # a full disk, which ends this run but not for ever
            raise RunStoppedError(str(error)) from error

    def _export_pretraining(self) -> None:
        store = CheckpointStore(self.files.pretraining)
        with contextlib.suppress(UserError):  # a damaged copy is written again
            if store.load(lambda line: None) is not None:
                return
        store.save(self._state.export_stage("pretrain.1"))


def save_dynamics(folder: str, dynamics: Any) -> None:
    """Writes dynamics.pth, mu.npy and std.npy, as the kit's dynamics loads them, and what u has learned."""
    save_tensors(os.path.join(folder, "dynamics.pth"), dynamics.model.state_dict())
    dynamics.scaler.save_scaler(folder)
    if dynamics.estimator.state_dict():
        save_tensors(os.path.join(folder, "uncertainty.pth"), dynamics.estimator.state_dict())
