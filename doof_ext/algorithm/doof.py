"""Algorithm 1: the loop over rounds of stages 2-5."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from doof_ext.algorithm.choose_ratio import RatioChoice, choose_ratio
from doof_ext.algorithm.collect import collect
from doof_ext.algorithm.context import StageContext, run_stage
from doof_ext.algorithm.explore import explore
from doof_ext.algorithm.final_evaluation import final_evaluation
from doof_ext.algorithm.finetune_dynamics import finetune_dynamics, log_model_returns
from doof_ext.algorithm.finetune_policy import finetune_policy, keep_policy
from doof_ext.algorithm.guard import GuardedData, Verdict, against_another_round
from doof_ext.algorithm.policy_guard import PolicyChoice
from doof_ext.algorithm.pretrain import Pretraining
from doof_ext.data.dataset import Dataset
from doof_ext.evaluation.returns import Evaluation, StageScores
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.policy import ModelBasedPolicy
from doof_ext.learning.replay_buffer import TensorReplayBuffer


@dataclass
class Finetuning:
    """The outputs of Algorithm 1 after stage 1."""

    policies: dict[str, ModelBasedPolicy]  # pretrained, exploration and finetuned, as they are at the end
    dynamics: DOOFDynamics  # P̂*
    scores: dict[str, StageScores]  # of the pretrained, exploration and finetuned policies, over their stages
    online_data: Dataset | None = None  # D_on; None for a control without online data
    rounds: int = 0  # that were run
    ended_by: str | None = None  # why there are no more of ``--rounds auto``
    final: dict[str, Evaluation] = field(default_factory=dict)  # of the policies, with ``final_episodes``
    ratios: list[RatioChoice] = field(default_factory=list)  # by round, with ``--exploration-ratio auto``
    verdicts: list[Verdict] = field(default_factory=list)  # the guard's on the dynamics, by round
    choices: dict[int, PolicyChoice] = field(default_factory=dict)  # of policy, by round; 0 for stage 1's
    limited: list[dict[str, Any]] = field(default_factory=list)  # what limits did to each round's collection


def finetune(ctx: StageContext, pretraining: Pretraining, offline: TensorReplayBuffer, dataset: Dataset) -> Finetuning:
    """Algorithm 1 from stage 2 on.

    With ``config.control`` there are no stages 2 and 3, and no online data: what DOOF's gain is to be compared with.
    ``no-online-data`` runs stages 4 and 5 as DOOF does, with D in D_on's place; ``extra-training`` trains the policy
    alone, in P̂, as stage 1 did.

    Args:
        ctx: What the stages share.
        pretraining: The outputs of stage 1: π_off and P̂.
        offline: D.
        dataset: D with its episodes, which the guard needs (algorithm.guard, algorithm.policy_guard): a round whose
            dynamics is not better leaves dynamics and policy as they were, and stage 5 returns the best policy it met.
    """
    config, timestep = ctx.config, pretraining.gradient_steps
    policy, dynamics, scores = pretraining.policy, pretraining.dynamics, pretraining.scores
    out = Finetuning({"pretrained": policy}, dynamics, {"pretrained": scores})
    if pretraining.choice is not None:
        out.choices[0] = pretraining.choice
    is_guarded = config.guard == "on"
    online, guarded = offline if config.control == "no-online-data" else None, None
    for round in range(1, config.most_rounds + 1):
        ctx, out.rounds = ctx.at(round, timestep), round
        if config.control is None:
            base_return = ctx.data_return if scores.last is None else float(np.mean(scores.last.returns))
            exploring, floor = ctx, None
            if config.exploration_ratio == "auto":
                choice = run_stage(choose_ratio, ctx, policy, dynamics, offline)
                exploring, floor = ctx.with_exploration_ratio(choice.ratio), choice.floor
            exploration = run_stage(explore, exploring, policy, dynamics, offline, base_return, floor)
            if config.exploration_ratio == "auto":
                out.ratios.append(dataclasses.replace(choice, epoch=exploration.epoch))
            out.policies["exploration"], out.scores["exploration"] = exploration.policy, exploration.scores or scores
            timestep += exploration.gradient_steps
            collection = run_stage(collect, ctx, exploration.policy, out.online_data, policy, base_return)
            out.online_data = collection.data
            out.limited += [{"round": round, **collection.limited}] if collection.limited is not None else []
            online = TensorReplayBuffer.from_dataset(collection.data.transitions(), device=offline.device)
            guarded = GuardedData(collection.data, dataset, collection.env_steps) if is_guarded else None
        if online is not None:
            refined = run_stage(finetune_dynamics, ctx, dynamics, offline, online, guarded)
            out.verdicts += [refined.verdict] if refined.verdict is not None else []
            if not refined.refused:
                log_model_returns(ctx, out.policies, dynamics, refined.dynamics)
            dynamics = refined.dynamics
        if out.verdicts and not out.verdicts[-1].accepted:
            run_stage(keep_policy, ctx, policy, scores)
        else:
            ctx = ctx.at(round, timestep)
            to_beat = scores if is_guarded else None
            finetuning = run_stage(finetune_policy, ctx, policy, dynamics, offline, online, to_beat, out.online_data)
            timestep += finetuning.gradient_steps
            policy, scores = finetuning.policy, finetuning.scores
            if finetuning.choice is not None:
                out.choices[round] = finetuning.choice
        if config.rounds == "auto" and round < config.most_rounds:
            out.ended_by = against_another_round(out.verdicts)
            if out.ended_by is not None:
                break
    out.dynamics, out.policies["finetuned"], out.scores["finetuned"] = dynamics, policy, scores
    if config.final_episodes:
        out.final = run_stage(final_evaluation, ctx, out.policies).evaluations
    return out
