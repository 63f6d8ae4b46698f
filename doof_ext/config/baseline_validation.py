"""From what a user gives to a baseline's settings that are complete and fit together."""

import dataclasses
import difflib
from collections.abc import Set
from typing import Any

from doof_ext.config.baseline_settings import BUDGETS, METHODS, BaselineConfig, defaults_of, is_for
from doof_ext.config.completion import budgets_of, check_values, with_defaults, with_expanded_paths, without_evaluation
from doof_ext.config.presets import PRESETS
from doof_ext.config.rules import flag, rules_of
from doof_ext.data import check_source
from doof_ext.errors import UserError
from doof_ext.tasks import name_of_env


def resolve_baseline(config: BaselineConfig, given: Set[str] = frozenset()) -> BaselineConfig:
    """:func:`~doof_ext.config.resolution.resolve` for a baseline; settings that its method lacks become None."""
    config = dataclasses.replace(config, **with_expanded_paths(dataclasses.asdict(config)))
    if config.env_id is not None and "task" not in given:
        config = dataclasses.replace(config, task=name_of_env(config.env_id))
    if config.env_id is None and config.max_episode_steps is not None:
        raise UserError("--max-episode-steps goes with --env-id; a task has its own")
    if config.algo not in METHODS:
        near = difflib.get_close_matches(config.algo, METHODS) or METHODS
        raise UserError(f"unknown baseline {config.algo!r}; did you mean {', '.join(near)}?")
    config = _of_its_method(config, given)
    own = {field.name for field in dataclasses.fields(config)}
    budgets = {name: {**of, **BUDGETS.get(name, {})} for name, of in PRESETS.items()}
    preset = {name: value for name, value in budgets_of(config, given, budgets).items() if name in own}
    config = dataclasses.replace(config, **without_evaluation(config, preset))
    config = with_defaults(config, defaults_of(config.algo, config.spec))
    if config.algo == "spot":
        config = with_defaults(config, {"density_epochs": -(-config.epoch // 10)})
    check_source(config.source)
    check_values(config)
    return config


def _of_its_method(config: BaselineConfig, given: Set[str]) -> BaselineConfig:
    """Settings without those of other methods; raises UserError for one of them that the user gives."""
    others = [name for name, rules in rules_of(config).items() if not is_for(rules.stage, config.algo)]
    for name in others:
        if name in given and getattr(config, name) is not None:
            whose = config.TITLES[rules_of(config)[name].stage]
            raise UserError(f"{flag(name)}: {config.algo} has no such setting; it is for {whose}")
    without: dict[str, Any] = dict.fromkeys(others)
    return dataclasses.replace(config, **without)
