"""checkpoint/online-<round>.json: that a round's online steps are taken outside the run, and by whom.

Without one the run takes its steps itself, in stage 3.
"""

from __future__ import annotations

import dataclasses
import os
import typing
from dataclasses import dataclass, field
from typing import Any

from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.checkpointing.training_state import is_past, position
from doof_ext.config.rules import fits
from doof_ext.data.dataset import Dataset
from doof_ext.errors import UserError
from doof_ext.files import read_json, write_json

SOURCES = ("session", "files")


@dataclass(frozen=True)
class OnlineRecord:
    """Who takes a round's online steps, and what was found in them.

    Attributes:
        source: ``session`` (an OnlineSession, into the round's journal) or ``files`` (``--online-data``).
        steps: How many there are to be.
        sha256: Of the steps, once the run has taken them over; None before.
        files: Of each file its name, steps and SHA-256.
        checks: What was found, by check; see evaluation.online_checks.
    """

    source: str
    steps: int
    sha256: str | None = None
    files: list[Any] = field(default_factory=list)
    checks: dict[str, Any] = field(default_factory=dict)


@dataclass
class OnlineSteps:
    """The online steps of a round that the run is about to take over, checked."""

    round: int
    record: OnlineRecord
    dataset: Dataset
    findings: list[str]  # lines for the log


def write_online_record(path: str, record: OnlineRecord) -> None:
    """Writes a round's record."""
    write_json(path, dataclasses.asdict(record))


def read_online_record(path: str) -> OnlineRecord | None:
    """A round's record, None where there is none; raises UserError where it is damaged."""
    if not os.path.exists(path):
        return None
    content, hints = read_json(path), typing.get_type_hints(OnlineRecord)
    if set(content) != set(hints):
        raise UserError(f"{path} is damaged: it has {', '.join(content) or 'nothing'} instead of {', '.join(hints)}")
    for name in ("source", "steps", "sha256"):
        if not fits(content[name], hints[name]):
            raise UserError(f"{path} is damaged: {name} is {content[name]!r}")
    if content["source"] not in SOURCES or not isinstance(content["files"], list):
        raise UserError(f"{path} is damaged: its source is {content['source']!r}")
    return OnlineRecord(**content)


def reached(checkpoints: str) -> tuple[str, int]:
    """The stage that the newest checkpoint in a folder was taken in, and its round."""
    checkpoint = CheckpointStore(checkpoints).load(lambda line: None)
    return ("pretrain", 1) if checkpoint is None else position(checkpoint)


def check_waits(directory: str, stage: str, round: int) -> None:
    """Raises UserError unless a run that has reached a stage of a round waits for its online steps there."""
    if is_past((stage, round), "collect", round):
        raise UserError(f"{directory} is past stage 3: it is in stage {stage}, round {round}")
    if stage != "collect":
        raise UserError(
            f"{directory} does not wait for online steps yet: it is in stage {stage}, round {round}; go on with "
            "--resume RUN --stop-after explore"
        )
