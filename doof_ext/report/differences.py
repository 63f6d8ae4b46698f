"""By which settings runs of one task differ: they are arms of their own, so that no average mixes them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from doof_ext.config.recorded import class_of
from doof_ext.config.rules import Rules, rules_of, text_of

if TYPE_CHECKING:
    from doof_ext.report.runs import Run

_TOLD = (
    "task",
    "seed",
    "preset",
    "algo",
    "uncertainty",
    "control",
    "exploration_ratio",
    "exploration_coef",
    "explore_rollouts",
    "rounds",
    "round_steps",
    "guard",
    "pretrained",
)
"""Settings that an arm's name has already, or that no result depends on."""


def name_differences(runs: Sequence[Run]) -> None:
    """Sets each run's ``others`` and ``others_exploring``: the settings that it has and most runs beside it do not.

    Beside it are the runs of its task, algorithm, estimator and preset. Where there is no most, all are named.
    """
    of_tasks: dict[Any, list[Run]] = {}
    for run in runs:
        of_tasks.setdefault((run.task, run.settings["algo"], run.settings.get("uncertainty")), []).append(run)
    for beside in of_tasks.values():
        found = {id(run): ([part] if part else []) for run, part in zip(beside, _parts(beside, "preset"), strict=True)}
        exploring: dict[int, list[str]] = {id(run): [] for run in beside}
        for preset in dict.fromkeys(run.settings["preset"] for run in beside):
            alike = [run for run in beside if run.settings["preset"] == preset]
            for name, rules in rules_of(class_of(beside[0].settings)).items():
                if not _matters(name, rules):
                    continue
                parts = exploring if rules.stage in ("explore", "collect") else found
                for run, part in zip(alike, _parts(alike, name), strict=True):
                    parts[id(run)] += [part] if part else []
        for run in beside:
            run.others, run.others_exploring = tuple(found[id(run)]), tuple(exploring[id(run)])


def _matters(name: str, rules: Rules) -> bool:
    return name not in _TOLD and not rules.resumable and rules.stage != "measure"


def _parts(runs: Sequence[Run], name: str) -> list[str]:
    """What each run is to be called by one setting; "" for most of them."""
    values = [_value(run, name) for run in runs]
    usual = next((value for value, count in Counter(values).items() if 2 * count > len(runs)), ...)
    return ["" if value == usual else f"{name.replace('_', ' ')} {text_of(value)}" for value in values]


def _value(run: Run, name: str) -> Any:
    """A setting of a run; its default where the run is older than the setting."""
    defaults = {field.name: field.default for field in dataclasses.fields(class_of(run.settings))}
    value = run.settings.get(name, defaults[name])
    return tuple(value) if isinstance(value, list) else value
