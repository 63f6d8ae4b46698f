"""The settings of a run: their rules, presets, command line, and how a run records them. Imports no torch."""

from doof_ext.config.parser import OneLineParser, config_from, given_flags, parse_args
from doof_ext.config.presets import PRESETS
from doof_ext.config.settings import Config
from doof_ext.config.validation import resolve

__all__ = ["PRESETS", "Config", "OneLineParser", "config_from", "given_flags", "parse_args", "resolve"]
