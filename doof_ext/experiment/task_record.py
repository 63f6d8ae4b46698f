"""record/task.json: what a policy must know of its task, kept so that it acts where no environment is."""

from __future__ import annotations

import dataclasses
import math
import os
import typing
from dataclasses import dataclass
from typing import Any

from doof_ext.config.rules import fits
from doof_ext.errors import UserError
from doof_ext.files import read_json, write_json
from doof_ext.tasks import TaskSpec


@dataclass(frozen=True)
class TaskRecord:
    """A task's inputs and outputs, as the environment had them when the run began."""

    name: str
    obs_dim: int
    action_dim: int
    action_low: tuple[float, ...]  # in the environment's units, one number per dimension
    action_high: tuple[float, ...]
    observation_names: tuple[str, ...] | None = None
    action_names: tuple[str, ...] | None = None

    @classmethod
    def of(cls, spec: TaskSpec) -> TaskRecord:
        """The record of a spec that an environment has completed."""
        assert spec.obs_dim is not None and spec.action_dim is not None
        return cls(
            name=spec.name,
            obs_dim=spec.obs_dim,
            action_dim=spec.action_dim,
            action_low=spec.action_low or (-1.0,) * spec.action_dim,
            action_high=spec.action_high or (1.0,) * spec.action_dim,
            observation_names=spec.observation_names,
            action_names=spec.action_names,
        )


def write_task(path: str | os.PathLike[str], task: TaskRecord) -> None:
    """Writes a task's record."""
    write_json(path, dataclasses.asdict(task))


def read_task(path: str | os.PathLike[str]) -> TaskRecord:
    """Reads a task's record; raises UserError where it is missing or damaged."""
    content: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in read_json(path).items()
    }
    hints = typing.get_type_hints(TaskRecord)
    if not set(hints) == set(content):
        raise UserError(f"{path} is damaged: it has {', '.join(content) or 'nothing'} instead of {', '.join(hints)}")
    for name, value in content.items():
        if not fits(value, hints[name]):
            raise UserError(f"{path} is damaged: {name} is {value!r}")
    task = TaskRecord(**content)
    for names, dimensions in ((task.observation_names, task.obs_dim), (task.action_names, task.action_dim)):
        if dimensions < 1 or (names is not None and len(names) != dimensions):
            raise UserError(f"{path} is damaged: {names} are the names of {dimensions} dimensions")
    bounds = (task.action_low, task.action_high)
    if any(len(bound) != task.action_dim or not all(map(math.isfinite, bound)) for bound in bounds):
        raise UserError(f"{path} is damaged: {bounds} bound {task.action_dim} actions")
    return task
