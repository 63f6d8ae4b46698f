"""Which run goes on: its recorded settings, and what of a command line they contradict. Imports no torch."""

import dataclasses
import glob
import json
import os
import typing

from doof_ext.errors import UserError

FREE = ("resume", "logdir", "wandb", "threads", "checkpoint_every", "download", "distance_task", "render")
"""Settings that a run may go on with other values of: none of them changes what is computed."""

AFTER_STAGE_1 = (
    *FREE, "preset", "pretrained", "control", "exploration_ratio", "rounds", "explore_epochs", "explore_real_ratio",
    "uncertainty_buffer_size", "explore_uncertainty_ratio", "online_steps", "collect_deterministic",
    "finetune_dynamics_steps", "finetune_dynamics_online_ratio", "finetune_epochs", "finetune_real_ratio",
    "finetune_online_ratio", "start_ratio",
)  # fmt: skip
"""Settings that stage 1 does not depend on."""


def recorded_settings(directory, config_class) -> dict:
    """The settings of the run in ``directory``, by name, in ``config_class``'s types.

    Raises: UserError for a directory that holds no run, or one of another version, or a damaged file.
    """
    path = os.path.join(directory, "record", "hyper_param.json")
    try:
        with open(path, encoding="utf-8") as file:
            recorded = json.load(file)
    except FileNotFoundError:
        raise UserError(f"{directory} is no run directory (there is no {path})") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}): the run cannot be resumed") from None
    hints = typing.get_type_hints(config_class)
    defaults = {field.name: field.default for field in dataclasses.fields(config_class)}
    if not isinstance(recorded, dict) or not {"task", "seed", "preset"} <= set(recorded) <= set(defaults):
        raise UserError(f"{path} holds no settings, or those of another version of doof_ext")
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in recorded.items()}
    settings = defaults | settings  # a setting that is newer than the run has its default
    for name, value in settings.items():
        if not _fits(value, hints[name]):
            raise UserError(f"{path} is damaged: {name} is {value!r}")
    return settings


def _fits(value, hint):
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(item, typing.get_args(hint)[0]) for item in value)
    if typing.get_args(hint):  # a union
        return any(_fits(value, part) for part in typing.get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is hint


def differences(settings, recorded, ignored=FREE) -> list[str]:
    """Where two dicts of settings differ, a phrase each, in the settings that both have and that count."""
    return [
        f"--{name.replace('_', '-')} is {settings[name]}, the run's is {recorded[name]}"
        for name in settings
        if name in recorded and name not in ignored and settings[name] != recorded[name]
    ]


def refuse_differences(settings, recorded, directory) -> None:
    """Raises UserError with the list of differences, where there are any."""
    found = differences(settings, recorded)
    if found:
        raise UserError(f"{directory} cannot go on with other settings: {'; '.join(found)}")


def settings_to_go_on_with(given, config_class, resolve) -> dict:
    """A command line's settings ``given`` with ``resume`` among them, completed by those of the run that it names.

    ``resume`` is a run directory, or empty for the newest unfinished run of the same settings. Raises: UserError where
    there is none, or where a setting that is given differs from the run's.
    """
    directory = given["resume"]
    if not directory:
        wanted = dataclasses.asdict(resolve(config_class(**given), set(given)))
        directory = find_newest(wanted, config_class)
    recorded = recorded_settings(directory, config_class)
    refuse_differences(given, recorded, directory)
    free = {name: given[name] for name in FREE if name in given}
    return recorded | free | {"resume": os.path.normpath(directory)}


def find_newest(settings, config_class) -> str:
    """The newest unfinished run directory in LOGDIR/TASK with these settings; UserError where there is none."""
    pattern = os.path.join(glob.escape(settings["logdir"]), glob.escape(settings["task"]), "doof*", "seed_*")
    found = []
    for directory in glob.glob(pattern):
        if os.path.exists(os.path.join(directory, "result", "summary.json")):
            continue
        try:
            recorded = recorded_settings(directory, config_class)
        except UserError:
            continue
        if not differences(settings, recorded):
            found.append(directory)
    if not found:
        raise UserError(f"no unfinished run of these settings in {settings['logdir']}; give --resume RUN_DIR")
    return max(found, key=lambda directory: os.path.getmtime(os.path.join(directory, "record", "hyper_param.json")))
