"""Maximum likelihood for the ensemble (eqs. 1, 10): the training loop and its gradient step, written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from doof_ext.checkpointing.training_state import Counters, StateAdapter, Stateful, TrainingState
from doof_ext.errors import DivergenceError
from doof_ext.learning.adam import adam_step

if TYPE_CHECKING:
    from doof_ext.learning.dynamics import DOOFDynamics

_aten = torch.ops.aten

Pairs = tuple[torch.Tensor, torch.Tensor]
"""Scaled inputs [..., O+A] and targets [..., O+1] (the change of the observation, the reward)."""

OnEpoch = Callable[[int, float, float], object]
"""Called after each epoch with its number, the mean training loss and the held-out loss of the best members."""


class DynamicsTrainer:
    """Trains an ensemble epoch by epoch until no member improves, and restores each member's best weights.

    Args:
        dynamics: What is trained.
        logger: Where each epoch's losses go.
        max_epochs: Most epochs; None for no cap.
        patience: Epochs without an improvement of 1 % by any member before it stops.
        logvar_loss_coef: Weight of the variance bounds in the loss.
        on_epoch: Called after each epoch.
        state: The run's state, to resume from and to save to.
        name: What the training is called there, of a stage that trains more than once.
    """

    def __init__(
        self,
        dynamics: DOOFDynamics,
        logger: Any,
        max_epochs: int | None = None,
        patience: int = 5,
        logvar_loss_coef: float = 0.01,
        on_epoch: OnEpoch | None = None,
        state: TrainingState | None = None,
        name: str = "dynamics",
    ) -> None:
        self.dynamics, self.logger, self.on_epoch = dynamics, logger, on_epoch
        self.max_epochs, self.patience, self.logvar_loss_coef = max_epochs, patience, logvar_loss_coef
        self.state, self.name = state or TrainingState(), name

    def fit(
        self,
        epoch_batches: Callable[[int], Iterator[Pairs]],
        holdouts: Sequence[Pairs],
        datasets: Sequence[Mapping[str, Any]],
        bootstrap: torch.Tensor | None = None,
    ) -> int:
        """Runs all epochs.

        Args:
            epoch_batches: The batches of an epoch, [E, B, ·] each, from a number of batches on.
            holdouts: Held-out sets [N, ·]; the mean of their losses must improve.
            datasets: What an estimator of u learns from afterwards.
            bootstrap: Rows of each member [E, N], where epochs draw from them: part of what is resumed.

        Returns:
            Gradient steps taken.

        Raises:
            DivergenceError: A loss is not finite.
        """
        dynamics, state = self.dynamics, self.state
        best = self._holdout_losses(holdouts)  # before training: an epoch that makes it worse must not replace it
        dynamics.save_members(torch.arange(len(best)))
        zero = torch.zeros((), device=dynamics.device)
        progress = Counters(epoch=0, batch=0, stale=0, steps=0, best=best, total=zero)
        components: dict[str, Stateful] = {
            "dynamics": StateAdapter(dynamics.training_state, dynamics.load_training_state),
            "fit": progress,
        }
        if bootstrap is not None:
            components["bootstrap"] = StateAdapter(lambda: bootstrap, lambda saved: bootstrap.copy_(saved))
        if state.restore(self.name, components):
            return progress.steps
        while progress.stale < self.patience and (self.max_epochs is None or progress.epoch < self.max_epochs):
            for inputs, targets in epoch_batches(progress.batch):
                progress.total += dynamics.training_step(inputs, targets, self.logvar_loss_coef)
                progress.batch += 1
                progress.steps += 1
                state.after_step()
            self._finish_epoch(progress, holdouts)
            state.after_epoch()
        dynamics.restore_members()
        dynamics.model.set_elites(progress.best.argsort()[: dynamics.model.num_elites].tolist())
        dynamics.fit_estimator(*datasets)
        state.commit("dynamics", "fit")
        return progress.steps

    def _finish_epoch(self, progress: Counters, holdouts: Sequence[Pairs]) -> None:
        """Validates, keeps the members that improved by 1 %, and logs."""
        dynamics = self.dynamics
        losses = self._holdout_losses(holdouts)
        dynamics.epochs_trained += 1
        train_loss = float(progress.total) / progress.batch
        for name, value in (("training", train_loss), ("held-out", float(losses.sum()))):
            if not np.isfinite(value):
                raise DivergenceError(f"the dynamics' {name} loss is {value} in epoch {dynamics.epochs_trained}")
        improved = torch.nonzero((progress.best - losses) / progress.best > 0.01).flatten()
        progress.best[improved] = losses[improved]
        progress.stale = 0 if len(improved) else progress.stale + 1
        if len(improved):
            dynamics.save_members(improved)
        progress.epoch, progress.batch = progress.epoch + 1, 0
        progress.total.zero_()
        holdout_loss = float(losses.sort().values[: dynamics.model.num_elites].mean())
        self.logger.logkv("loss/dynamics_train_loss", train_loss)
        self.logger.logkv("loss/dynamics_holdout_loss", holdout_loss)
        self.logger.set_timestep(dynamics.epochs_trained)
        self.logger.dumpkvs(exclude=["policy_training_progress", "consoleout_backup"])
        if self.on_epoch is not None:
            self.on_epoch(progress.epoch, train_loss, holdout_loss)

    @torch.no_grad()
    def _holdout_losses(self, holdouts: Sequence[Pairs]) -> torch.Tensor:
        """Each member's mean squared error [E], the mean over the held-out sets."""
        sets = [(self.dynamics.forward(x)[0] - y).square().mean(dim=(1, 2)) for x, y in holdouts]
        return torch.stack(sets).mean(0)


@torch.no_grad()
def training_step(
    model: Any,
    optim: torch.optim.Optimizer,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    logvar_loss_coef: float,
    workspace: Sequence[Pairs],
) -> torch.Tensor:
    """One optimiser step of an ensemble on the negative log-likelihood (eq. 1).

    Forward and backward are written out: nothing is recorded, and gradients go where the optimiser reads them.

    Args:
        model: The kit's EnsembleDynamicsModel.
        optim: Its optimiser.
        inputs: Scaled observations and actions [E, B, O+A].
        targets: Changes of the observation and rewards [E, B, O+1].
        logvar_loss_coef: Weight of the variance bounds.
        workspace: Of each hidden layer, two tensors [E, B, width] to overwrite, before and after its activation: kept
            from step to step, they are still in the cache.

    Returns:
        The loss, a scalar tensor.
    """
    lowest, highest = model.min_logvar, model.max_logvar
    *hidden, last = layers = [*model.backbones, model.output_layer]
    values = [inputs]  # each layer's
    for layer, (before, after) in zip(hidden, workspace, strict=True):
        torch.bmm(values[-1], layer.weight, out=before).add_(layer.bias)
        values.append(_aten.silu.out(before, out=after))
    mean, raw = torch.bmm(values[-1], last.weight).add_(last.bias).chunk(2, dim=-1)
    capped = highest - functional.softplus(highest - raw)
    logvar = lowest + functional.softplus(capped - lowest)
    precision, error = torch.exp(-logvar), mean - targets
    weighted = error.square() * precision
    bounds = logvar_loss_coef * (highest.sum() - lowest.sum())
    squares = (torch.linalg.vector_norm(layer.weight).square() for layer in layers)  # dot is slow at medium precision
    decay = sum(0.5 * layer.weight_decay * square for layer, square in zip(layers, squares, strict=True))
    entries = error[0].numel()
    loss = (weighted + logvar).sum() / entries + decay + bounds

    of_logvar = (1 - weighted) / entries
    below, above = torch.sigmoid(capped - lowest), torch.sigmoid(highest - raw)
    of_capped = of_logvar * below
    _gradient(lowest).copy_((of_logvar - of_capped).sum((0, 1)) - logvar_loss_coef)
    of_raw = of_capped * above
    _gradient(highest).copy_((of_capped - of_raw).sum((0, 1)) + logvar_loss_coef)
    gradient = torch.cat([error.mul_(precision).mul_(2 / entries), of_raw], dim=-1)
    for depth in reversed(range(len(layers))):
        layer, value = layers[depth], values[depth]
        torch.bmm(value.transpose(1, 2), gradient, out=_gradient(layer.weight))
        torch.sum(gradient, 1, keepdim=True, out=_gradient(layer.bias))
        if depth:  # the gradient takes the value's place
            torch.bmm(gradient, layer.weight.transpose(1, 2), out=value)
            gradient = _aten.silu_backward.grad_input(value, workspace[depth - 1][0], grad_input=value)
    for layer in layers:
        adam_step(optim, [layer.weight], layer.weight_decay)
    adam_step(optim, [*(layer.bias for layer in layers), lowest, highest])
    return loss


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    """Where the optimiser reads a parameter's gradient; never emptied, always overwritten."""
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad
