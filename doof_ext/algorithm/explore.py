"""Stage 2, the uncertainty policy (Appendix B.2): SAC from π_off with the reward r + λ_on·u (eq. 9)."""

from __future__ import annotations

from dataclasses import dataclass

from doof_ext.algorithm.context import StageContext
from doof_ext.algorithm.policy_guard import WithinFloor
from doof_ext.algorithm.policy_training import train_policy
from doof_ext.checkpointing.training_state import is_past
from doof_ext.evaluation.returns import StageScores
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.factory import build_fake_buffer
from doof_ext.learning.policy import ModelBasedPolicy
from doof_ext.learning.policy_trainer import ExplorationTrainer, PolicyObserver
from doof_ext.learning.replay_buffer import TensorReplayBuffer


@dataclass
class Exploration:
    """The outputs of stage 2."""

    policy: ModelBasedPolicy  # π_u; π_off itself at ratio 0
    scores: StageScores | None  # None at ratio 0
    gradient_steps: int
    base_return: float | None = None  # π_off's, see explore
    epoch: int | None = None  # of the stage, whose policy it is, where a floor decided; 0 for π_off

    @property
    def steps(self) -> dict[str, int]:
        """For the summary."""
        return {"gradient_steps": self.gradient_steps}


def make_uncertainty_buffer(
    offline: TensorReplayBuffer, policy: ModelBasedPolicy, size: int, exploration_coef: float
) -> TensorReplayBuffer:
    """D_u: ``size`` transitions drawn from D whose reward becomes r + λ_on·u(s, a)."""
    rows = policy.with_uncertainty(offline.sample(size), exploration_coef)
    return TensorReplayBuffer.from_dataset(rows, device=offline.device)


def explore(
    ctx: StageContext,
    pretrained: ModelBasedPolicy,
    dynamics: DOOFDynamics,
    offline: TensorReplayBuffer,
    base_return: float | None = None,
    floor: float | None = None,
) -> Exploration:
    """Trains π_u from π_off in the unchanged P̂, on 2.5 % D, 2.5 % D_u and rollouts from half D, half D_u.

    The rollouts' reward is r + λ_on·u, too (Algorithm 1), or with ``--explore-rollouts penalty`` stage 1's r − λ_off·u,
    so that D_u alone draws the policy to where u is large (the other reading of B.2). With λ_on = 0 nothing is trained:
    π_off itself will collect (Figure 6's baseline).

    Args:
        ctx: What the stages share.
        pretrained: π_off.
        dynamics: P̂.
        offline: D.
        base_return: The mean return of π_off's episodes, which goes into the result for who collects.
        floor: The least return in the least elite that π_u may have: the last epoch's policy that has it is returned,
            π_off where none has. None for any.
    """
    config = ctx.config
    if config.exploration_coef == 0:
        return Exploration(pretrained, None, 0, base_return)
    epochs = config.explore_epochs
    within = None if floor is None else WithinFloor(floor)
    policy, scores = train_exploration_policy(ctx, pretrained, dynamics, offline, epochs, observer=within)
    steps = epochs * config.step_per_epoch
    if within is None or not within.has_observed:
        return Exploration(policy, scores, steps, base_return)
    if within.epoch < epochs and not is_past(ctx.state.reached, "explore", ctx.round):
        whose = f"epoch {within.epoch}'s" if within.epoch else "the pretrained policy"
        ctx.logger.log(f"2 explore: {whose} collects, the last whose least return in the model is above {floor:.4g}")
    if not within.epoch:
        return Exploration(pretrained, None, steps, base_return, epoch=0)
    within.restore(policy, scores)
    return Exploration(policy, scores, steps, base_return, within.epoch)


def train_exploration_policy(
    ctx: StageContext,
    pretrained: ModelBasedPolicy,
    dynamics: DOOFDynamics,
    offline: TensorReplayBuffer,
    epochs: int,
    name: str = "policy",
    observer: PolicyObserver | None = None,
) -> tuple[ModelBasedPolicy, StageScores]:
    """π_u after a number of epochs, under a name in the run's state, and its evaluations."""
    config, bonus = ctx.config, ctx.config.exploration_coef
    assert bonus is not None  # an automatic ratio has been chosen
    coef = bonus if config.explore_rollouts == "bonus" else -config.penalty_coef
    policy = ctx.build_policy(config, ctx.spec, dynamics, uncertainty_coef=coef, start_from=pretrained)
    uncertainty_buffer = make_uncertainty_buffer(offline, policy, config.uncertainty_buffer_size, bonus)
    scores = train_policy(
        ctx,
        ExplorationTrainer,
        "2 explore" if name == "policy" else f"2 {name}",
        policy,
        epochs,
        build_fake_buffer(config, ctx.spec),
        real_sources=[(offline, config.explore_real_ratio)],
        start_sources=[(offline, 1 - config.start_ratio), (uncertainty_buffer, config.start_ratio)],
        bonus_sources=[(uncertainty_buffer, config.explore_uncertainty_ratio)],
        observer=observer,
        name=name,
    )
    return policy, scores
