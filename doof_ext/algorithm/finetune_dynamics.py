"""Stage 4, dynamics finetuning (Appendix B.4): P̂ continues to learn, every batch half D, half D_on (eq. 10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from doof_ext.algorithm.context import StageContext
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.progress import StageProgress, dynamics_epochs


@dataclass
class DynamicsFinetuning:
    """The outputs of stage 4."""

    dynamics: DOOFDynamics  # P̂*
    gradient_steps: int

    @property
    def steps(self) -> dict[str, int]:
        """For the summary."""
        return {"gradient_steps": self.gradient_steps}


class DynamicsFinetuner:
    """Finetunes a copy of a dynamics on a mixture of offline and online data; the original stays as it is.

    Args:
        dynamics: P̂.
        lr: The learning rate of the copy's fresh optimiser.
    """

    def __init__(self, dynamics: DOOFDynamics, lr: float) -> None:
        self.dynamics = dynamics.copy_for_finetuning(lr)

    def finetune(self, offline: TensorReplayBuffer, online: TensorReplayBuffer, logger: Any, **settings: Any) -> int:
        """Trains ``self.dynamics``; settings as DOOFDynamics.finetune. Returns gradient steps."""
        offline_data = offline.sample_all()
        online_data = offline_data if online is offline else online.sample_all()
        return self.dynamics.finetune(offline_data, online_data, logger, **settings)


def finetune_dynamics(
    ctx: StageContext, dynamics: DOOFDynamics, offline: TensorReplayBuffer, online: TensorReplayBuffer
) -> DynamicsFinetuning:
    """P̂* from P̂, D and D_on; of the control without online data ``online`` is D, ``offline`` itself.

    ``config.finetune_dynamics_epochs`` is a number of epochs that nothing shortens; without one the stopping rule
    decides on the rows held out, of the control those of D alone.
    """
    config = ctx.config
    epochs = config.finetune_dynamics_epochs or config.dynamics_epochs
    patience = config.finetune_dynamics_epochs or config.max_epochs_since_update
    finetuner = DynamicsFinetuner(dynamics, config.dynamics_lr)
    with StageProgress("4 finetune dynamics", epochs, ctx.logger) as progress:
        steps = finetuner.finetune(
            offline,
            online,
            ctx.logger,
            max_epochs=epochs,
            max_epochs_since_update=patience,
            batch_size=config.batch_size,
            holdout_ratio=config.holdout_ratio,
            logvar_loss_coef=config.logvar_loss_coef,
            steps_per_epoch=config.finetune_dynamics_steps,
            online_ratio=config.finetune_dynamics_online_ratio,
            on_epoch=dynamics_epochs(progress),
            state=ctx.state,
        )
    return DynamicsFinetuning(finetuner.dynamics, steps)
