"""Algorithm 1: the loop over rounds of stages 2-5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from doof_ext.algorithm.collect import collect
from doof_ext.algorithm.context import StageContext, run_stage
from doof_ext.algorithm.explore import explore
from doof_ext.algorithm.final_evaluation import final_evaluation
from doof_ext.algorithm.finetune_dynamics import finetune_dynamics
from doof_ext.algorithm.finetune_policy import finetune_policy, keep_policy
from doof_ext.algorithm.guard import GuardedData, Verdict
from doof_ext.algorithm.pretrain import Pretraining
from doof_ext.checkpointing.training_state import is_past
from doof_ext.data.dataset import Dataset
from doof_ext.evaluation.returns import Evaluation, StageScores
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.policy import ModelBasedPolicy
from doof_ext.learning.replay_buffer import TensorReplayBuffer


def _log_model_returns(
    ctx: StageContext, policies: Mapping[str, ModelBasedPolicy], before: DOOFDynamics, after: DOOFDynamics
) -> None:
    """Logs what stage 4 changed in the model's estimates, unless a run is resumed past it."""
    if ctx.model_return is None or is_past(ctx.state.reached, "finetune_dynamics", ctx.round):
        return
    for name, policy in policies.items():
        first, then = (ctx.model_return(policy, dynamics).figures for dynamics in (before, after))
        told = ", ".join(f"{what} {first[what]:.4g} -> {then[what]:.4g}" for what in ("mean", "pessimistic", "spread"))
        ctx.logger.log(f"4 finetune dynamics, model return of the {name} policy: {told}")


@dataclass
class Finetuning:
    """The outputs of Algorithm 1 after stage 1."""

    policies: dict[str, ModelBasedPolicy]  # pretrained, exploration and finetuned, as they are at the end
    dynamics: DOOFDynamics  # P̂*
    online_data: Dataset | None  # D_on; None for a control without online data
    scores: dict[str, StageScores]  # of the pretrained, exploration and finetuned policies, over their stages
    final: dict[str, Evaluation]  # of the same, at the end; empty without ``final_episodes``
    verdicts: list[Verdict]  # the guard's, by round; empty without it
    limited: list[dict[str, Any]]  # of each round that was collected within limits, what they limited


def finetune(
    ctx: StageContext, pretraining: Pretraining, offline: TensorReplayBuffer, guard_with: Dataset | None = None
) -> Finetuning:
    """Algorithm 1 from stage 2 on.

    With ``config.control`` there are no stages 2 and 3, and no online data: what DOOF's gain is to be compared with.
    ``no-online-data`` runs stages 4 and 5 as DOOF does, with D in D_on's place; ``extra-training`` trains the policy
    alone, in P̂, as stage 1 did.

    Args:
        ctx: What the stages share.
        pretraining: The outputs of stage 1: π_off and P̂.
        offline: D.
        guard_with: D with its episodes, where a finetuned dynamics has to prove itself (algorithm.guard): a round in
            which it does not leaves dynamics and policy as they were.
    """
    control = ctx.config.control
    policy, dynamics, scores = pretraining.policy, pretraining.dynamics, {"pretrained": pretraining.scores}
    policies, policy_scores = {"pretrained": policy}, pretraining.scores
    online_data, timestep = None, pretraining.gradient_steps
    limited: list[dict[str, Any]] = []
    online, guarded = offline if control == "no-online-data" else None, None
    verdicts: list[Verdict] = []
    for round in range(1, ctx.config.rounds + 1):
        ctx = ctx.at(round, timestep)
        if control is None:
            evaluated = policy_scores.last
            base_return = ctx.data_return if evaluated is None else float(np.mean(evaluated.returns))
            exploration = run_stage(explore, ctx, policy, dynamics, offline, base_return)
            policies["exploration"], scores["exploration"] = exploration.policy, exploration.scores or policy_scores
            collection = run_stage(collect, ctx, exploration.policy, online_data, policy, base_return)
            online_data = collection.data
            limited += [{"round": round, **collection.limited}] if collection.limited is not None else []
            online = TensorReplayBuffer.from_dataset(online_data.transitions(), device=offline.device)
            guarded = None if guard_with is None else GuardedData(online_data, guard_with)
            timestep += exploration.gradient_steps
        if online is not None:
            refined = run_stage(finetune_dynamics, ctx, dynamics, offline, online, guarded)
            before, dynamics = dynamics, refined.dynamics
            if refined.verdict is not None:
                verdicts.append(refined.verdict)
            if refined.refused:
                run_stage(keep_policy, ctx, policy, policy_scores)
                continue
            _log_model_returns(ctx, policies, before, dynamics)
        finetuning = run_stage(finetune_policy, ctx.at(round, timestep), policy, dynamics, offline, online)
        timestep += finetuning.gradient_steps
        policy, policy_scores = finetuning.policy, finetuning.scores
    policies["finetuned"], scores["finetuned"] = policy, policy_scores
    final = run_stage(final_evaluation, ctx, policies).evaluations if ctx.config.final_episodes else {}
    return Finetuning(policies, dynamics, online_data, scores, final, verdicts, limited)
