"""Algorithm 1: the loop over rounds of stages 2-5."""

from __future__ import annotations

from dataclasses import dataclass

from doof_ext.algorithm.collect import collect
from doof_ext.algorithm.context import StageContext, run_stage
from doof_ext.algorithm.explore import explore
from doof_ext.algorithm.finetune_dynamics import finetune_dynamics
from doof_ext.algorithm.finetune_policy import finetune_policy
from doof_ext.algorithm.pretrain import Pretraining
from doof_ext.data.dataset import Dataset
from doof_ext.evaluation.returns import Evaluation
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.policy import ModelBasedPolicy
from doof_ext.learning.replay_buffer import TensorReplayBuffer


@dataclass
class Finetuning:
    """The outputs of Algorithm 1 after stage 1."""

    policy: ModelBasedPolicy  # π*_off
    dynamics: DOOFDynamics  # P̂*
    online_data: Dataset | None  # D_on; None for a control without online data
    evaluations: dict[str, Evaluation]  # of the pretrained, exploration and finetuned policies


def finetune(ctx: StageContext, pretraining: Pretraining, offline: TensorReplayBuffer) -> Finetuning:
    """Algorithm 1 from stage 2 on.

    With ``config.control`` the policy alone is trained, in P̂ and without online data: what DOOF's gain is to be
    compared with.

    Args:
        ctx: What the stages share.
        pretraining: The outputs of stage 1: π_off and P̂.
        offline: D.
    """
    policy, dynamics, evaluation = pretraining.policy, pretraining.dynamics, pretraining.evaluation
    evaluations = {"pretrained": evaluation}
    online_data, online, timestep = None, None, pretraining.gradient_steps
    for round in range(1, ctx.config.rounds + 1):
        ctx = ctx.at(round, timestep)
        if ctx.config.control is None:
            exploration = run_stage(explore, ctx, policy, dynamics, offline)
            evaluations["exploration"] = exploration.evaluation or evaluation
            online_data = run_stage(collect, ctx, exploration.policy, online_data).data
            online = TensorReplayBuffer.from_dataset(online_data.transitions(), device=offline.device)
            dynamics = run_stage(finetune_dynamics, ctx, dynamics, offline, online).dynamics
            ctx = ctx.at(round, timestep + exploration.gradient_steps)
        finetuning = run_stage(finetune_policy, ctx, policy, dynamics, offline, online)
        timestep = ctx.first_timestep + finetuning.gradient_steps
        policy, evaluation = finetuning.policy, finetuning.evaluation
    evaluations["finetuned"] = evaluation
    return Finetuning(policy, dynamics, online_data, evaluations)
