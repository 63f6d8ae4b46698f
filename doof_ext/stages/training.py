"""What stages 1, 2 and 5 share: running a trainer under a progress bar."""

from doof_ext.build import rollout_setting
from doof_ext.progress import StageProgress
from doof_ext.trainer import cosine_schedule


def run_trainer(
    trainer_class, title, config, policy, env, logger, real_parts, start_parts, fake_buffer, epochs, first_timestep,
    round=1, shaped_parts=(), state=None,
):  # fmt: skip
    """Trains ``policy`` for ``epochs``; returns the trainer. See DOOFTrainer for real_parts and start_parts."""
    with StageProgress(title, epochs, logger) as progress:
        trainer = trainer_class(
            policy, env, real_parts[0][0], fake_buffer, logger, rollout_setting(config),
            epoch=epochs, step_per_epoch=config.step_per_epoch, batch_size=config.batch_size,
            eval_episodes=config.eval_episodes, lr_scheduler=cosine_schedule(policy.actor_optim, epochs),
            real_parts=real_parts, shaped_parts=shaped_parts, start_parts=start_parts, first_timestep=first_timestep,
            on_epoch=lambda epoch, result: progress.report(epoch, score=f"{result.mean:.1f} ± {result.std:.1f}"),
            state=state,
        )  # fmt: skip
        trainer.round = round
        trainer.train()
    return trainer
