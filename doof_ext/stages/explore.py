"""Stage 2, the uncertainty policy (Appendix B.2): SAC from π_off with every model reward r + λ_on·u (eq. 9)."""

from dataclasses import dataclass

from doof_ext.build import build_fake_buffer, build_policy
from doof_ext.policy import ModelBasedPolicy
from doof_ext.replay import TensorReplayBuffer
from doof_ext.stages.training import run_trainer
from doof_ext.trainer import Evaluation, ExplorationTrainer


@dataclass
class Exploration:
    """What stage 2 gives."""

    policy: ModelBasedPolicy  # π_u
    evaluation: Evaluation
    gradient_steps: int


def make_uncertainty_buffer(offline_buffer, policy, size) -> TensorReplayBuffer:
    """D_u: ``size`` transitions drawn from D whose reward becomes the policy's r + λ_on·u(s, a)."""
    drawn = policy.shape_rewards(offline_buffer.sample(size))
    return TensorReplayBuffer.from_dataset(drawn, device=offline_buffer.device)


def explore(
    config, spec, pretrained_policy, dynamics, offline_buffer, env, logger, first_timestep=0, round=1, state=None
) -> Exploration:
    """Trains π_u from π_off in the unchanged P̂, on 2.5 % D, 2.5 % D_u and rollouts from half D, half D_u."""
    policy = build_policy(
        config, spec, dynamics, uncertainty_coef=config.exploration_coef, start_from=pretrained_policy
    )
    uncertainty_buffer = make_uncertainty_buffer(offline_buffer, policy, config.uncertainty_buffer_size)
    trainer = run_trainer(
        ExplorationTrainer, "2 explore", config, policy, env, logger,
        real_parts=[(offline_buffer, config.explore_real_ratio)],
        shaped_parts=[(uncertainty_buffer, config.explore_uncertainty_ratio)],
        start_parts=[(offline_buffer, 1 - config.start_ratio), (uncertainty_buffer, config.start_ratio)],
        fake_buffer=build_fake_buffer(config, spec), epochs=config.explore_epochs, first_timestep=first_timestep,
        round=round, state=state,
    )  # fmt: skip
    return Exploration(policy, trainer.evaluation, config.explore_epochs * config.step_per_epoch)
