"""From what a user gives to settings that are complete and fit together."""

import dataclasses
import math
import os
from collections.abc import Set
from typing import Any

from doof_ext.config.baseline_settings import defaults_of
from doof_ext.config.completion import (
    budgets_of,
    check_values,
    refuse,
    with_defaults,
    with_expanded_paths,
    without_evaluation,
)
from doof_ext.config.presets import PRESETS
from doof_ext.config.rules import flag, rules_of
from doof_ext.config.settings import IN_MODEL, Config
from doof_ext.data import check_source
from doof_ext.errors import UserError
from doof_ext.tasks import get_spec, name_of_env, task_names
from doof_ext.uncertainty import check_estimator
from doof_ext.uncertainty.defaults import task_defaults


def resolve_doof(config: Config, given: Set[str] = frozenset()) -> Config:
    """:func:`~doof_ext.config.resolution.resolve` for a DOOF run."""
    config = dataclasses.replace(config, **with_expanded_paths(dataclasses.asdict(config)))
    if config.env_id is not None and "task" not in given:
        config = dataclasses.replace(config, task=name_of_env(config.env_id))
    config = _without_env(config, given) if config.env == "none" else config
    _check_task_flags(config)
    spec = config.spec
    preset = budgets_of(config, given, PRESETS)
    if config.env == "none":
        preset |= {"eval_episodes": 0}
    if config.rounds == "auto" and "guard" in preset:
        preset |= {"guard": "on"}
    preset = without_evaluation(config, preset)
    uncertainty = config.uncertainty or ("mobile" if config.algo == "mobile" else "aleatoric")
    config = dataclasses.replace(config, **preset, uncertainty=check_estimator(uncertainty))
    config = _of_iql(config, given)
    from_algorithm = {"auto_alpha": True, **task_defaults(spec, config.algo, config.uncertainty)[0]}
    from_task = [name for name, rules in rules_of(config).items() if rules.default_from == "task"]
    config = with_defaults(
        config, {name: getattr(spec, name) for name in from_task if hasattr(spec, name)} | from_algorithm
    )
    check_source(config.source)
    check_values(config)
    config = _with_horizon(config)
    config = _with_exploration(config, given)
    _check_together(config)
    if config.distance_task is not None and get_spec(config.distance_task).domain != spec.domain:
        raise UserError(f"--distance-task {config.distance_task} is another system than {spec.name}")
    return config


_ROWS_OF_IQL: dict[str, Any] = dict(real_ratio=1.0, finetune_real_ratio=0.25, finetune_online_ratio=0.25)
"""Parts of a batch of D and D_on where IQL learns beside the model: most rows are recorded ones, as IQL's are."""

_OF_SAC = ("auto_alpha", "alpha", "target_entropy", "alpha_lr")


def _of_iql(config: Config, given: Set[str]) -> Config:
    """Settings with IQL's own where it is the algorithm; raises UserError for one of them beside another."""
    own = [name for name, rules in rules_of(config).items() if rules.stage == "iql"]
    if config.algo != IN_MODEL:
        for name in own:
            if getattr(config, name) is not None:
                raise UserError(f"{flag(name)}: {config.algo} has no such setting; it is for --algo {IN_MODEL}")
        return config
    for name in _OF_SAC:
        if name in given and config.resume is None:
            raise UserError(f"{flag(name)}: {IN_MODEL} has no such setting; it is SAC's")
    values = defaults_of("iql", config.spec)
    config = with_defaults(config, {name: values[name] for name in (*own, "hidden_dims", "actor_lr", "critic_lr")})
    return dataclasses.replace(config, **{name: of for name, of in _ROWS_OF_IQL.items() if name not in given})


def _without_env(config: Config, given: Set[str]) -> Config:
    """Settings of --env none with the task's name; raises UserError for what needs an environment."""
    if config.env_id is not None:
        raise UserError("--env none is a run without an environment, --env-id one with: give one of them")
    if config.algo == IN_MODEL:
        raise UserError(f"--env none: policies of {IN_MODEL}, which is experimental, cannot collect outside a run yet")
    if not config.source.startswith(("hdf5:", "minari:")):
        raise UserError("--env none: give the data with --source hdf5:FILE, which the task is read off")
    if "eval_episodes" in given and config.eval_episodes:
        raise UserError(f"--eval-episodes {config.eval_episodes}: --env none has nothing to evaluate a policy in")
    if "task" in given:
        return config
    name = name_of_env(os.path.splitext(os.path.basename(config.source.partition(":")[2]))[0])
    return dataclasses.replace(config, task=f"{name}-data" if name in task_names() else name)


def _check_task_flags(config: Config) -> None:
    """Raises UserError for flags of a task of one's own beside a task that has its own."""
    is_own = config.env_id is not None or (config.env == "none" and config.task not in task_names())
    if not is_own and (config.termination, config.max_episode_steps) != (None, None):
        raise UserError("--termination and --max-episode-steps go with --env-id or --env none; a task has its own")
    if (config.action_low, config.action_high) != (None, None) and not (is_own and config.env == "none"):
        raise UserError("--action-low and --action-high go with --env none; an environment and a task have their own")


_HORIZON = 50  # steps, 1 to 2 % of an epoch


def _with_horizon(config: Config) -> Config:
    """Settings whose horizon is known: whole episodes where the model is all that judges policies.

    Raises:
        UserError: Policies are to be selected by their return over no steps at all.
    """
    selects = config.policy_selection == "model_return"
    if selects and config.horizon == 0:
        raise UserError(
            "--policy-selection model_return judges policies by --horizon steps: give it above 0, or take last"
        )
    return with_defaults(config, {"horizon": "episode" if selects or not config.eval_episodes else _HORIZON})


def _with_exploration(config: Config, given: Set[str]) -> Config:
    """Settings in which λ_on, λ_off and their ratio agree; raises UserError where the user's do not."""
    ratio, penalty, coef = config.exploration_ratio, config.penalty_coef, config.exploration_coef
    if ratio == "auto":
        return _with_automatic_ratio(config)
    if coef is None:
        if penalty == 0 and ratio and config.control is None:
            raise UserError(
                "--penalty-coef 0 makes lambda_on, a multiple of it, 0 as well: nothing would be explored; give "
                "--exploration-coef, or --exploration-ratio 0 to collect with the pretrained policy itself"
            )
        return dataclasses.replace(config, exploration_coef=(ratio or 0.0) * penalty)
    if "exploration_ratio" in given and ratio is not None:
        if not math.isclose(coef, ratio * penalty):
            raise UserError(
                f"--exploration-coef {coef:g} is not --exploration-ratio {ratio:g} times --penalty-coef {penalty:g}; "
                "give one of the first two"
            )
        return config
    if penalty:
        return dataclasses.replace(config, exploration_ratio=coef / penalty)
    return dataclasses.replace(config, exploration_ratio=None if coef else 0.0)


def _with_automatic_ratio(config: Config) -> Config:
    """Settings whose ratio is chosen in the model; raises UserError where it cannot be."""
    if config.control is not None:
        raise UserError("--exploration-ratio auto: a control explores nothing")
    if config.exploration_coef is not None:
        raise UserError("--exploration-ratio auto chooses lambda_on: give no --exploration-coef with it")
    if config.penalty_coef == 0:
        raise UserError(
            "--exploration-ratio auto tries multiples of --penalty-coef, which is 0: give --exploration-coef"
        )
    if config.horizon == 0:
        raise UserError("--exploration-ratio auto judges policies by their return in the model: give --horizon above 0")
    return config


def _check_rounds(config: Config) -> None:
    """Raises UserError for automatic rounds that nothing could end, and for their flags beside a number of rounds."""
    if config.rounds != "auto":
        if config.round_steps is not None:
            raise UserError("--round-steps goes with --rounds auto; each of a number of rounds takes --online-steps")
        return
    if config.control is not None:
        raise UserError(
            "--rounds auto: nothing ends a control's rounds; give it the number that DOOF's took, and --guard on"
        )
    if config.guard != "on":
        raise UserError("--rounds auto goes on while the guard accepts: it needs --guard on")
    if config.round_steps is not None and config.round_steps > config.online_steps:
        refuse("round_steps", config.round_steps, f"at most --online-steps, {config.online_steps}")


def _check_together(config: Config) -> None:
    _check_rounds(config)
    if len(config.dynamics_weight_decay) != len(config.dynamics_hidden_dims) + 1:
        layers = len(config.dynamics_hidden_dims) + 1
        refuse("dynamics_weight_decay", config.dynamics_weight_decay, f"{layers} numbers, one per layer")
    if config.control is not None:
        if config.stop_after == "explore":
            raise UserError("--stop-after explore: a control has no stage 2; stop it after pretrain")
        if config.online_data is not None:
            raise UserError("--online-data: a control is trained without online data")
    if config.online_data is not None and not config.resume:
        raise UserError("--online-data goes with --resume RUN, a run that was stopped with --stop-after explore")
    if config.uncertainty == "mobile" and config.n_elites < 2:
        refuse("n_elites", config.n_elites, "at least 2 with mobile, whose u is the spread over elites")
    if config.n_elites > config.n_ensemble:
        refuse("n_elites", config.n_elites, f"at most --n-ensemble, {config.n_ensemble}")
    for first, second in (
        ("explore_real_ratio", "explore_uncertainty_ratio"),
        ("finetune_real_ratio", "finetune_online_ratio"),
    ):
        parts = getattr(config, first) + getattr(config, second)
        if parts > 1 or (parts == 1 and config.algo != IN_MODEL):
            right = f"below 1 together with {flag(first)}, to leave room for model rollouts"
            refuse(second, getattr(config, second), right)
    if config.explore_rollouts == "penalty" and config.algo == "mobile":
        raise UserError(
            "--explore-rollouts penalty needs rewards of two kinds, and MOBILE has u in its Q target: use --algo mopo"
        )
    if config.real_ratio >= 1 and config.algo != IN_MODEL:
        refuse("real_ratio", config.real_ratio, "below 1, to leave room for model rollouts")
