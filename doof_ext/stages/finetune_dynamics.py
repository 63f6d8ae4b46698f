"""Stage 4, dynamics finetuning (Appendix B.4): P̂ goes on learning, every batch half D, half D_on (eq. 10)."""

from doof_ext.dynamics import DOOFDynamics
from doof_ext.progress import StageProgress


class DynamicsFinetuner:
    """Finetunes a copy of a dynamics on a mixture of offline and online data; the original stays as it is."""

    def __init__(self, dynamics, lr):
        self.dynamics = dynamics.copy_for_finetuning(lr)

    def finetune(self, offline_buffer, online_buffer, logger, **settings) -> int:
        """Trains ``self.dynamics``; settings as DOOFDynamics.finetune. Returns gradient steps."""
        return self.dynamics.finetune(offline_buffer.sample_all(), online_buffer.sample_all(), logger, **settings)


def finetune_dynamics(config, dynamics, offline_buffer, online_buffer, logger, state=None) -> tuple[DOOFDynamics, int]:
    """P̂* from P̂, D and D_on, and the gradient steps it took."""
    finetuner = DynamicsFinetuner(dynamics, config.dynamics_lr)
    with StageProgress("4 finetune dynamics", config.dynamics_epochs, logger) as progress:
        steps = finetuner.finetune(
            offline_buffer, online_buffer, logger, max_epochs=config.dynamics_epochs,
            max_epochs_since_update=config.max_epochs_since_update, batch_size=config.batch_size,
            holdout_ratio=config.holdout_ratio, logvar_loss_coef=config.logvar_loss_coef,
            steps_per_epoch=config.finetune_dynamics_steps, online_ratio=config.finetune_dynamics_online_ratio,
            on_epoch=lambda epoch, train, holdout: progress.report(
                epoch, loss=f"{train:.2f}", holdout=f"{holdout:.4g}"
            ),
            state=state,
        )  # fmt: skip
    return finetuner.dynamics, steps
