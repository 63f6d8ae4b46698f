"""What a run's future depends on, by name: the one registry that a checkpoint is saved from and loaded into.

A stage names its parts when it is entered (:meth:`RunState.enter`); each is anything with ``state_dict()`` and
``load_state_dict()``. Where the checkpoint has the stage, they are loaded, and the stage's loop goes on from there; of
a stage that ended, only what later ones need is kept. The random generators are saved beside them.
"""

import random
import time
import types
import zlib
from contextlib import contextmanager

import numpy as np
import torch

from doof_ext.errors import UserError
from doof_ext.interruption import Interruption


class Values(types.SimpleNamespace):
    """Counters and tensors as one part of a state."""

    def state_dict(self):
        """The attributes by name."""
        return dict(vars(self))

    def load_state_dict(self, state):
        """Takes what :meth:`state_dict` gave; tensors go where the present ones are."""
        for name, value in state.items():
            present = getattr(self, name, None)
            tensors = isinstance(value, torch.Tensor) and isinstance(present, torch.Tensor)
            setattr(self, name, value.to(present.device) if tensors else value)


class Part:
    """A part of a state from two functions: one that gives it, one that takes it."""

    def __init__(self, state_dict, load_state_dict):
        self.state_dict, self.load_state_dict = state_dict, load_state_dict


class RunState:
    """The state of one run, saved to a store every few epochs, at stage ends and when a signal asks for it.

    Without a store nothing is saved: what stages and trainers use on their own.
    """

    def __init__(self, store=None, every=1, facts=None, circumstances=None, interruption=None):
        """Args: a CheckpointStore; epochs between checkpoints; ``facts`` that must be the same when the run goes on
        and ``circumstances`` that should be (dicts); where signals are noted. ``logger`` is set later: its position
        is saved too."""
        self._store, self._every, self.logger = store, every, None
        self.facts, self.circumstances = facts or {}, circumstances or {}
        self._interruption = interruption or Interruption()
        self._stages, self._last, self._generators = {}, "", None
        self._went_on_in = ""  # the stage that the loaded checkpoint was taken in
        self._stage, self._part, self._parts, self._epochs = "pretrain.1", "", {}, 0  # a run begins there
        self.records, self._record, self._started = [], None, time.time()

    def load(self, tree):
        """Takes a checkpoint's tree; the stages load from it as they are entered.

        Raises: UserError where the checkpoint is of another run.
        """
        for name, value in tree["facts"].items():
            present = self.facts.get(name)
            if isinstance(value, dict) and isinstance(present, dict):
                present = {key: present.get(key) for key in value}  # later versions have more settings
            if present != value:
                raise UserError(f"the checkpoint is of a run with other {name} than these; nothing was resumed")
        self._stages, self._last, self._generators = tree["stages"], tree["last"], tree["generators"]
        self._went_on_in = tree["stage"]
        self.records = tree["records"]

    @property
    def place(self) -> str:
        """Where the checkpoint that was loaded was taken: stage and round."""
        name, _, round = self._went_on_in.rpartition(".")
        return f"stage {name}, round {round}"

    def part_of(self, stage) -> dict:
        """What an ended stage (``name.round``) left, for :meth:`adopt`."""
        ended = {key: value for key, value in self._stages.items() if key.startswith(f"{stage}/")}
        records = [record for record in self.records if f"{record['name']}.{record['round']}" == stage]
        return {"facts": self.facts, "stages": ended, "records": records}

    def adopt(self, tree):
        """Takes a stage that another run has ended, unless it is this run's already."""
        if not self.records:
            self._stages, self.records = dict(tree["stages"]), list(tree["records"])

    @contextmanager
    def stage(self, name, round, seed, env):
        """A stage of Algorithm 1: seeds all generators and the environment, so that it depends on its inputs alone.

        Gives the stage's record for the summary, whose time goes on where a checkpoint left it.
        """
        env.seed(seed_generators(seed, round, name))
        self._stage = f"{name}.{round}"
        found = [record for record in self.records if (record["name"], record["round"]) == (name, round)]
        ended = bool(found) and self._stage != self._went_on_in
        record = found[0] if found else {"name": name, "round": round, "seconds": 0.0, "gradient_steps": 0,
                                         "env_steps": 0}  # fmt: skip
        if not found:
            self.records.append(record)
        self._record, self._started = (None if ended else record), time.time() - record["seconds"]
        yield record
        self._time()
        self._record = None

    def _time(self):
        if self._record is not None:
            self._record["seconds"] = float(f"{time.time() - self._started:.1f}")

    def enter(self, name, parts) -> bool:
        """Names the parts of what is done next in this stage, and loads them where the checkpoint has them.

        Returns: whether it was done to its end already. Raises: UserError where the checkpoint lacks a part.
        """
        key = f"{self._stage}/{name}"
        self._part, self._parts = key, parts
        saved = self._stages.get(key)
        if saved is None:
            return False
        for part, value in parts.items():
            if part in saved["parts"]:
                value.load_state_dict(saved["parts"][part])
            elif not saved["ended"]:
                raise UserError(f"the checkpoint has no {part} of {key}: it was written by another version of doof_ext")
        if key == self._last:
            set_generators(self._generators)
        if not saved["ended"]:
            del self._stages[key]  # the parts themselves hold it now
        return saved["ended"]

    def leave(self, *kept, save=True):
        """What was entered is done; later stages need the parts ``kept``. Saves a checkpoint, unless told otherwise."""
        parts = {name: self._parts[name].state_dict() for name in kept}
        self._stages[self._part] = {"ended": True, "parts": parts}
        self._parts = {}
        if save:
            self.save()

    def step_ended(self):
        """After each step. Where a signal has come, saves a checkpoint and raises Interrupted."""
        if self._interruption.signal is not None:
            self.save()
            self._interruption.stop()

    def epoch_ended(self):
        """After each epoch: saves a checkpoint when it is time for one, and does as :meth:`step_ended`."""
        self._epochs += 1
        if self._epochs % self._every == 0:
            self.save()
        self.step_ended()

    def save(self):
        """Writes a checkpoint; see CheckpointStore.save for errors."""
        if self._store is None:
            return
        self._time()
        stages = dict(self._stages)
        if self._parts:
            parts = {name: part.state_dict() for name, part in self._parts.items()}
            stages[self._part] = {"ended": False, "parts": parts}
        self._store.save({
            "facts": self.facts, "circumstances": self.circumstances, "stages": stages, "last": self._part,
            "stage": self._stage,
            "generators": get_generators(), "records": self.records,
            "logger": None if self.logger is None else self.logger.position(),
        })  # fmt: skip


def seed_generators(*origin) -> int:
    """Seeds Python's, NumPy's and torch's generators from numbers and names; returns a seed for the environment."""
    numbers = [zlib.crc32(item.encode()) if isinstance(item, str) else item for item in origin]
    seeds = np.random.SeedSequence(numbers).generate_state(4)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])
    torch.manual_seed(int(seeds[2]))
    return int(seeds[3])


def get_generators():
    """The states of Python's, NumPy's and torch's generators. The environment's is seeded before each episode."""
    version, internal, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    state = {"python": [version, np.array(internal, np.int64), gauss], "numpy": [kind, keys.astype(np.int64), *rest],
             "torch": torch.get_rng_state()}  # fmt: skip
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_generators(state):
    """Takes what :func:`get_generators` gave."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal.tolist()), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
