"""Stage 4, dynamics finetuning (Appendix B.4): P̂ continues to learn, every batch half D, half D_on (eq. 10)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from doof_ext.algorithm.context import StageContext
from doof_ext.algorithm.guard import Attempt, GuardedData, Verdict
from doof_ext.checkpointing.training_state import is_past
from doof_ext.errors import DivergenceError
from doof_ext.evaluation.model_error import model_error
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.policy import ModelBasedPolicy
from doof_ext.learning.replay_buffer import FIELDS, TensorReplayBuffer
from doof_ext.progress import StageProgress, dynamics_epochs


@dataclass
class DynamicsFinetuning:
    """The outputs of stage 4."""

    dynamics: DOOFDynamics  # P̂*; P̂ itself where the guard refused it
    gradient_steps: int
    verdict: Verdict | None = None  # the guard's, where there is one

    @property
    def refused(self) -> bool:
        """Whether P̂ is kept, and the policy with it."""
        return self.verdict is not None and not self.verdict.accepted

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
    ctx: StageContext,
    dynamics: DOOFDynamics,
    offline: TensorReplayBuffer,
    online: TensorReplayBuffer,
    guarded: GuardedData | None = None,
) -> DynamicsFinetuning:
    """P̂* from P̂, D and D_on; of the control without online data ``online`` is D, ``offline`` itself.

    ``config.finetune_dynamics_epochs`` is a number of epochs that nothing shortens; without one the stopping rule
    decides on the rows held out, of the control those of D alone.

    Of ``guarded`` data the held-out steps are never trained on, and P̂* has to be better on them: where it is not, it is
    tried once more with a third of the learning rate, and then P̂ is kept.
    """
    if guarded is None:
        finetuner = DynamicsFinetuner(dynamics, ctx.config.dynamics_lr)
        return DynamicsFinetuning(finetuner.dynamics, _train(ctx, finetuner, offline, online))
    verdict, steps, epochs_tried = guarded.verdict(), 0, 0
    if not verdict.reasons:
        verdict.fresh = model_error(dynamics, guarded.fresh)
        held_out_offline = _held_out(dynamics, offline, ctx.config.holdout_ratio)
        online = TensorReplayBuffer.from_dataset(guarded.training, device=offline.device)
        before = [model_error(dynamics, rows) for rows in (held_out_offline, guarded.held_out)]
        for number, lr in enumerate((ctx.config.dynamics_lr, ctx.config.dynamics_lr / 3), start=1):
            finetuner = DynamicsFinetuner(dynamics, lr)
            finetuner.dynamics.epochs_trained += epochs_tried  # so that the curve goes on
            try:
                steps += _train(ctx, finetuner, offline, online, name=f"attempt {number}")
                after = [model_error(finetuner.dynamics, rows) for rows in (held_out_offline, guarded.held_out)]
                verdict.attempts.append(Attempt.judged(lr, *zip(before, after, strict=True)))
                if _have_same_weights(dynamics, finetuner.dynamics):  # and other elites at most
                    verdict.attempts[-1].reasons.append("no member became better: the weights are those of before")
            except DivergenceError as error:
                verdict.attempts.append(Attempt(lr, None, None, [str(error)]))
            epochs_tried = finetuner.dynamics.epochs_trained - dynamics.epochs_trained
            verdict.reasons = verdict.attempts[-1].reasons
            if verdict.accepted:
                return DynamicsFinetuning(finetuner.dynamics, steps, verdict)
    dynamics.epochs_trained += epochs_tried
    ctx.logger.log(f"4 finetune dynamics: refused, the pretrained dynamics is kept: {'; '.join(verdict.reasons)}")
    return DynamicsFinetuning(dynamics, steps, verdict)


def _have_same_weights(one: DOOFDynamics, other: DOOFDynamics) -> bool:
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return all(a.equal(b) for a, b in pairs if a.requires_grad)


def _held_out(dynamics: DOOFDynamics, offline: TensorReplayBuffer, holdout_ratio: float) -> dict[str, Any]:
    """The rows of D that neither stage 1 nor stage 4 trains on."""
    rows, _ = dynamics.split_rows(len(offline), holdout_ratio)
    return {name: getattr(offline, name)[rows] for name in FIELDS}


def _train(
    ctx: StageContext,
    finetuner: DynamicsFinetuner,
    offline: TensorReplayBuffer,
    online: TensorReplayBuffer,
    name: str = "dynamics",
) -> int:
    """Trains a copy of P̂, under a name in the run's state; returns gradient steps."""
    config = ctx.config
    epochs = config.finetune_dynamics_epochs or config.dynamics_epochs
    patience = config.finetune_dynamics_epochs or config.max_epochs_since_update
    with StageProgress("4 finetune dynamics", epochs, ctx.logger) as progress:
        return finetuner.finetune(
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
            name=name,
        )


def log_model_returns(
    ctx: StageContext, policies: Mapping[str, ModelBasedPolicy], before: DOOFDynamics, after: DOOFDynamics
) -> None:
    """Logs what stage 4 changed in the model's estimates, unless a run is resumed past it."""
    if ctx.model_return is None or is_past(ctx.state.reached, "finetune_dynamics", ctx.round):
        return
    for name, policy in policies.items():
        first, then = (ctx.model_return(policy, dynamics).figures for dynamics in (before, after))
        told = ", ".join(f"{what} {first[what]:.4g} -> {then[what]:.4g}" for what in ("mean", "pessimistic", "spread"))
        told += "; nan: an elite diverges" if math.isnan(first["mean"] + then["mean"]) else ""
        ctx.logger.log(f"4 finetune dynamics, model return of the {name} policy: {told}")
