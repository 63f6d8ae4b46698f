"""Settings made complete, whichever command they are of."""

from __future__ import annotations

from collections.abc import Set
from typing import TypeVar, cast

from doof_ext.config.baseline_settings import BaselineConfig
from doof_ext.config.baseline_validation import resolve_baseline
from doof_ext.config.run_settings import RunSettings
from doof_ext.config.settings import Config
from doof_ext.config.validation import resolve_doof

Settings = TypeVar("Settings", bound=RunSettings)


def resolve(config: Settings, given: Set[str] = frozenset()) -> Settings:
    """Fills in what is left open from the preset, the task and the method, and checks every value.

    Args:
        config: The settings.
        given: Names of the settings that the user chose: a preset leaves those alone.

    Returns:
        The complete settings.

    Raises:
        UserError: A value breaks its rules, is of another method, or two do not fit together.
    """
    if isinstance(config, BaselineConfig):
        return cast(Settings, resolve_baseline(config, given))
    assert isinstance(config, Config)
    return cast(Settings, resolve_doof(config, given))
