"""The files of a run directory (contract 2): every name, and everything that a stage's result leaves there."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from typing import Any

from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.checkpointing.training_state import TrainingState
from doof_ext.data.dataset import Dataset, read_dataset, write_dataset
from doof_ext.data.journal import OnlineJournal
from doof_ext.errors import RunStoppedError, UserError
from doof_ext.evaluation.measurements import Measurements, write_measurements
from doof_ext.experiment.online_record import OnlineRecord, OnlineSteps, read_online_record, write_online_record
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
    def dataset(self) -> str:
        """Which data the run has, as its summary will say."""
        return self._path("record", "dataset.json")

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

    @property
    def online_policy(self) -> str:
        """A baseline's policy after the online steps."""
        return self._path("checkpoint", "online_policy.pth")

    def journal(self, round: int) -> str:
        return self._path("checkpoint", f"online-{round}.journal")

    def base_return(self, round: int) -> str:
        """The mean return of the policy that a round's exploration started from, for ``--return-floor``."""
        return self._path("checkpoint", f"base-{round}.json")

    def online_record(self, round: int) -> str:
        """Who takes a round's online steps, where not the run itself; see experiment.online_record."""
        return self._path("checkpoint", f"online-{round}.json")

    def online_steps(self, round: int) -> str:
        """A round's online steps that were given as files."""
        return self._path("checkpoint", f"online-{round}.hdf5")

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
            "explore": self._save_exploration,
            "collect": self._save_online_data,
            "finetune_dynamics": lambda result: save_dynamics(self.files.models, result.dynamics),
            "finetune_policy": self._save_policy,
            "keep_policy": self._save_policy,
            "finetune_online": self._save_online_finetuning,
            "finetune_offline": self._save_policy,
        }
        if stage in writers:
            writers[stage](result)

    def save_task(self, spec: TaskSpec) -> None:
        """Writes what a policy must know of the task."""
        write_task(self.files.task, TaskRecord.of(spec))

    def open_journal(self, round: int) -> OnlineJournal:
        """The journal of a round's online steps, with those that it has already."""
        return OnlineJournal(self.files.journal(round), self._log)

    def take_over(self, online: OnlineSteps) -> None:
        """Keeps online steps that were taken outside the run; from then on they are the run's own.

        Raises:
            UserError: They cannot be written.
        """
        if online.record.source == "files":
            write_dataset(self.files.online_steps(online.round), online.dataset)
        write_online_record(self.files.online_record(online.round), online.record)  # last: it says that they are there

    def taken_outside(self, round: int) -> Dataset | None:
        """A round's online steps, where they were taken outside the run; None where it takes them itself.

        Raises:
            UserError: They are not all there, or not those that the run has taken over.
        """
        record = read_online_record(self.files.online_record(round))
        if record is None:
            return None
        if record.source == "files":
            steps = read_dataset(self.files.online_steps(round))
        else:
            steps = session_steps(self.files, round, record, self._log)
        if record.sha256 not in (None, steps.sha256()):
            raise UserError(f"{self.files.directory}: the online steps of round {round} are not those it was given")
        return steps

    def online_records(self) -> list[dict[str, Any]]:
        """The rounds' records for the summary; none of a round whose steps the run took itself."""
        rounds = range(1, self._state.round + 1)
        records = {round: read_online_record(self.files.online_record(round)) for round in rounds}
        return [{"round": round, **dataclasses.asdict(found)} for round, found in records.items() if found is not None]

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
        if result.dynamics is not None:
            save_tensors(self.files.pretrained_dynamics, result.dynamics.model.state_dict())
            save_dynamics(self.files.models, result.dynamics)

    def _save_online_finetuning(self, result: Any) -> None:
        self._save_online_data(result)
        save_tensors(self.files.online_policy, result.policy.state_dict())

    def _save_exploration(self, result: Any) -> None:
        save_tensors(self.files.exploration_policy, result.policy.state_dict())
        write_json(self.files.base_return(self._state.round), {"base_return": result.base_return})

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


def session_steps(files: RunFiles, round: int, record: OnlineRecord, log: Callable[[str], object]) -> Dataset:
    """The steps of a session's journal; raises UserError unless all are there."""
    path = files.journal(round)
    journal = OnlineJournal(path if os.path.exists(path) else None, log)
    taken = len(journal)
    if taken != record.steps:
        early = f", or open it with steps={taken} to end it" if taken >= 2 else ""  # no session is of fewer
        raise UserError(
            f"{files.directory}: its OnlineSession has {taken} of {record.steps} steps; take the rest{early}"
        )
    steps = journal.dataset()
    steps.metadata = {"collected_by": "doof_ext.OnlineSession"}
    return steps


def save_dynamics(folder: str, dynamics: Any) -> None:
    """Writes dynamics.pth, mu.npy and std.npy, as the kit's dynamics loads them, and what u has learned."""
    save_tensors(os.path.join(folder, "dynamics.pth"), dynamics.model.state_dict())
    dynamics.scaler.save_scaler(folder)
    if dynamics.estimator.state_dict():
        save_tensors(os.path.join(folder, "uncertainty.pth"), dynamics.estimator.state_dict())
