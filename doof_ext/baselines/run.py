"""A baseline's run from its settings to its summary: pretraining, ON-10K, OFF-300K (Table 3)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from doof_ext import pipeline
from doof_ext.algorithm.context import RunContext, run_stage
from doof_ext.algorithm.final_evaluation import final_evaluation
from doof_ext.baselines.agent import Agent
from doof_ext.baselines.cal_ql import CalQL
from doof_ext.baselines.cql import CQL
from doof_ext.baselines.fowm import FOWM
from doof_ext.baselines.iql import IQL
from doof_ext.baselines.pex import PEX
from doof_ext.baselines.replay import Replay
from doof_ext.baselines.spot import SPOT
from doof_ext.baselines.stages import finetune_offline, finetune_online, pretrain
from doof_ext.checkpointing.random_state import seed_generators
from doof_ext.config import BaselineConfig
from doof_ext.data.dataset import Dataset
from doof_ext.evaluation.consistency import check_consistency
from doof_ext.experiment.experiment import Experiment
from doof_ext.experiment.summary import build_summary
from doof_ext.learning.factory import build_termination_fn
from doof_ext.tasks import TaskSpec, make_env
from doof_ext.tasks.video import record_video

AGENTS: MappingProxyType[str, type[Agent]] = MappingProxyType(
    {"iql": IQL, "cql": CQL, "cal-ql": CalQL, "spot": SPOT, "pex": PEX, "fowm": FOWM}
)


def run(config: BaselineConfig) -> tuple[dict[str, Any], str]:
    """A whole run of a baseline, or the rest of one (``config.resume``).

    Args:
        config: Resolved settings (see doof_ext.config.resolve).

    Returns:
        The summary, as in result/summary.json, and the run directory. What it raises is what pipeline.run does.
    """
    finished = pipeline.begin(config)
    if finished is not None:
        return finished
    env, loaded = pipeline.open_task(config)
    online_env = make_env(env.spec, seed=config.seed, physics=config.physics)  # an evaluation would end its episode
    scaled = bool(config.normalize_rewards)
    replay = Replay(loaded.dataset, env.spec, config.online_steps, config.gamma, scaled, config.device)
    agent = build_agent(config, env.spec, loaded.dataset)
    rule = build_termination_fn(env.spec) if config.env_id is None else None
    findings = check_consistency(env, rule, loaded.dataset)
    with Experiment(config, loaded) as experiment:
        experiment.start(env, findings)
        ctx = RunContext(
            config,
            env,
            experiment.logger,
            experiment.state,
            on_result=experiment.keep,
            open_journal=experiment.artifacts.open_journal,
        )
        pretrained = run_stage(pretrain, ctx, agent, replay)
        ctx = ctx.after(pretrained.gradient_steps)
        online = run_stage(finetune_online, ctx, agent, replay, online_env)
        ctx = ctx.after(online.gradient_steps)
        finetuned = run_stage(finetune_offline, ctx, agent, replay)
        trained = {"pretrained": pretrained, "online": online, "finetuned": finetuned}
        policies = {name: stage.policy for name, stage in trained.items()}
        final = run_stage(final_evaluation, ctx, policies).evaluations if config.final_episodes else {}
        if config.render:
            reason = record_video(env, finetuned.policy, experiment.files.video)
            ctx.logger.log(f"no video: {reason}" if reason else "video: result/finetuned_policy.mp4")
        scores = {name: stage.scores for name, stage in trained.items()}
        summary = build_summary(config, env, loaded, ctx.state.stage_records, scores, final)
        experiment.finish(summary)
    return summary, experiment.directory


def build_agent(config: BaselineConfig, spec: TaskSpec, dataset: Dataset) -> Agent:
    """The method's untrained agent, whose weights depend on the run's seed alone."""
    seed_generators(config.seed, 1, "agent")
    return AGENTS[config.algo](config, spec, dataset).to(config.device)
