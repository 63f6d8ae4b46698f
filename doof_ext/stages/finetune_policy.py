"""Stage 5, policy finetuning (Appendix B.5): MOPO goes on from π_off in the better model, without interaction."""

from dataclasses import dataclass

from doof_ext.build import build_fake_buffer, build_policy
from doof_ext.policy import ModelBasedPolicy
from doof_ext.stages.training import run_trainer
from doof_ext.trainer import Evaluation, PolicyFinetuneTrainer


@dataclass
class PolicyFinetuning:
    """What stage 5 gives."""

    policy: ModelBasedPolicy  # π*_off
    evaluation: Evaluation
    gradient_steps: int


def finetune_policy(
    config, spec, pretrained_policy, finetuned_dynamics, offline_buffer, online_buffer, env, logger,
    first_timestep=0, round=1, state=None,
) -> PolicyFinetuning:  # fmt: skip
    """Trains π*_off from π_off (not π_u) on 2.5 % D and rollouts of P̂* from half D, half D_on, reward r − λ_off·u.

    Without an ``online_buffer`` it is stage 1's training that goes on: the control.
    """
    policy = build_policy(
        config, spec, finetuned_dynamics, uncertainty_coef=-config.penalty_coef, start_from=pretrained_policy
    )
    if online_buffer is None:
        real_parts, start_parts = [(offline_buffer, config.real_ratio)], [(offline_buffer, 1.0)]
    else:
        real_parts = [(offline_buffer, config.finetune_real_ratio), (online_buffer, config.finetune_online_ratio)]
        start_parts = [(offline_buffer, 1 - config.start_ratio), (online_buffer, config.start_ratio)]
    trainer = run_trainer(
        PolicyFinetuneTrainer, "5 finetune policy", config, policy, env, logger, real_parts, start_parts,
        fake_buffer=build_fake_buffer(config, spec), epochs=config.finetune_epochs, first_timestep=first_timestep,
        round=round, state=state,
    )  # fmt: skip
    return PolicyFinetuning(policy, trainer.evaluation, config.finetune_epochs * config.step_per_epoch)
