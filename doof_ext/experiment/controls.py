"""The controls that have ended beside a run: the same training without online data, which its gain is held against."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Mapping
from typing import Any

from doof_ext.config import Config
from doof_ext.config.recorded import differences, recorded_settings
from doof_ext.config.rules import Rules
from doof_ext.config.settings import CONTROLS
from doof_ext.errors import UserError
from doof_ext.experiment.artifacts import RunFiles
from doof_ext.experiment.summary import read_summary

_OF_AN_ARM = (
    "control",
    "pretrained",
    "exploration_ratio",
    "exploration_coef",
    "preset",
    "source",
    "dataset_steps",
    "round_steps",
)
"""Settings in which a run and its controls may differ; whether their data are the same, the data's hash says."""


def _no_matter(rules: Rules) -> bool:
    return rules.resumable or rules.stage in ("explore", "collect", "measure")


def gains_over_controls(config: Config, summary: Mapping[str, Any], directory: str) -> dict[str, float]:
    """The gain of a run less that of each control of the same task, seed, data and settings that has ended.

    Args:
        config: The run's settings.
        summary: Its summary.
        directory: Its run directory: controls are those below the same LOGDIR/TASK, of several of a kind the newest.

    Returns:
        By kind of control, the strictest first; nothing of a control itself, or where none has ended or been evaluated.
    """
    if config.control is not None or summary["gain"] is None:
        return {}
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in _OF_AN_ARM}
    if config.rounds == "auto":
        settings["rounds"] = summary["rounds"]  # what it came to
    task_folder = os.path.dirname(os.path.dirname(os.path.abspath(directory)))
    found: dict[str, float] = {}
    for other in sorted(glob.glob(os.path.join(glob.escape(task_folder), "doof*", "seed_*")), key=os.path.basename):
        if not os.path.exists(RunFiles(other).summary):
            continue
        try:
            recorded, theirs = recorded_settings(other), read_summary(RunFiles(other).summary)
        except UserError:  # a damaged run, which a report would name
            continue
        same_data = theirs["dataset"].get("sha256") == summary["dataset"]["sha256"]
        alike = same_data and not differences(settings, recorded, _no_matter)
        if recorded["control"] is not None and theirs["gain"] is not None and alike:
            found[recorded["control"]] = summary["gain"] - theirs["gain"]
    return {kind: found[kind] for kind in CONTROLS if kind in found}
