"""What completing and checking the settings of any run shares."""

import dataclasses
import math
import os
import typing
from collections.abc import Mapping, Set
from typing import Any, NoReturn, TypeVar

from doof_ext.config.presets import PRESETS
from doof_ext.config.rules import fits, flag, rules_of, text_of, words_of
from doof_ext.config.run_settings import RunSettings
from doof_ext.data import absolute_source
from doof_ext.errors import UserError

Settings = TypeVar("Settings", bound=RunSettings)


def with_expanded_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose paths have no ``~``; a file or run that is read again at a resumption has an absolute one."""
    expanded = dict(settings)
    for name in ("logdir", "resume", "pretrained"):
        if expanded.get(name):
            expanded[name] = os.path.expanduser(expanded[name])
    if expanded.get("pretrained"):
        expanded["pretrained"] = os.path.abspath(expanded["pretrained"])
    if "source" in expanded:
        expanded["source"] = absolute_source(expanded["source"])
    return expanded


def budgets_of(config: RunSettings, given: Set[str], budgets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the preset says of the settings that the user has left open.

    Args:
        config: The settings.
        given: Names of the settings that the user chose: a preset leaves those alone.
        budgets: By preset.

    Raises:
        UserError: There is no such preset, or --dataset-steps would have no effect.
    """
    if config.preset not in PRESETS:
        raise UserError(f"unknown preset {config.preset!r}; choose {', '.join(PRESETS)}")
    preset = {name: value for name, value in budgets[config.preset].items() if name not in given}
    if not may_be_recipe(config.source):
        _refuse_steps(config, given)
        preset.pop("dataset_steps", None)
    return preset


def without_evaluation(config: RunSettings, preset: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's values without a final evaluation, where nothing is evaluated in the environment."""
    evaluated = preset.get("eval_episodes", config.eval_episodes)
    return dict(preset) | ({} if evaluated or "final_episodes" not in preset else {"final_episodes": 0})


def with_defaults(config: Settings, defaults: Mapping[str, Any]) -> Settings:
    """Settings whose open ones have these values."""
    missing = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    return dataclasses.replace(config, **missing)


def check_values(config: RunSettings) -> None:
    """Raises UserError for a value that breaks its rules, or for an evaluation that there is none of."""
    hints = typing.get_type_hints(type(config))
    for name, rules in rules_of(config).items():
        _check_value(name, getattr(config, name), rules, hints[name])
    if not config.logdir:
        raise UserError("--logdir is empty; name a folder")
    if config.eval_episodes == 0:
        for name in ("final_episodes", "render"):
            if getattr(config, name):
                raise UserError(
                    f"{flag(name)}: with --eval-episodes 0 nothing but the online steps touches the environment"
                )


def idle_settings(config: RunSettings) -> list[str]:
    """A warning for each setting that is not as it would be by default and has no effect beside another one."""
    found = []
    for field in dataclasses.fields(config):
        rules, value = field.metadata["rules"], getattr(config, field.name)
        if value == field.default or rules.goes_with is None:
            continue
        other, values = rules.goes_with
        present = getattr(config, other)
        if present not in values:
            beside = f"{flag(other)} {str(present).lower() if isinstance(present, bool) else text_of(present)}"
            found.append(f"WARNING: {flag(field.name)} {text_of(value)} has no effect beside {beside}")
    return found


def may_be_recipe(source: str) -> bool:
    """Whether a source may come to be a recipe."""
    return source in ("auto", "recipe")


def _refuse_steps(config: RunSettings, given: Set[str]) -> None:
    """Raises UserError for --dataset-steps beside data that it does not shorten; a run that is resumed had its data."""
    if "dataset_steps" in given and config.dataset_steps is not None and config.resume is None:
        raise UserError(
            f"--dataset-steps shortens recipes only, not --source {config.source}; "
            "make_dataset.py --source … --steps N writes a file of the first N"
        )


def refuse(name: str, value: Any, right: str) -> NoReturn:
    """Raises UserError: what a setting must be."""
    raise UserError(f"{flag(name)} is {value}; it must be {right}")


def _check_value(name: str, value: Any, rules: Any, hint: Any) -> None:
    if rules.choices and value is not None and value not in rules.choices:
        refuse(name, value, f"one of {', '.join(rules.choices)}")
    if isinstance(value, float) and not math.isfinite(value):
        refuse(name, value, "a finite number")
    if value == ():
        refuse(name, value, "at least one number")
    words = words_of(hint)
    if words and not fits(value, hint):
        refuse(name, value, f"{' or '.join(words)} or a number")
    violation = rules.violation(value)
    if violation:
        refuse(name, value, violation)
