"""What stages 1, 2 and 5 share: running a trainer under a progress bar."""

from __future__ import annotations

from doof_ext.algorithm.context import StageContext
from doof_ext.evaluation.returns import StageScores
from doof_ext.learning.factory import rollout_setting
from doof_ext.learning.policy import ModelBasedPolicy
from doof_ext.learning.policy_trainer import DOOFTrainer, PolicyObserver, Sources
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.progress import StageProgress, policy_epochs


def train_policy(
    ctx: StageContext,
    trainer_class: type[DOOFTrainer],
    title: str,
    policy: ModelBasedPolicy,
    epochs: int,
    fake_buffer: TensorReplayBuffer,
    real_sources: Sources,
    start_sources: Sources,
    bonus_sources: Sources = (),
    observer: PolicyObserver | None = None,
    name: str = "policy",
) -> StageScores:
    """Trains ``policy`` for ``epochs``; see DOOFTrainer for the sources. Returns all epochs' evaluations.

    Args:
        observer: Takes in the policy of each epoch; a component of the run's state.
        name: Of the training in the run's state.
    """
    config = ctx.config
    with StageProgress(title, epochs, ctx.logger) as progress:
        trainer = trainer_class(
            policy,
            ctx.env,
            real_sources[0][0],
            fake_buffer,
            ctx.logger,
            rollout_setting(config),
            epoch=epochs,
            step_per_epoch=config.step_per_epoch,
            batch_size=config.batch_size,
            eval_episodes=config.eval_episodes,
            lr_scheduler=policy.lr_schedule(epochs),
            real_sources=real_sources,
            bonus_sources=bonus_sources,
            start_sources=start_sources,
            first_timestep=ctx.first_timestep,
            on_epoch=policy_epochs(progress),
            model_return=ctx.model_return,
            state=ctx.state,
            round=ctx.round,
            observer=observer,
            name=name,
            logs_curve=ctx.logs_curve,
        )
        trainer.train()
    return trainer.scores
