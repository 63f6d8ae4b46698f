"""A run from its settings to its summary."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from doof_ext import data
from doof_ext.algorithm.context import PolicyBuilder, StageContext, run_stage
from doof_ext.algorithm.doof import Finetuning, finetune
from doof_ext.algorithm.limits import Limits
from doof_ext.algorithm.pretrain import Pretraining, pretrain
from doof_ext.config import Config, RunSettings
from doof_ext.data import LoadedDataset
from doof_ext.data.dataset import Dataset
from doof_ext.data.episodes import mean_return, returns_and_lengths
from doof_ext.errors import UserError
from doof_ext.evaluation.consistency import check_consistency
from doof_ext.evaluation.measurements import draw_pairs, measure
from doof_ext.evaluation.model_return import ModelReturns, first_states
from doof_ext.experiment.controls import gains_over_controls
from doof_ext.experiment.experiment import Experiment, finished_summary
from doof_ext.experiment.run_directory import check_logdir
from doof_ext.experiment.summary import build_summary, doof_results
from doof_ext.files import finite
from doof_ext.learning.factory import build_termination_fn, kit_policies
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.online.taken_over import steps_to_take_over
from doof_ext.tasks import TaskSpec, get_spec, make_env
from doof_ext.tasks.interaction import check_env
from doof_ext.tasks.no_env import NoEnv
from doof_ext.tasks.video import record_video


def run(
    config: Config, policy_builder: Callable[[Config, TaskSpec, Dataset], PolicyBuilder] = kit_policies
) -> tuple[dict[str, Any], str]:
    """A whole DOOF run, or the rest of one (``config.resume``).

    Args:
        config: Resolved settings (see doof_ext.config.resolve).
        policy_builder: Gives, for the settings, the task and D, what builds the policies.

    Returns:
        The summary, as in result/summary.json, and the run directory.

    Raises:
        UserError: The settings, data or machine do not fit; nothing is written.
        RunStoppedError: Training diverges, the environment fails or the disk is full; the run can be resumed.
        StoppedAfter: It has ended where ``config.stop_after`` asks it to; the run can be resumed.
        Interrupted: A signal asked it to stop; the run can be resumed.
    """
    finished = begin(config)
    if finished is not None:
        return finished
    env, loaded = open_task(config)
    findings = check_data(config, env, loaded.dataset)
    build_policy = policy_builder(config, env.spec, loaded.dataset)
    with Experiment(config, loaded, steps_to_take_over(config, env, loaded.dataset)) as experiment:
        experiment.start(env, findings)
        ctx = dataclasses.replace(make_context(config, experiment, env), build_policy=build_policy)
        offline = TensorReplayBuffer.from_dataset(loaded.dataset.transitions(), device=config.device)
        pretraining = run_stage(pretrain, ctx, offline)
        summary = finetune_and_summarise(ctx, experiment, pretraining, offline)
    return summary, experiment.directory


def begin(config: RunSettings) -> tuple[dict[str, Any], str] | None:
    """What any run begins with: sets torch up, and checks where it is to be.

    Returns:
        The summary and the run directory of a run that is complete already, else None.

    Raises:
        UserError: The device or the log directory is not to be had, or the run cannot be resumed.
    """
    prepare_torch(config)
    if not config.resume:
        check_logdir(config.logdir)
        return None
    finished = finished_summary(config)
    return None if finished is None else (finished, config.resume)


def open_task(config: RunSettings) -> tuple[Any, LoadedDataset]:
    """The task's environment, checked, and D; with ``--env none`` what stands for one, read off D.

    Raises:
        UserError: They do not fit the settings or each other.
    """
    if not config.has_env:
        loaded = data.load(config.source, config.spec)
        return NoEnv(config.spec, loaded.dataset.observations.shape[1], loaded.dataset.actions.shape[1]), loaded
    env = make_env(config.spec, seed=config.seed, physics=config.physics)
    if not config.resume:
        check_env(env, step=config.eval_episodes > 0)
    return env, data.load(config.source, env.spec, config.dataset_steps, config.seed, config.download)


def check_data(config: Config, env: Any, dataset: Dataset) -> list[str]:
    """What a user must know of D, a line each: see check_consistency, and whether the algorithm fits its returns."""
    findings = check_consistency(env, build_termination_fn(env.spec), dataset)
    Limits.of(config, None).check(dataset.observations[0].astype(np.float64), dataset.actions[0])
    if config.algo == "mobile" and config.nonnegative_target:
        returns, _ = returns_and_lengths(dataset)
        negative = int((returns < 0).sum())
        if negative:
            findings.append(
                f"WARNING: {negative} of {len(returns)} episodes have a negative return, and MOBILE clamps its Q "
                "target at 0: give --nonnegative-target false"
            )
    return findings


def make_context(config: Config, experiment: Experiment, env: Any) -> StageContext:
    """What the stages share in an experiment, which keeps their results."""
    return StageContext(
        config,
        env,
        experiment.logger,
        experiment.state,
        on_result=experiment.keep,
        open_journal=experiment.artifacts.open_journal,
        taken_outside=experiment.artifacts.taken_outside,
        model_return=model_returns(config, env.spec, experiment.loaded.dataset),
        data_return=mean_return(experiment.loaded.dataset),
    )


_LONGEST_HORIZON = 1000  # where there is no time limit: a log may be one episode of all its rows


def model_returns(config: Config, spec: TaskSpec, dataset: Dataset) -> ModelReturns | None:
    """What estimates policies in the dynamics, from D's first states; None with ``--horizon 0``.

    The horizon ``episode`` is the environment's time limit; where none is known, D's longest episode up to 1 000 steps.
    """
    horizon = config.horizon
    if horizon == "episode":
        horizon = spec.max_episode_steps or min(max(returns_and_lengths(dataset)[1]), _LONGEST_HORIZON)
    return ModelReturns(first_states(dataset), int(horizon), config.penalty_coef) if horizon else None


def finetune_and_summarise(
    ctx: StageContext, experiment: Experiment, pretraining: Pretraining, offline: TensorReplayBuffer
) -> dict[str, Any]:
    """Algorithm 1 from stage 2 on, the measurements before and after, and the end of the experiment."""
    config, env, loaded = ctx.config, ctx.env, experiment.loaded
    finetuning = finetune(ctx, pretraining, offline, loaded.dataset)
    other = _load_distance_task(config)
    pairs = draw_pairs(config, env, loaded.dataset, pretraining.fake_pairs, finetuning.online_data, other)
    before = measure(pretraining.dynamics, pretraining.policy, pairs)
    policy = finetuning.policies["finetuned"]
    after = measure(finetuning.dynamics, policy, pairs)
    if config.render:
        reason = record_video(env, policy, experiment.files.video)
        ctx.logger.log(f"no video: {reason}" if reason else "video: result/finetuned_policy.mp4")
    stages = ctx.state.stage_records
    summary = build_summary(config, env, loaded, stages, finetuning.scores, finetuning.final)
    summary |= doof_results(config, pairs, before, after)
    summary |= {"rounds": finetuning.rounds, "rounds_ended_by": finetuning.ended_by}
    summary["guard"] = [verdict.for_summary() for verdict in finetuning.verdicts]
    summary["policy_choice"] = [{"round": round, **vars(choice)} for round, choice in finetuning.choices.items()]
    summary["ratio_choice"] = [choice.for_summary() for choice in finetuning.ratios]
    if finetuning.ratios:
        chosen = finetuning.ratios[-1].ratio
        summary |= {"exploration_ratio": chosen, "exploration_coef": chosen * config.penalty_coef}
    summary["horizon"] = ctx.model_return.horizon if ctx.model_return else 0
    summary["model_return"] = _model_return(ctx, pretraining, finetuning)
    summary["limits"] = finetuning.limited
    summary["online_data"] = experiment.artifacts.online_records()
    summary["gain_over"] = gains_over_controls(config, summary, experiment.directory)
    experiment.finish(summary, before, after)
    return summary


def _model_return(ctx: StageContext, pretraining: Pretraining, finetuning: Finetuning) -> dict[str, Any]:
    """For the summary: each policy's return in P̂*, and "before" in P̂; None in place of what is not finite."""
    estimates: dict[str, Any] = {}
    if ctx.model_return is None:
        return estimates
    for name, policy in finetuning.policies.items():
        dynamics = (pretraining.dynamics, finetuning.dynamics)
        before, after = (finite(ctx.model_return(policy, of).figures) for of in dynamics)
        estimates[name] = {**after, "before": before}
    return estimates


def prepare_torch(config: RunSettings) -> None:
    """Sets torch up for a run; raises UserError where the device is not to be had."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda, but torch sees no CUDA device here; use --device cpu")
    torch.set_float32_matmul_precision(config.matmul_precision)
    if config.threads:
        torch.set_num_threads(config.threads)


def _load_distance_task(config: Config) -> Any:
    """The dataset of ``config.distance_task``, which the distance is measured on too (Figure 5); None without one."""
    if config.distance_task is None:
        return None
    return data.load("auto", get_spec(config.distance_task), 10 * config.distance_samples, config.seed).dataset
