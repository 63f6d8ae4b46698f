"""Run directories as figures and tables read them, finished, unfinished or damaged; and which may be averaged."""

from __future__ import annotations

import csv
import math
import os
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from doof_ext.config.baseline_settings import METHODS
from doof_ext.config.recorded import class_of
from doof_ext.config.rules import fits, text_of
from doof_ext.config.settings import CONTROLS, Config
from doof_ext.errors import UserError, unreadable
from doof_ext.evaluation.measurements import read_measurements
from doof_ext.experiment.summary import read_summary
from doof_ext.files import read_json
from doof_ext.report.differences import name_differences, stage_of
from doof_ext.report.grouping import grouped
from doof_ext.tasks import get_spec

CONTROL = "control"
RATIO_0 = "ratio 0"
COMPARISONS = (*CONTROLS, RATIO_0)
"""What a gain is set beside: each kind of control, the strictest first, and the same with D_on collected by π_off."""
SCORE = "eval/normalized_episode_reward"
MODEL_RETURN = "eval/model_return"
MODEL_LOWER_BOUND = f"{MODEL_RETURN}_lower_bound"  # not in the files: of two columns that are
_WITHOUT_D_ON = ("start_ratio", "finetune_online_ratio", "finetune_dynamics_online_ratio", "round_steps")
"""Settings of what comes from D_on, which the controls do not have."""
_REQUIRED = ("task", "seed", "algo", "step_per_epoch", "preset")
"""The settings that a report reads."""
_OF_DOOF = ("exploration_ratio", "rounds", "uncertainty")
"""Those that it reads of DOOF's runs besides."""


@dataclass
class Run:
    """One run directory.

    Attributes:
        directory: Its path.
        settings: record/hyper_param.json.
        summary: result/summary.json; None while the run is unfinished, or where the file is damaged.
        curve: The rows of policy_training_progress.csv, as numbers, with the lower bound of the model's return.
        distances: See read_measurements; without the kinds of which no pair could be simulated.
        problem: What is wrong with it; "" where nothing is.
        unlike: Settings in which it is unlike most runs beside it: by name, a phrase each.
        recorded_source: Whose data an unfinished run has by record/dataset.json; "" where that does not say.
    """

    directory: str
    settings: dict[str, Any]
    summary: dict[str, Any] | None = None
    curve: list[dict[str, float]] = field(default_factory=list)
    distances: dict[str, dict[str, dict[str, np.ndarray]]] = field(default_factory=dict)
    problem: str = ""
    unlike: dict[str, str] = field(default_factory=dict)
    recorded_source: str = ""

    @property
    def results(self) -> dict[str, Any]:
        """The summary of a run that has one."""
        assert self.summary is not None
        return self.summary

    @property
    def task(self) -> str:
        return self.settings["task"]

    @property
    def seed(self) -> int:
        return self.settings["seed"]

    @property
    def control(self) -> str | None:
        """The kind of control that it is; None for a DOOF run."""
        return self.settings.get("control")

    @property
    def method(self) -> str | None:
        """The baseline's name; None for a DOOF run."""
        algo = self.settings["algo"]
        return METHODS[algo].partition(":")[0] if algo in METHODS else None

    @property
    def finetunes_dynamics(self) -> bool:
        """Whether it has a stage 4."""
        return self.control != "extra-training" and self.method is None

    @cached_property
    def arm(self) -> str:
        """What distinguishes it from other runs of its task, the seed apart."""
        if self.method is not None:
            return ", ".join([self.method, *self.unlike.values()])
        ratio = self.settings["exploration_ratio"]
        exploration = f"λ_on {self.settings['exploration_coef']:g}" if ratio is None else f"ratio {text_of(ratio)}"
        if self.settings.get("explore_rollouts") == "penalty":
            exploration += " with penalised rollouts"
        kind = f"{CONTROL} {self.control}" if self.control else exploration
        of_its_kind = self.control or (RATIO_0 if _is(self, RATIO_0) else "")
        rounds = ["automatic rounds"] if self.settings["rounds"] == "auto" else self._several_rounds
        return ", ".join([kind, *rounds, *self._method_parts, *self._unlike_beside(of_its_kind)])

    @property
    def rounds(self) -> int:
        """Rounds of stages 2-5 that were run; of an unfinished run, those that it asks for or has come to."""
        if self.summary is not None:
            return self.summary["rounds"]
        asked = 1 if self.method is not None else self.settings["rounds"]
        return max((int(row["round"]) for row in self.curve), default=1) if asked == "auto" else asked

    @cached_property
    def variant(self) -> tuple[str, ...]:
        """What a DOOF run and its controls have in common that other runs of the task may not have."""
        return self.beside(CONTROLS[0])

    def beside(self, other: str) -> tuple[str, ...]:
        """What a run has in common with its run of another arm, one of COMPARISONS."""
        return (*self._several_rounds, *self._method_parts, *self._unlike_beside(other))

    @property
    def _several_rounds(self) -> tuple[str, ...]:
        return (f"{self.rounds} rounds",) if self.rounds > 1 else ()

    @property
    def _method_parts(self) -> tuple[str, ...]:
        parts = []
        if self.settings.get("guard") == "on":
            parts.append("guard")
        if self.settings["algo"] != "mopo":
            parts.append(self.settings["algo"])
        if self.settings["uncertainty"] not in ("aleatoric", "mobile" if self.settings["algo"] == "mobile" else ""):
            parts.append(self.settings["uncertainty"])
        return tuple(parts)

    def _unlike_beside(self, other: str) -> tuple[str, ...]:
        """The phrases of ``unlike`` but for settings that another arm does not depend on."""
        if not other:
            return tuple(self.unlike.values())
        names, stages = (_WITHOUT_D_ON, ("explore", "collect")) if other in CONTROLS else ((), ("explore",))
        if other == "extra-training":
            stages = (*stages, "finetune_dynamics")
        return tuple(
            part for name, part in self.unlike.items() if name not in names and stage_of(self, name) not in stages
        )

    @property
    def provenance(self) -> str:
        """recipe, d4rl, hdf5 or minari; "unknown" of an unfinished run that does not say."""
        if self.summary is not None:
            return self.summary["dataset"]["source"]
        given = self.recorded_source or str(self.settings.get("source")).partition(":")[0]
        return given if given in ("recipe", "d4rl", "hdf5", "minari") else "unknown"

    @property
    def data(self) -> str:
        """Whose data it had, in words."""
        return f"{self.provenance} data"

    @property
    def paper_name(self) -> str:
        """The paper's abbreviation of the task, or its name where the paper has none."""
        try:
            return get_spec(self.task).paper_name or self.task
        except UserError:
            return self.task

    def finetuning(self, column: str = SCORE) -> list[tuple[int, int, float]]:
        """Stage 5's curve: (round, gradient steps of stage 5 so far in all rounds, value); empty without the column."""
        steps = 0
        points: list[tuple[int, int, float]] = []
        for row in self.curve:
            if row["stage"] == 5 and column in row:
                steps += self.settings["step_per_epoch"]
                points.append((int(row["round"]), steps, row[column]))
        return points


def find_runs(paths: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """Every run in or below the paths, ordered by task, arm and seed; ``problem`` describes a damaged one.

    Raises:
        UserError: A path is no folder, or there is no run at all.
    """
    directories: set[str] = set()
    for path in paths:
        if not os.path.isdir(path):
            raise UserError(f"{path} is no folder; give log directories or run directories")
        for folder, folders, files in os.walk(path):
            if os.path.basename(folder) == "record" and "hyper_param.json" in files:
                directories.add(os.path.dirname(os.path.normpath(folder)))
            folders[:] = [name for name in folders if name not in ("wandb", "checkpoint", "tb")]
    if not directories:
        raise UserError(f"no run directories in {', '.join(map(str, paths))}; a run makes LOGDIR/TASK/doof…/seed_…")
    runs = [_read(directory) for directory in sorted(directories)]
    name_differences(runs)
    _set_repeats_aside(runs)
    return sorted(runs, key=lambda run: (run.task, kind_order(run), run.arm, run.seed, run.directory))


def _read(directory: str) -> Run:
    run = Run(
        directory,
        {
            "task": "unknown task",
            "seed": -1,
            "exploration_ratio": math.nan,
            "rounds": 1,
            "algo": "",
            "uncertainty": "aleatoric",
            "step_per_epoch": 1000,
            "preset": "",
        },
    )
    try:
        _settings(run)
    except UserError as error:
        run.problem = str(error)
        return run
    problems = []
    for read in (_curve, _distances, _summary):
        try:
            read(run)
        except UserError as error:
            problems.append(str(error))
    if run.summary is None:
        run.recorded_source = _source(directory)
    if not problems and run.summary is None:
        problems = [f"unfinished{_how_far(run)}"]
    run.problem = "; ".join(problems)
    return run


def _set_repeats_aside(runs: Sequence[Run]) -> None:
    """Leaves of each run that was made several times one that counts: a finished one, and of those the newest."""

    def circumstances(run: Run) -> tuple[str, str] | None:
        return (run.provenance, run.results["physics"]) if run.summary else None

    whole = [run for run in runs if not run.problem or run.problem.startswith("unfinished")]
    for same in grouped(whole, lambda run: (run.task, run.settings.get("source"), run.arm, run.seed)).values():
        for known in {circumstances(run) for run in same if run.summary} or {None}:
            repeats = [run for run in same if circumstances(run) in (None, known)]
            counts = max(repeats, key=lambda run: (run.summary is not None, os.path.basename(run.directory)))
            for run in repeats:
                if run is not counts:
                    run.problem = f"not counted: the same run is {counts.directory}"
                    run.summary, run.curve, run.distances = None, [], {}


def _settings(run: Run) -> None:
    path = os.path.join(run.directory, "record", "hyper_param.json")
    settings = read_json(path)
    of = class_of(settings)
    hints, own = typing.get_type_hints(of), _OF_DOOF if of is Config else ()
    for name in dict.fromkeys((*_REQUIRED, *own, *settings)):
        value = settings.get(name)
        if name in hints and not fits(tuple(value) if isinstance(value, list) else value, hints[name]):
            raise UserError(f"{path} is damaged: {name} is {value!r}")
    if of is Config and settings["exploration_ratio"] is None and settings.get("exploration_coef") is None:
        raise UserError(f"{path} is damaged: it has neither exploration_ratio nor exploration_coef")
    run.settings = settings


def _source(directory: str) -> str:
    try:
        source = read_json(os.path.join(directory, "record", "dataset.json")).get("source")
    except UserError:
        return ""
    return source if isinstance(source, str) else ""


def _curve(run: Run) -> None:
    path = os.path.join(run.directory, "record", "policy_training_progress.csv")
    if not os.path.exists(path):
        return
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [
                {name: float(value) for name, value in row.items() if name and value} for row in csv.DictReader(file)
            ]
        evaluated = any(SCORE in row for row in rows)
        if any(not {"stage", "round", *([SCORE] if evaluated else [])} <= set(row) for row in rows):
            raise ValueError("a row without stage, round or score")
        if not all(math.isfinite(row[name]) for row in rows for name in ("stage", "round")):
            raise ValueError("a stage or a round that is no number")
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error})") from error
    for row in rows:
        if {MODEL_RETURN, f"{MODEL_RETURN}_spread"} <= set(row):
            row[MODEL_LOWER_BOUND] = row[MODEL_RETURN] - row[f"{MODEL_RETURN}_spread"]
    run.curve = rows


def _distances(run: Run) -> None:
    path = os.path.join(run.directory, "result", "distances.npz")
    if os.path.exists(path):
        found = read_measurements(path)
        for kind, both in found.items():
            columns = [both.get(when, {}).get(name, ()) for when in ("before", "after") for name in ("distance", "u")]
            if len({len(column) for column in columns}) > 1:
                raise UserError(f"{path} is damaged: the columns of {kind} are of different lengths")
            if len(columns[0]):
                run.distances[kind] = both


def _summary(run: Run) -> None:
    path = os.path.join(run.directory, "result", "summary.json")
    if not os.path.exists(path):
        return
    run.summary = read_summary(path)


def _how_far(run: Run) -> str:
    if run.curve:
        return f": stage {run.curve[-1]['stage']:.0f}, {len(run.curve)} epochs of policy training so far"
    try:
        with open(os.path.join(run.directory, "record", "dynamics_training_progress.csv"), encoding="utf-8") as file:
            return f": {max(sum(1 for _ in file) - 1, 0)} epochs of dynamics training so far"
    except (OSError, UnicodeDecodeError):
        return ""


def control_order(control: str | None) -> int:
    """Where the kind of a run comes: DOOF first, then the controls, the strictest before the others."""
    return 0 if control is None else 1 + CONTROLS.index(control) if control in CONTROLS else 1 + len(CONTROLS)


def kind_order(run: Run) -> int:
    """Where a run comes among those of its task: DOOF, the controls, the baselines."""
    return control_order(run.control) + (len(CONTROLS) + 2 if run.method else 0)


def check_alike(runs: Sequence[Run]) -> None:
    """Raises UserError where finished runs differ in preset, provenance or physics: an average would mix them."""
    for what, values in (
        ("presets", {run.settings["preset"] for run in runs if run.summary}),
        ("provenance", {run.provenance for run in runs if run.summary}),
        ("physics", {run.summary["physics"] for run in runs if run.summary}),
    ):
        if len(values) > 1:
            raise UserError(
                f"these runs are of different {what} ({', '.join(sorted(values))}); give runs that are "
                "alike, or --mix to have them in one report"
            )


def gains_over(members: Sequence[Run], runs: Iterable[Run], other: str) -> list[float]:
    """The gains of an arm's runs less those of another arm, seed by seed; of seeds that only one has, nothing.

    Args:
        members: Finished runs of one arm of one task.
        runs: Finished runs of the same task, the other arm's among them.
        other: One of COMPARISONS.
    """
    if any(run.control or run.method or (other == RATIO_0 and _is(run, other)) for run in members):
        return []
    theirs = [run for run in runs if _is(run, other) and is_scored(run)]
    gains = []
    for run in filter(is_scored, members):
        beside = [of for of in theirs if of.seed == run.seed and of.beside(other) == run.beside(other)]
        if beside:
            gains.append(run.results["gain"] - float(np.mean([of.results["gain"] for of in beside])))
    return gains


def _is(run: Run, other: str) -> bool:
    if other == RATIO_0:
        return run.control is None and run.method is None and run.settings["exploration_ratio"] == 0
    return run.control == other


def count_seeds(runs: Iterable[Run]) -> str:
    """How many different seeds runs have, as a table tells it: a run that was repeated is no further one."""
    return str(len({run.seed for run in runs}))


def is_scored(run: Run) -> bool:
    """Whether a run has ended, and its policies were evaluated in the environment."""
    return run.summary is not None and run.summary["gain"] is not None
