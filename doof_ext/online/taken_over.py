"""Online steps that were taken outside a run, checked before the run takes them over."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

from doof_ext import data
from doof_ext.algorithm.guard import FEWEST, held_out_rows
from doof_ext.config import Config
from doof_ext.data.dataset import Dataset, concatenate, read_dataset
from doof_ext.data.journal import OnlineJournal
from doof_ext.errors import UserError, unreadable
from doof_ext.evaluation.consistency import reconstruction_findings
from doof_ext.evaluation.online_checks import check_online_steps, known_steps, online_table
from doof_ext.experiment import run_directory
from doof_ext.experiment.artifacts import RunFiles, session_steps
from doof_ext.experiment.online_record import OnlineRecord, OnlineSteps, check_waits, reached, read_online_record
from doof_ext.learning.factory import build_termination_fn


def steps_to_take_over(config: Config, env: Any, offline: Dataset) -> OnlineSteps | None:
    """The online steps that a run which is resumed is to go on with; nothing of the run is changed.

    Args:
        config: The settings.
        env: The environment.
        offline: D.

    Returns:
        The steps of ``config.online_data``, else those of a session; None where there are none, or where the run has
        taken them over already.

    Raises:
        UserError: They do not fit, a session has not taken all of its steps, or the run does not wait for steps.
    """
    if not config.resume:
        return None
    files = RunFiles(config.resume)
    with run_directory.lock(config.resume):
        try:
            if config.online_data is not None:
                return _of_files(config, files, env, offline)
            return _of_session(config, files, env, offline)
        except OSError as error:
            raise unreadable(error.filename or files.directory, error) from error


def _of_files(config: Config, files: RunFiles, env: Any, offline: Dataset) -> OnlineSteps | None:
    stage, round = reached(files.checkpoints)
    record = read_online_record(files.online_record(round))
    if record is None or record.source != "files":
        check_waits(files.directory, stage, round)
        path = files.journal(round)
        taken = len(OnlineJournal(path)) if os.path.exists(path) else 0
        if taken:
            by = "an OnlineSession" if record is not None else "its own stage 3"
            raise UserError(f"--online-data: {files.directory} has {taken} steps of {by} already")
    assert config.online_data is not None
    loaded = [data.load_online(source, env.spec) for source in config.online_data]
    parts = [part.dataset for part in loaded]
    for part in parts:
        part.timeouts[-1] = not part.terminals[-1]  # a file's last episode does not go on in the next file
    steps = dataclasses.replace(functools.reduce(concatenate, parts), metadata={"collected_by": "the user"})
    digest = steps.sha256()
    if record is not None and record.source == "files":
        if record.sha256 != digest:
            raise UserError(f"--online-data: {files.directory} has other online data already, of round {round}")
        if os.path.exists(files.online_steps(round)):
            return None
    label = ", ".join(config.online_data)
    checks, refused = check_online_steps(env, build_termination_fn(env.spec), offline, steps)
    if refused:
        raise UserError(f"--online-data {label}: {'; '.join(refused)}")
    digests = [part.dataset.sha256() for part in loaded]
    if len(set(digests)) < len(digests):
        raise UserError(f"--online-data {label}: the same steps are given twice")
    _refuse_known(label, [(part.id, part.dataset) for part in loaded], _earlier_rounds(files, round))
    if config.guard == "on" and round == 1 and (~held_out_rows(steps)).sum() < FEWEST:
        raise UserError(
            f"--online-data {label}: {len(steps)} steps are too few for --guard on, which holds out some of them"
        )
    listed = [
        {"source": part.source, "id": part.id, "steps": len(part.dataset), "sha256": sha256}
        for part, sha256 in zip(loaded, digests, strict=True)
    ]
    record = OnlineRecord("files", len(steps), digest, listed, checks)
    notes = [line for part in loaded for line in reconstruction_findings(part.dataset, part.id)]
    return OnlineSteps(round, record, steps, [*notes, *online_table(checks, env.spec.observation_names)])


def _earlier_rounds(files: RunFiles, round: int) -> list[tuple[str, Dataset]]:
    """The online steps of the rounds before one, by name, whoever took them."""
    found = []
    for earlier in range(1, round):
        given, journal = files.online_steps(earlier), files.journal(earlier)
        steps = read_dataset(given) if os.path.exists(given) else OnlineJournal(journal).dataset()
        found.append((f"round {earlier}'s", steps))
    return found


def _refuse_known(label: str, parts: Sequence[tuple[str, Dataset]], earlier: Sequence[tuple[str, Dataset]]) -> None:
    """Raises UserError where a file and one before it, or an earlier round, share half of the shorter one's steps."""
    for index, (name, steps) in enumerate(parts):
        for other, others in [*earlier, *parts[:index]]:
            shared = known_steps(others, steps)
            if 2 * shared >= min(len(steps), len(others)):
                raise UserError(
                    f"--online-data {label}: {shared} steps of {name} are in {other} as well; give each step once"
                )


def _of_session(config: Config, files: RunFiles, env: Any, offline: Dataset) -> OnlineSteps | None:
    for round in range(1, config.most_rounds + 1):
        record = read_online_record(files.online_record(round))
        if record is not None and record.source == "session" and record.sha256 is None:
            steps = session_steps(files, round, record, print)
            checks, findings = check_online_steps(env, build_termination_fn(env.spec), offline, steps)
            lines = [*online_table(checks, env.spec.observation_names), *(f"WARNING: {line}" for line in findings)]
            record = dataclasses.replace(record, sha256=steps.sha256(), checks=checks)
            return OnlineSteps(round, record, steps, lines)
    return None
