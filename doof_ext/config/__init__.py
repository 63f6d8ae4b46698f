"""The settings of a run: their rules, presets, command line, and how a run records them. Imports no torch."""

from doof_ext.config.baseline_settings import BaselineConfig
from doof_ext.config.parser import OneLineParser, command_line, config_from, given_flags, parse_args, parse_settings
from doof_ext.config.presets import PRESETS
from doof_ext.config.resolution import resolve
from doof_ext.config.run_settings import RunSettings
from doof_ext.config.settings import Config

__all__ = [
    "PRESETS",
    "BaselineConfig",
    "Config",
    "OneLineParser",
    "RunSettings",
    "command_line",
    "config_from",
    "given_flags",
    "parse_args",
    "parse_settings",
    "resolve",
]
