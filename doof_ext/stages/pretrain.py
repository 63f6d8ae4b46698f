"""Stage 1, offline pretraining (Appendix B.1): the dynamics by maximum likelihood, then MOPO."""

from dataclasses import dataclass

from doof_ext.build import build_dynamics, build_fake_buffer, build_policy
from doof_ext.dynamics import DOOFDynamics
from doof_ext.policy import ModelBasedPolicy
from doof_ext.progress import StageProgress
from doof_ext.stages.training import run_trainer
from doof_ext.state import RunState, Values
from doof_ext.trainer import DOOFTrainer, Evaluation


@dataclass
class Pretraining:
    """What stage 1 gives."""

    policy: ModelBasedPolicy  # π_off
    dynamics: DOOFDynamics  # P̂
    fake_pairs: dict  # observations and actions of π_off's last rollouts in P̂, for the dynamics distance
    evaluation: Evaluation
    gradient_steps: int  # of the policy
    dynamics_steps: int


def pretrain(config, spec, offline_buffer, env, logger, state=None) -> Pretraining:
    """Fits P̂ to D (eq. 1), then trains π_off on 5 % D and 95 % rollouts with reward r − λ_off·u (eq. 2)."""
    state = state or RunState()
    dynamics = build_dynamics(config, spec)
    with StageProgress("1 pretrain dynamics", config.dynamics_epochs, logger) as progress:
        dynamics_steps = dynamics.train(
            offline_buffer.sample_all(), logger, max_epochs=config.dynamics_epochs,
            max_epochs_since_update=config.max_epochs_since_update, batch_size=config.batch_size,
            holdout_ratio=config.holdout_ratio, logvar_loss_coef=config.logvar_loss_coef,
            on_epoch=lambda epoch, train, holdout: progress.report(
                epoch, loss=f"{train:.2f}", holdout=f"{holdout:.4g}"
            ),
            state=state,
        )  # fmt: skip
    policy = build_policy(config, spec, dynamics, uncertainty_coef=-config.penalty_coef)
    fake_buffer = build_fake_buffer(config, spec)
    trainer = run_trainer(
        DOOFTrainer, "1 pretrain policy", config, policy, env, logger,
        real_parts=[(offline_buffer, config.real_ratio)], start_parts=[(offline_buffer, 1.0)],
        fake_buffer=fake_buffer, epochs=config.epoch, first_timestep=0, state=state,
    )  # fmt: skip
    steps = config.epoch * config.step_per_epoch
    pairs = draw_fake_pairs(fake_buffer, config.distance_samples, state)
    return Pretraining(policy, dynamics, pairs, trainer.evaluation, steps, dynamics_steps)


def draw_fake_pairs(fake_buffer, count, state) -> dict:
    """``count`` pairs of the fake buffer at the end of stage 1: observations [count, O], actions [count, A]."""
    pairs = Values()
    if not state.enter("fake_pairs", {"pairs": pairs}):
        rows = fake_buffer.sample(count)
        pairs.observations, pairs.actions = rows["observations"], rows["actions"]
        state.leave("pairs")
    return vars(pairs)
