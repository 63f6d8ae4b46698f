"""The plan of a sweep: its runs with their settings, which of them share a stage 1, and the order they start in."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from doof_ext.config import BaselineConfig, Config, RunSettings, command_line, given_flags
from doof_ext.config.baseline_settings import METHODS
from doof_ext.config.parser import known_flags, settings_from
from doof_ext.config.recorded import class_of, recorded_settings
from doof_ext.config.rules import Rules, rules_of, text_of
from doof_ext.config.settings import IN_MODEL
from doof_ext.errors import UserError

Key = tuple[tuple[str, Any], ...]
_DATA = ("source", "dataset_steps")  # a run compares the data's hash instead, which nothing has computed yet
_NOT_OF_THE_ARM = ("task", "seed", "control", "exploration_ratio", "exploration_coef")


def _key(settings: Mapping[str, Any], ignored: Callable[[Rules], bool]) -> Key:
    of = rules_of(class_of(settings))
    names = [name for name, rules in sorted(of.items()) if name in _DATA or not ignored(rules)]
    return tuple((name, settings[name]) for name in names if name != "pretrained")


def identity(settings: Mapping[str, Any]) -> Key:
    """What makes two runs the same run: all settings that a result depends on, and where their data come from.

    Whether stage 1 was taken from another run is none of them: the results are the same to the bit.
    """
    return _key(settings, lambda rules: rules.resumable)


def stage1(settings: Mapping[str, Any]) -> Key:
    """What makes the stage 1 of two runs the same."""
    return _key(settings, lambda rules: rules.after_pretraining)


@dataclass(frozen=True)
class RecordedRun:
    """A run directory in the log directory."""

    directory: str
    settings: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether it has its summary."""
        return os.path.exists(os.path.join(self.directory, "result", "summary.json"))

    @property
    def pretrained(self) -> bool:
        """Whether its stage 1 is there for other runs."""
        folder = os.path.join(glob.escape(self.directory), "checkpoint", "pretraining")
        return bool(glob.glob(os.path.join(folder, "state-*[0-9]")))


def recorded_runs(logdir: str, task: str) -> list[RecordedRun]:
    """The runs of a task in a log directory whose settings can be read; finished ones last, then by age."""
    found = []
    for directory in glob.glob(os.path.join(glob.escape(logdir), glob.escape(task), "*", "seed_*")):
        try:
            found.append(RecordedRun(directory, recorded_settings(directory)))
        except UserError:
            continue  # another version's, or stopped before it had recorded its settings
    return sorted(found, key=lambda run: (run.finished, os.path.getmtime(run.directory)))


def find_run(config: RunSettings) -> RecordedRun | None:
    """The run of these settings in their log directory: a finished one, else the newest; None where there is none."""
    wanted = identity(dataclasses.asdict(config))
    same = [run for run in recorded_runs(config.logdir, config.task) if identity(run.settings) == wanted]
    return same[-1] if same else None


@dataclass(eq=False)
class PlannedRun:
    """A run of the sweep.

    Attributes:
        argv: The flags of run_doof.py, or of run_baseline.py.
        config: The settings that they resolve to.
        arm: What distinguishes it from the other runs of its task, the seed apart.
    """

    argv: list[str]
    config: RunSettings
    arm: str = ""

    @cached_property
    def identity(self) -> Key:
        return identity(dataclasses.asdict(self.config))

    @cached_property
    def stage1(self) -> Key:
        return stage1(dataclasses.asdict(self.config))

    def __str__(self) -> str:
        return f"{self.config.task}, seed {self.config.seed}, {self.arm}"


def plan_runs(argvs: Iterable[list[str]]) -> list[PlannedRun]:
    """The runs of these command lines, each once, in their order.

    A command line with ``--baseline METHOD`` is a baseline's. Where there are any, DOOF's runs leave out the flags that
    only baselines have, and baselines those that only DOOF has.

    Raises:
        UserError: Flags do not fit.
    """
    runs: dict[Key, PlannedRun] = {}
    given: dict[Key, Collection[str]] = {}
    argvs = list(argvs)
    mixed = any("--baseline" in argv for argv in argvs)
    for argv in argvs:
        method = argv[argv.index("--baseline") + 1] if "--baseline" in argv else None
        flags = _flags_of(_without("--baseline", argv), method, mixed)
        taken = [name for name in ("resume", "pretrained") if name in flags]
        if taken:
            raise UserError(f"--{taken[0]} is not for a sweep, which finds in --logdir what it can go on from")
        settings: type[RunSettings] = Config if method is None else BaselineConfig
        run = PlannedRun(command_line(flags) if mixed else argv, settings_from(flags, settings))
        if run.identity not in runs:
            runs[run.identity], given[run.identity] = run, flags
    for key, run in runs.items():
        run.arm = _arm(run.config, given[key], list(runs.values()))
    return list(runs.values())


def _flags_of(argv: list[str], method: str | None, mixed: bool) -> dict[str, Any]:
    """The settings that a command line gives a run of DOOF, or of a baseline."""
    if method is not None:
        flags, rest = known_flags(_without("--algo", argv), BaselineConfig)
        given_flags(rest)  # which DOOF knows
        return flags | {"algo": method}
    if not mixed:
        return given_flags(argv)
    flags, rest = known_flags(argv, Config)
    given_flags(rest, settings=BaselineConfig)
    if flags.get("algo") == IN_MODEL:
        return flags
    return {name: value for name, value in flags.items() if rules_of(Config)[name].stage != "iql"}


def _without(name: str, argv: list[str]) -> list[str]:
    """A command line without a flag and its value."""
    if name not in argv:
        return argv
    place = argv.index(name)
    return argv[:place] + argv[place + 2 :]


def _arm(config: RunSettings, given: Collection[str], runs: Sequence[PlannedRun]) -> str:
    rules = rules_of(config)
    if isinstance(config, BaselineConfig):
        parts = [METHODS[config.algo].partition(":")[0]]
        runs = [run for run in runs if isinstance(run.config, BaselineConfig) and run.config.algo == config.algo]
        return ", ".join(parts + _differing(config, given, runs, rules))
    assert isinstance(config, Config)
    runs = [run for run in runs if isinstance(run.config, Config)]
    if config.control is not None:
        parts = [f"control {config.control}"]
    elif config.exploration_ratio is not None:
        parts = [f"ratio {text_of(config.exploration_ratio)}"]
    else:
        parts = [f"exploration coef {config.exploration_coef:g}"]
    return ", ".join(parts + _differing(config, given, runs, rules))


def _differing(
    config: RunSettings, given: Collection[str], runs: Sequence[PlannedRun], rules: Mapping[str, Rules]
) -> list[str]:
    """The settings given by which runs of a task differ, a phrase each."""
    parts = []
    for name in given:
        values = {getattr(run.config, name) for run in runs if run.config.task == config.task}
        of_a_result = name in _DATA or not rules[name].resumable
        if name not in _NOT_OF_THE_ARM and of_a_result and len(values) > 1:
            parts.append(f"{name.replace('_', ' ')} {text_of(getattr(config, name))}")
    return parts


def check_data_files(runs: Iterable[PlannedRun]) -> None:
    """Raises UserError where a run's data file is missing."""
    for run in runs:
        kind, _, path = run.config.source.partition(":")
        if kind == "hdf5" and not os.path.isfile(path):
            raise UserError(f"{run}: --source {run.config.source}: there is no such file")


class Queue:
    """The runs that wait, in the order of the plan; one of each stage 1 goes ahead, the others start when it is there.

    Args:
        runs: The runs to start.
        recorded: What the log directory holds.
    """

    def __init__(self, runs: Iterable[PlannedRun], recorded: Iterable[RecordedRun] = ()) -> None:
        self.waiting = list(runs)
        self.pretrained: dict[Key, str] = {}  # the directory that has each stage 1
        self._begun: set[Key] = set()
        self._ahead: dict[Key, PlannedRun] = {}  # who trains each stage 1 now
        for run in recorded:
            self._begun.add(identity(run.settings))
            if run.pretrained:
                self.pretrained[stage1(run.settings)] = run.directory

    def take(self) -> PlannedRun | None:
        """The next run that can start now, which leaves the queue; None where all must wait."""
        for run in self.waiting:
            if run.stage1 not in self.pretrained:
                if run.stage1 in self._ahead:
                    continue
                sharing = [other for other in self.waiting if other.stage1 == run.stage1]
                run = next((other for other in sharing if other.identity in self._begun), run)
                self._ahead[run.stage1] = run
            self.waiting.remove(run)
            return run
        return None

    def stage1_is_there(self, run: PlannedRun, directory: str) -> None:
        """A run's stage 1 has ended; others may take it from its directory."""
        self.pretrained.setdefault(run.stage1, directory)
        self._ahead.pop(run.stage1, None)

    def ended(self, run: PlannedRun) -> list[PlannedRun]:
        """A run is over. Those that can no longer have its stage 1 leave the queue and are returned."""
        if self._ahead.get(run.stage1) is not run:
            return []
        lost = [other for other in self.waiting if other.stage1 == run.stage1]
        self.waiting = [other for other in self.waiting if other.stage1 != run.stage1]
        return lost
