"""The settings that a run has recorded, and where another command line contradicts them."""

import dataclasses
import glob
import json
import os
import typing
from collections.abc import Callable, Mapping
from typing import Any

from doof_ext.config.baseline_settings import BaselineConfig, is_method
from doof_ext.config.resolution import Settings, resolve
from doof_ext.config.rules import Rules, fits, flag, rules_of
from doof_ext.config.run_settings import RunSettings
from doof_ext.config.settings import Config
from doof_ext.errors import UserError, unreadable


def recorded_settings(directory: str) -> dict[str, Any]:
    """The settings of the run in ``directory``, by name, in the types of Config or BaselineConfig.

    Raises:
        UserError: The directory holds no run, or one of another version, or its file is damaged.
    """
    path = os.path.join(directory, "record", "hyper_param.json")
    try:
        with open(path, encoding="utf-8") as file:
            recorded = json.load(file)
    except FileNotFoundError:
        raise UserError(f"{directory} is no run directory (there is no {path})") from None
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}): the run cannot be resumed") from None
    settings = class_of(recorded) if isinstance(recorded, dict) else Config
    hints = typing.get_type_hints(settings)
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    if not isinstance(recorded, dict) or not {"task", "seed", "preset"} <= set(recorded) <= set(defaults):
        raise UserError(f"{path} holds no settings, or those of another version of doof_ext")
    recorded = {name: tuple(value) if isinstance(value, list) else value for name, value in recorded.items()}
    for name, value in recorded.items():
        if not fits(value, hints[name]):
            raise UserError(f"{path} is damaged: {name} is {value!r}")
    if "exploration_coef" not in recorded and {"exploration_ratio", "penalty_coef"} <= set(recorded):
        ratio = recorded["exploration_ratio"] or 0.0  # an earlier version did not record the product
        recorded["exploration_coef"] = ratio * recorded["penalty_coef"]
    if settings is Config:
        for name, before in (("guard", "off"), ("policy_selection", "last")):
            recorded.setdefault(name, before)  # that is what there was before there was a choice
    return defaults | recorded  # a setting that is newer than the run has its default


def class_of(settings: Mapping[str, Any]) -> type[RunSettings]:
    """Whose settings these are, by name: Config or BaselineConfig."""
    return BaselineConfig if is_method(settings.get("algo")) else Config


def differences(
    settings: Mapping[str, Any], recorded: Mapping[str, Any], ignored: Callable[[Rules], bool]
) -> list[str]:
    """Where two sets of settings differ, a phrase each.

    Args:
        settings: The present ones, by name.
        recorded: A run's.
        ignored: Whether settings of these rules may differ. Settings that only one has are left out too.
    """
    rules = rules_of(class_of(recorded))
    return [
        f"{flag(name)} is {settings[name]}, the run's is {recorded[name]}"
        for name in settings
        if name in recorded and not ignored(rules[name]) and settings[name] != recorded[name]
    ]


def refuse_differences(settings: Mapping[str, Any], recorded: Mapping[str, Any], directory: str) -> None:
    """Raises UserError with the list of settings that keep the run in ``directory`` from being resumed."""
    found = differences(settings, recorded, lambda rules: rules.resumable)
    if found:
        raise UserError(f"{directory} cannot be resumed with other settings: {'; '.join(found)}")


def settings_to_resume(given: Mapping[str, Any], settings: type[Settings]) -> dict[str, Any]:
    """A command line's settings with ``resume`` among them, completed by those of the run that it names.

    Args:
        given: The settings; ``resume`` is a run directory, or empty for the newest unfinished run of the same settings.
        settings: The command's.

    Raises:
        UserError: There is no such run, it is another command's, or a setting that is given differs from the run's.
    """
    directory = given["resume"]
    if not directory:
        directory = find_newest(dataclasses.asdict(resolve(settings(**given), set(given))))
    recorded = recorded_settings(directory)
    if class_of(recorded) is not settings:
        other = "run_baseline.py, without --doof" if settings is Config else "run_doof.py"
        raise UserError(f"{directory} is a run of {recorded['algo']}; resume it with {other}")
    refuse_differences(given, recorded, directory)
    rules = rules_of(settings)
    resumable = {name: value for name, value in given.items() if rules[name].resumable}
    of_one_command = {name: None for name in ("stop_after", "online_data") if name in rules}
    return recorded | of_one_command | resumable | {"resume": os.path.normpath(directory)}


def find_newest(settings: Mapping[str, Any]) -> str:
    """The newest unfinished run directory in LOGDIR/TASK with these settings, those with the same source before others.

    Raises:
        UserError: There is none.
    """
    pattern = os.path.join(glob.escape(settings["logdir"]), glob.escape(settings["task"]), "*", "seed_*")
    found = []
    for directory in glob.glob(pattern):
        if os.path.exists(os.path.join(directory, "result", "summary.json")):
            continue
        try:
            recorded = recorded_settings(directory)
        except UserError:
            continue
        if not differences(settings, recorded, lambda rules: rules.resumable):
            written = os.path.getmtime(os.path.join(directory, "record", "hyper_param.json"))
            found.append((recorded["source"] == settings["source"], written, directory))
    if not found:
        raise UserError(f"no unfinished run of these settings in {settings['logdir']}; give --resume RUN_DIR")
    return max(found)[-1]
