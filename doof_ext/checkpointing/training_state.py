"""What a run's future depends on, by name: the one registry that checkpoints are saved from and restored to.

A stage registers its components when it starts (:meth:`TrainingState.restore`); each is anything with ``state_dict()``
and ``load_state_dict()``. Where the loaded checkpoint has the stage, they are restored and the stage's loop resumes
from there; of a stage that is complete, only what later stages need is kept. The random state is saved beside them.
"""

import copy
import time
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from doof_ext.checkpointing.random_state import get_random_state, seed_generators, set_random_state
from doof_ext.checkpointing.signals import SignalWatcher
from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.errors import UserError


class Stateful(Protocol):
    """Anything that can be saved to and restored from a checkpoint."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> Any: ...


class Counters(types.SimpleNamespace):
    """Counters, scores and tensors of a training loop as one component of the state."""

    def state_dict(self) -> dict[str, Any]:
        """The attributes by name."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned; tensors stay on the device of the present ones."""
        for name, value in state.items():
            present = getattr(self, name, None)
            if isinstance(value, torch.Tensor) and isinstance(present, torch.Tensor):
                value = value.to(present.device)
            setattr(self, name, value)


class StateAdapter:
    """A component of the state from two functions: one that returns it, one that restores it."""

    def __init__(self, state_dict: Callable[[], Any], load_state_dict: Callable[[Any], Any]) -> None:
        self.state_dict, self.load_state_dict = state_dict, load_state_dict


def check_same_run(checkpoint: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> None:
    """Raises UserError where a checkpoint's tree is of a run with another fingerprint."""
    for name, value in checkpoint["fingerprint"].items():
        present = fingerprint.get(name)
        if isinstance(value, dict) and isinstance(present, dict):
            shared = value.keys() & present.keys()  # other versions have other settings, or other rules on them
            value, present = ({key: of[key] for key in shared} for of in (value, present))
        if present != value:
            raise UserError(f"the checkpoint is of a run with other {name} than these; nothing was resumed")


STAGES = (
    "pretrain",
    "choose_ratio",
    "explore",
    "collect",
    "finetune_dynamics",
    "finetune_policy",
    "finetune_online",
    "finetune_offline",
    "final_evaluation",
)
"""The stages of a round in order, those of Algorithm 1 before the baselines'; stage 1 is the first round's alone, the
final evaluation the last one's."""


def position(checkpoint: Mapping[str, Any]) -> tuple[str, int]:
    """The stage that a checkpoint was taken in, and its round."""
    name, _, round = checkpoint["stage"].rpartition(".")
    return name, int(round)


def is_past(reached: tuple[str, int], stage: str, round: int) -> bool:
    """Whether a run that has reached a stage of a round (see :func:`position`) has begun what follows ``stage``.

    Stage 3 is waited in, so that it is not past stage 2.
    """
    waits = reached[0] == "collect" and stage == "explore"
    return (reached[1], STAGES.index(reached[0])) > (round, STAGES.index(stage) + waits)


class TrainingState:
    """The state of one run, saved to a store every few epochs, at stage ends and when a signal asks for it.

    Without a store nothing is saved: what stages and trainers use on their own.

    Args:
        store: Where checkpoints go.
        every: Epochs between checkpoints.
        fingerprint: What must be the same when the run is resumed.
        provenance: What should be the same when the run is resumed.
        signals: Tells whether a signal has asked the run to stop.
        logger: Whose position in its files is saved too.
    """

    def __init__(
        self,
        store: CheckpointStore | None = None,
        every: int = 1,
        fingerprint: dict[str, Any] | None = None,
        provenance: dict[str, Any] | None = None,
        signals: SignalWatcher | None = None,
        logger: Any = None,
    ) -> None:
        self._store, self._every, self._logger = store, every, logger
        self.fingerprint, self.provenance = fingerprint or {}, provenance or {}
        self._signals = signals or SignalWatcher()
        self._saved: dict[str, Any] = {}  # components by "stage.round/name", as a checkpoint has them
        self._last_saved, self._random_state = "", None  # the components that the random state belongs to
        self._resumed_stage = ""  # the stage that the loaded checkpoint was taken in
        self._stage, self._key, self._epochs = "pretrain.1", "", 0  # a run starts with stage 1
        self._components: dict[str, Stateful] = {}
        self.stage_records: list[dict[str, Any]] = []
        self._record: dict[str, Any] | None = None
        self._started = time.time()

    def load(self, checkpoint: Mapping[str, Any]) -> None:
        """Loads a checkpoint's tree; the stages restore their components from it as they start."""
        self._saved, self._last_saved = checkpoint["stages"], checkpoint["last"]
        self._random_state, self._resumed_stage = checkpoint["random_state"], checkpoint["stage"]
        self.stage_records = checkpoint["records"]

    @property
    def reached(self) -> tuple[str, int]:
        """Where the loaded checkpoint was taken, as :func:`position`; the beginning without one."""
        return position({"stage": self._resumed_stage or "pretrain.1"})

    @property
    def resumed_at(self) -> str:
        """Where the loaded checkpoint was taken: stage and round."""
        stage, round = self.reached
        return f"stage {stage}, round {round}"

    @property
    def round(self) -> int:
        """The round of the present stage, or of the one that has ended last."""
        return int(self._stage.rpartition(".")[2])

    def wait_for(self, stage: str, round: int) -> None:
        """Writes a checkpoint at the beginning of a stage: all before it is complete."""
        self._stage, self._components = f"{stage}.{round}", {}
        self.save()

    def export_stage(self, stage: str) -> dict[str, Any]:
        """What a complete stage (``name.round``) left, for :meth:`import_stage` of another run."""
        complete = {key: value for key, value in self._saved.items() if key.startswith(f"{stage}/")}
        records = [record for record in self.stage_records if f"{record['name']}.{record['round']}" == stage]
        return {"fingerprint": self.fingerprint, "provenance": self.provenance, "stages": complete, "records": records}

    def import_stage(self, exported: Mapping[str, Any]) -> None:
        """Takes over a stage that another run has completed, unless this run has one already."""
        if not self.stage_records:
            self._saved, self.stage_records = dict(exported["stages"]), list(exported["records"])

    @contextmanager
    def stage(self, name: str, round: int, seed: int, env: Any) -> Iterator[dict[str, Any]]:
        """A stage of Algorithm 1: seeds all generators and the environment, so that it depends on its inputs alone.

        Yields:
            The stage's record for the summary, whose time continues from where a checkpoint left it.
        """
        env.seed(seed_generators(seed, round, name))
        self._stage = f"{name}.{round}"
        found = [record for record in self.stage_records if (record["name"], record["round"]) == (name, round)]
        complete = bool(found) and self._stage != self._resumed_stage
        if found:
            record = found[0]
        else:
            record = {"name": name, "round": round, "seconds": 0.0, "gradient_steps": 0, "env_steps": 0}
            self.stage_records.append(record)
        self._record, self._started = (None if complete else record), time.time() - record["seconds"]
        yield record
        self._update_seconds()
        self._record = None

    def _update_seconds(self) -> None:
        if self._record is not None:
            self._record["seconds"] = float(f"{time.time() - self._started:.1f}")

    def restore(self, name: str, components: Mapping[str, Stateful]) -> bool:
        """Registers the components of what this stage does next, and restores them where the checkpoint has them.

        Returns:
            Whether it is complete already.

        Raises:
            UserError: The checkpoint lacks a component.
        """
        key = f"{self._stage}/{name}"
        self._key, self._components = key, dict(components)
        saved = self._saved.get(key)
        if saved is None:
            return False
        for component, value in components.items():
            if component in saved["components"]:
                value.load_state_dict(saved["components"][component])
            elif not saved["complete"]:
                raise UserError(f"the checkpoint has no {component} of {key}: another version of doof_ext wrote it")
        if key == self._last_saved and self._random_state is not None:
            set_random_state(self._random_state)
        if saved["complete"]:
            self._components = {}  # nothing is left to learn, and a save in what follows keeps it as it is
        else:
            del self._saved[key]  # the components themselves hold it now
        return saved["complete"]

    def commit(self, *kept: str, save: bool = True) -> None:
        """Marks what was registered last as complete; later stages need the components ``kept``.

        Args:
            kept: Names of components.
            save: Whether to write a checkpoint now.
        """
        # copies: what goes on learning from here does so in the same tensors
        components = {name: copy.deepcopy(self._components[name].state_dict()) for name in kept}
        self._saved[self._key] = {"complete": True, "components": components}
        self._components = {}
        if save:
            self.save()

    def after_step(self) -> None:
        """To be called after each step: where a signal has come, saves a checkpoint and raises Interrupted."""
        if self._signals.received is not None:
            self.save()
            self._signals.raise_interrupted()

    def after_epoch(self) -> None:
        """To be called after each epoch: saves a checkpoint when it is due, and does as :meth:`after_step`."""
        self._epochs += 1
        if self._epochs % self._every == 0:
            self.save()
        self.after_step()

    def save(self) -> None:
        """Writes a checkpoint.

        Raises:
            RunStoppedError: It cannot be written (see CheckpointStore.save).
        """
        if self._store is None:
            return
        self._update_seconds()
        stages = dict(self._saved)
        if self._components:
            components = {name: component.state_dict() for name, component in self._components.items()}
            stages[self._key] = {"complete": False, "components": components}
        self._store.save(
            {
                "fingerprint": self.fingerprint,
                "provenance": self.provenance,
                "stages": stages,
                "last": self._key,
                "stage": self._stage,
                "random_state": get_random_state(),
                "records": self.stage_records,
                "logger": None if self._logger is None else self._logger.position(),
            }
        )
