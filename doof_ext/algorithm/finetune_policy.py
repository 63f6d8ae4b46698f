"""Stage 5, policy finetuning (Appendix B.5): MOPO continues from π_off in the better model, without interaction."""

from __future__ import annotations

from dataclasses import dataclass

from doof_ext.algorithm.context import StageContext
from doof_ext.algorithm.policy_guard import EVALUATIONS, MODEL_LOWER_BOUND, MODEL_RETURN, PolicyChoice, PolicyGuard
from doof_ext.algorithm.policy_training import train_policy
from doof_ext.data.dataset import Dataset
from doof_ext.evaluation.returns import StageScores
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.factory import build_fake_buffer
from doof_ext.learning.policy import ModelBasedPolicy
from doof_ext.learning.policy_trainer import PolicyFinetuneTrainer
from doof_ext.learning.replay_buffer import TensorReplayBuffer


@dataclass
class PolicyFinetuning:
    """The outputs of stage 5."""

    policy: ModelBasedPolicy  # π*_off
    scores: StageScores  # its evaluations
    gradient_steps: int
    choice: PolicyChoice | None = None  # the guard's, where there is one

    @property
    def steps(self) -> dict[str, int]:
        """For the summary."""
        return {"gradient_steps": self.gradient_steps}


def keep_policy(ctx: StageContext, policy: ModelBasedPolicy, scores: StageScores) -> PolicyFinetuning:
    """The policy as it is, in place of stage 5, in a round whose dynamics was refused."""
    return PolicyFinetuning(policy, scores, 0)


def finetune_policy(
    ctx: StageContext,
    pretrained: ModelBasedPolicy,
    dynamics: DOOFDynamics,
    offline: TensorReplayBuffer,
    online: TensorReplayBuffer | None,
    to_beat: StageScores | None = None,
    online_data: Dataset | None = None,
) -> PolicyFinetuning:
    """Trains π*_off from π_off (not π_u) on 2.5 % D and rollouts of P̂* from half D, half D_on, reward r − λ_off·u.

    Of the control without online data ``online`` is D. With None it is stage 1's training that continues: the control
    of extra training.

    With ``to_beat``, π_off's evaluations, the guard watches: returned is the best of the epochs' policies and π_off
    (see PolicyGuard), of the latter the very object. Where nothing was evaluated, and with ``--policy-selection
    model_return``, it judges by returns in P̂*, from first states of D and of ``online_data``.
    """
    config = ctx.config
    policy = ctx.build_policy(config, ctx.spec, dynamics, uncertainty_coef=-config.penalty_coef, start_from=pretrained)
    if online is None:
        real_sources, start_sources = [(offline, config.real_ratio)], [(offline, 1.0)]
    else:
        real_sources = [(offline, config.finetune_real_ratio), (online, config.finetune_online_ratio)]
        start_sources = [(offline, 1 - config.start_ratio), (online, config.start_ratio)]
    guard = None
    if to_beat is not None:
        by: str | None = EVALUATIONS
        estimate = None
        if config.policy_selection == MODEL_RETURN or not to_beat.means:
            ctx = ctx.with_starts_of(online_data)
            estimate = None if ctx.model_return is None else ctx.model_return(pretrained, dynamics)
            by = None if estimate is None else MODEL_LOWER_BOUND
        guard = PolicyGuard.of_stage_5(by, config.finetune_epochs, to_beat, estimate)
    scores = train_policy(
        ctx,
        PolicyFinetuneTrainer,
        "5 finetune policy",
        policy,
        config.finetune_epochs,
        build_fake_buffer(config, ctx.spec),
        real_sources,
        start_sources,
        observer=guard,
    )
    steps = config.finetune_epochs * config.step_per_epoch
    if guard is None or to_beat is None:
        return PolicyFinetuning(policy, scores, steps)
    if not guard.has_observed:
        ctx.logger.log(
            "5 finetune policy: it was completed by a version without a choice of policy; the last one stays"
        )
        return PolicyFinetuning(policy, scores, steps)
    if guard.choice.epoch == 0:
        return PolicyFinetuning(pretrained, to_beat, steps, guard.choice)
    guard.restore(policy, scores)
    return PolicyFinetuning(policy, scores, steps, guard.choice)
