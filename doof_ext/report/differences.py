"""By which settings runs differ: they are arms of their own, so that no average mixes them."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from doof_ext.config.recorded import class_of
from doof_ext.config.rules import Rules, rules_of
from doof_ext.report.grouping import grouped

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
    "guard",
    "pretrained",
)
"""Settings that an arm's name has already, or that no result depends on."""

_OF_A_SYSTEM = ("env", "env_id", "max_episode_steps", "action_low", "action_high", "termination")
_NO_MATTER = ("final_episodes", "distance_samples")
_OF_ANY_ALGORITHM = "matmul_precision"


def name_differences(runs: Sequence[Run]) -> None:
    """Sets each run's ``unlike``: the settings that it has and most runs beside it do not, a phrase by name.

    Beside it are the runs of its algorithm, estimator and preset; of its task, where a setting goes with the task; for
    the products' precision, which is no algorithm's, all. Where no value is that of most, all are named.
    """
    _name(runs, _OF_ANY_ALGORITHM, functools.partial(_value, _OF_ANY_ALGORITHM))
    for alike in grouped(runs, lambda run: (run.settings["algo"], run.settings.get("uncertainty"))).values():
        _name(alike, "preset", lambda run: run.settings["preset"])
        for beside in grouped(alike, lambda run: run.settings["preset"]).values():
            for name, rules in rules_of(class_of(beside[0].settings)).items():
                if name in (*_TOLD, *_NO_MATTER, _OF_ANY_ALGORITHM) or rules.resumable:
                    continue
                goes_with_task = rules.default_from in ("task", "method") or name in _OF_A_SYSTEM
                for of_one in grouped(beside, _task).values() if goes_with_task else [beside]:
                    _name(of_one, name, functools.partial(_value, name))
        for of_one in grouped(alike, _task).values():
            _name(of_one, "data", _data)


def stage_of(run: Run, name: str) -> str:
    """The stage that a setting belongs to; "" of what is none."""
    rules: Rules | None = rules_of(class_of(run.settings)).get(name)
    return rules.stage if rules else ""


def _name(runs: Sequence[Run], name: str, value_of: Callable[[Run], Any]) -> None:
    values = [value_of(run) for run in runs]
    usual = next((value for value, count in Counter(values).items() if 2 * count > len(runs)), ...)
    for run, value in zip(runs, values, strict=True):
        if value != usual:
            run.unlike[name] = f"{name.replace('_', ' ')} {_text(value)}"


def _task(run: Run) -> str:
    return run.task


def _value(name: str, run: Run) -> Any:
    """A setting of a run; its default where the run is older than the setting."""
    defaults = {field.name: field.default for field in dataclasses.fields(class_of(run.settings))}
    value = run.settings.get(name, defaults[name])
    return tuple(value) if isinstance(value, list) else value


def _data(run: Run) -> str | None:
    """Which data a run had; None of recipes, which are others for each seed, and of what is not known yet."""
    if run.summary is None or run.provenance == "recipe":
        return None
    return str(run.summary["dataset"].get("sha256"))[:8]


def _text(value: Any) -> str:
    """A value in full: an average would mix what a rounded one does not tell apart."""
    return " ".join(map(_text, value)) if isinstance(value, tuple) else str(value).removesuffix(".0")
