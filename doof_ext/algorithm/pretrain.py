"""Stage 1, offline pretraining (Appendix B.1): the dynamics by maximum likelihood, then MOPO."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from doof_ext.algorithm.context import StageContext
from doof_ext.algorithm.policy_guard import MODEL_LOWER_BOUND, MODEL_RETURN, PolicyChoice, PolicyGuard
from doof_ext.algorithm.policy_training import train_policy
from doof_ext.checkpointing.training_state import Counters
from doof_ext.evaluation.returns import StageScores
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.factory import build_dynamics, build_fake_buffer
from doof_ext.learning.policy import ModelBasedPolicy
from doof_ext.learning.policy_trainer import DOOFTrainer
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.progress import StageProgress, dynamics_epochs


@dataclass
class Pretraining:
    """The outputs of stage 1."""

    policy: ModelBasedPolicy  # π_off
    dynamics: DOOFDynamics  # P̂
    fake_pairs: dict[str, torch.Tensor]  # observations and actions of π_off's last rollouts in P̂
    scores: StageScores
    gradient_steps: int  # of the policy
    dynamics_steps: int
    choice: PolicyChoice | None = None  # which epoch's policy it is, with ``--policy-selection model_return``

    @property
    def steps(self) -> dict[str, int]:
        """For the summary."""
        return {"gradient_steps": self.gradient_steps, "dynamics_steps": self.dynamics_steps}


def pretrain(ctx: StageContext, offline: TensorReplayBuffer) -> Pretraining:
    """Fits P̂ to D (eq. 1), then trains π_off on 5 % D and 95 % rollouts with reward r − λ_off·u (eq. 2).

    With ``config.real_ratio`` 1 the policy learns from D alone. With ``--policy-selection model_return`` π_off is the
    policy of the epoch at whose end its return in P̂ was the highest, by the elites' lower bound (see PolicyGuard).
    """
    config = ctx.config
    dynamics = build_dynamics(config, ctx.spec)
    with StageProgress("1 pretrain dynamics", config.dynamics_epochs, ctx.logger) as progress:
        dynamics_steps = dynamics.train(
            offline.sample_all(),
            ctx.logger,
            max_epochs=config.dynamics_epochs,
            max_epochs_since_update=config.max_epochs_since_update,
            batch_size=config.batch_size,
            holdout_ratio=config.holdout_ratio,
            logvar_loss_coef=config.logvar_loss_coef,
            on_epoch=dynamics_epochs(progress),
            state=ctx.state,
        )
    policy = ctx.build_policy(config, ctx.spec, dynamics, uncertainty_coef=-config.penalty_coef)
    fake_buffer = build_fake_buffer(config, ctx.spec)
    selection = make_selection(config.policy_selection, config.epoch)
    scores = train_policy(
        ctx,
        DOOFTrainer,
        "1 pretrain policy",
        policy,
        config.epoch,
        fake_buffer,
        real_sources=[(offline, config.real_ratio)],
        start_sources=[(offline, 1.0)],
        observer=selection,
    )
    pairs = draw_fake_pairs(ctx, policy, offline, fake_buffer)
    choice = select_policy(selection, policy, scores)
    return Pretraining(policy, dynamics, pairs, scores, config.epoch * config.step_per_epoch, dynamics_steps, choice)


def make_selection(policy_selection: str, epochs: int) -> PolicyGuard | None:
    """What watches stage 1 where it is not the last policy that it returns."""
    return PolicyGuard(MODEL_LOWER_BOUND, epochs) if policy_selection == MODEL_RETURN else None


def select_policy(selection: PolicyGuard | None, policy: ModelBasedPolicy, scores: StageScores) -> PolicyChoice | None:
    """Makes a trained policy the selected one, and its evaluation its score; the last one stays if all diverged."""
    if selection is None:
        return None
    if selection.epoch:
        selection.restore(policy, scores)
    return selection.choice


def draw_fake_pairs(
    ctx: StageContext, policy: ModelBasedPolicy, offline: TensorReplayBuffer, fake_buffer: TensorReplayBuffer
) -> dict[str, torch.Tensor]:
    """``distance_samples`` pairs of the fake buffer at the end of stage 1: observations [N, O], actions [N, A].

    Where nothing was learned from rollouts, there is one first.
    """
    pairs, count = Counters(), ctx.config.distance_samples
    if not ctx.state.restore("fake_pairs", {"pairs": pairs}):
        if not len(fake_buffer):
            starts = offline.sample(count)["observations"]
            fake_buffer.add_batch(**policy.rollout(starts, ctx.config.rollout_length)[0])
        rows = fake_buffer.sample(count)
        pairs.observations, pairs.actions = rows["observations"], rows["actions"]
        ctx.state.commit("pairs")
    return vars(pairs)
