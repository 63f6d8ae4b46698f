"""DOOF's ensemble dynamics: steps on tensors, trains without copies, finetunes on a mixture of D and D_on."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from doof_ext import kit
from doof_ext.checkpointing.training_state import TrainingState
from doof_ext.errors import UserError
from doof_ext.files import load_state
from doof_ext.learning.dynamics_trainer import DynamicsTrainer, OnEpoch, Pairs, training_step
from doof_ext.uncertainty import make_estimator
from doof_ext.uncertainty.base import EnsemblePrediction, UncertaintyEstimator

BLOCK = 2000  # rows of a prediction that fit the cache together with a layer's weights


@dataclass
class ModelStep:
    """One step of the model for B rows; the reward is not penalised."""

    next_obs: torch.Tensor  # [B, O]
    reward: torch.Tensor  # [B, 1]
    terminal: torch.Tensor  # [B, 1] bool
    prediction: EnsemblePrediction  # what it was drawn from


class DOOFDynamics(kit.EnsembleDynamics):
    """The kit's EnsembleDynamics with the same results on tensors, and :meth:`finetune` (eq. 10).

    Args:
        model: The kit's EnsembleDynamicsModel.
        optim: Its optimiser.
        scaler: Standardises inputs.
        terminal_fn: The termination rule, fn(obs [B, O], act [B, A], next_obs [B, O]) → bool [B, 1].
        penalty_coef: λ_off of :meth:`step`.
        uncertainty_mode: A registered name, or an UncertaintyEstimator.
        holdout_seed: Decides which rows are held out.
    """

    def __init__(
        self,
        model: Any,
        optim: torch.optim.Optimizer,
        scaler: Any,
        terminal_fn: Callable[..., Any],
        penalty_coef: float = 0.0,
        uncertainty_mode: str | UncertaintyEstimator = "aleatoric",
        holdout_seed: int = 0,
    ) -> None:
        self.estimator: UncertaintyEstimator = (
            make_estimator(uncertainty_mode) if isinstance(uncertainty_mode, str) else uncertainty_mode
        )
        mode = self.estimator.name.replace("ensemble-", "ensemble_")
        super().__init__(model, optim, scaler, terminal_fn, penalty_coef, mode)
        if type(model.activation).__name__ not in ("Swish", "SiLU"):
            raise ValueError(f"DOOFDynamics needs the ensemble's default activation, Swish, not {model.activation}")
        for group in optim.param_groups:
            group.update(fused=True, foreach=False)
        self.device = model.device
        self.holdout_seed = holdout_seed
        self.epochs_trained = 0  # over all trainings, so that the curve of a finetuning continues where the last ended
        self._saved_bounds: list[torch.Tensor] = []
        self._workspace: list[Pairs] = []  # of a training step

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled inputs [B, O+A] → mean and log-variance [E, B, O+1], as the kit's model.

        One member after another: a layer's output is still in the cache when the next layer reads it.
        """
        model = self.model
        layers = [*model.backbones, model.output_layer]
        outputs = inputs.new_empty(model.num_ensemble, len(inputs), layers[-1].bias.shape[-1])
        parameters = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
        for output, *weights in zip(outputs, *parameters, strict=True):
            x = inputs
            for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
                x = functional.silu(torch.mm(x, weight).add_(bias), inplace=True)
            torch.mm(x, weights[-2], out=output).add_(weights[-1])
        mean, logvar = outputs.chunk(2, dim=-1)
        logvar = model.max_logvar - functional.softplus(model.max_logvar - logvar)
        return mean, model.min_logvar + functional.softplus(logvar - model.min_logvar)

    @torch.no_grad()
    def predict(self, obs: torch.Tensor, actions: torch.Tensor) -> EnsemblePrediction:
        """What all members predict for obs [B, O], actions [B, A]."""
        mean, logvar = self.forward(self.scaler.transform_tensor(torch.cat([obs, actions], dim=-1)))
        mean[..., :-1] += obs
        return EnsemblePrediction(mean, logvar.mul_(0.5).exp_(), self.model.elites)

    def sample_step(
        self,
        obs: torch.Tensor,
        actions: torch.Tensor,
        noise: torch.Tensor | None = None,
        members: torch.Tensor | None = None,
    ) -> ModelStep:
        """One step of the model for each row, from a random elite's Gaussian.

        Args:
            obs: [B, O].
            actions: [B, A].
            noise: Standard normal [B, O+1]; drawn from torch's generator by default.
            members: Indices of members [B]; random elites by default.
        """
        prediction = self.predict(obs, actions)
        rows = torch.arange(len(obs), device=obs.device)
        if members is None:
            members = self.model.elites[torch.randint(len(self.model.elites), rows.shape, device=obs.device)]
        mean, std = prediction.mean[members, rows], prediction.std[members, rows]
        sample = mean + std * (torch.randn_like(mean) if noise is None else noise)
        next_obs, reward = sample[:, :-1], sample[:, -1:]
        terminal = self.terminal_fn(obs, actions, next_obs)
        return ModelStep(next_obs, reward, terminal, prediction)

    def uncertainty(self, obs: torch.Tensor, actions: torch.Tensor, policy: Any = None) -> torch.Tensor:
        """u(s, a) [B, 1] of obs [B, O], actions [B, A]; ``policy`` for an estimator that needs its target critics."""
        blocks = zip(obs.split(BLOCK), actions.split(BLOCK), strict=True)
        return torch.cat([self.estimator(*block, self, policy) for block in blocks])

    def step(self, obs: Any, action: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """The kit's step on arrays.

        Args:
            obs: [B, O].
            action: [B, A].

        Returns:
            next_obs [B, O], reward [B, 1] − penalty_coef·u, terminal [B, 1] bool, and info, whose ``raw_reward`` and
            ``penalty`` (u) are always there.
        """
        obs, action = (torch.as_tensor(x, dtype=torch.float32, device=self.device) for x in (obs, action))
        step = self.sample_step(obs, action)
        uncertainty = self.estimator(obs, action, self, prediction=step.prediction)
        raw_reward, penalty = step.reward.cpu().numpy(), uncertainty.cpu().numpy()
        info = {"raw_reward": raw_reward, "penalty": penalty}
        return step.next_obs.cpu().numpy(), raw_reward - self._penalty_coef * penalty, step.terminal.cpu().numpy(), info

    def sample_next_obss(self, obs: torch.Tensor, action: torch.Tensor, num_samples: int) -> torch.Tensor:
        """Samples of what each elite predicts: obs [B, O], action [B, A] → [num_samples, elites, B, O]."""
        return self.predict(obs, action).sample_next_obs(num_samples)

    def mean_next_obs(self, obs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """The mean of the elites' predicted next observations [B, O]."""
        blocks = zip(obs.split(BLOCK), actions.split(BLOCK), strict=True)
        return torch.cat([self.predict(*block).mean[self.model.elites, :, :-1].mean(0) for block in blocks])

    # Training ---------------------------------------------------------------------------------------------------

    def train(
        self,
        data: Mapping[str, Any],
        logger: Any,
        max_epochs: int | None = None,
        max_epochs_since_update: int = 5,
        batch_size: int = 256,
        holdout_ratio: float = 0.2,
        logvar_loss_coef: float = 0.01,
        on_epoch: OnEpoch | None = None,
        state: TrainingState | None = None,
    ) -> int:
        """Maximum likelihood on D (eq. 1): scaler fitted to D, each member on its own bootstrap of it.

        Args:
            data: Arrays by the kit's names.
            logger: Where each epoch's losses go.
            max_epochs: Most epochs; None for no cap.
            max_epochs_since_update: Epochs without an improvement of 1 % by any member before it stops.
            batch_size: Rows per batch and member.
            holdout_ratio: Held-out fraction, at most 1000 rows.
            logvar_loss_coef: Weight of the variance bounds.
            on_epoch: Called after each epoch with its number, training and held-out loss.
            state: The run's state, to resume from and to save to.

        Returns:
            Gradient steps taken.

        Raises:
            DivergenceError: A loss is not finite.
        """
        held_out, kept = self.split_rows(len(data["observations"]), holdout_ratio)
        self._fit_scaler(data, kept.cpu().numpy(), logger)
        table, members = self.training_table(data), self.model.num_ensemble
        bootstrap = kept[torch.randint(len(kept), (members, len(kept)), device=kept.device)]

        def epoch_batches(first: int) -> Iterator[Pairs]:
            if first == 0:
                for rows in bootstrap:
                    rows[:] = rows[torch.randperm(len(rows), device=rows.device)]
            for rows in bootstrap.split(batch_size, dim=1)[first:]:
                yield self.training_pairs(_rows_of(table, rows))

        trainer = DynamicsTrainer(self, logger, max_epochs, max_epochs_since_update, logvar_loss_coef, on_epoch, state)
        return trainer.fit(epoch_batches, [self.training_pairs(table[held_out])], [data], bootstrap)

    def _fit_scaler(self, data: Mapping[str, Any], kept: np.ndarray, logger: Any) -> None:
        """Fits the scaler to the ``kept`` rows; logs a warning that names the columns that never change."""
        inputs = np.concatenate([data["observations"], data["actions"]], axis=-1)[kept]
        self.scaler.mu, self.scaler.std, constant = kit.standardisation(inputs)
        columns = zip(("observations", "actions"), np.split(constant, [data["observations"].shape[-1]]), strict=True)
        named = [f"{name} {', '.join(map(str, np.flatnonzero(which)))}" for name, which in columns if which.any()]
        if named:
            never = f"{' and '.join(named)} (from 0) never change in the data, or by no more than float32's rounding"
            logger.log(f"WARNING: {never}; they are not scaled, and where they do change the model can only guess")

    def finetune(
        self,
        offline_data: Mapping[str, Any],
        online_data: Mapping[str, Any],
        logger: Any,
        max_epochs: int | None = None,
        max_epochs_since_update: int = 5,
        batch_size: int = 256,
        holdout_ratio: float = 0.2,
        logvar_loss_coef: float = 0.01,
        steps_per_epoch: int = 1000,
        online_ratio: float = 0.5,
        on_epoch: OnEpoch | None = None,
        state: TrainingState | None = None,
        name: str = "dynamics",
    ) -> int:
        """Maximum likelihood on D ∪ D_on (eq. 10, Appendix B.4): of every batch, ``online_ratio`` from D_on.

        Starts from the present weights and keeps the scaler. Rows are held out from D (those of :meth:`train`) and
        from D_on apart, and the mean of the two losses is what must improve. Other arguments, result and errors are
        those of :meth:`train`.

        Args:
            offline_data: D, arrays by the kit's names.
            online_data: D_on, likewise. Where it is ``offline_data`` itself, D stands in its place: batches, the rows
                that decide on stopping, and what an estimator of u learns from are all of D, which is held once.
            steps_per_epoch: Gradient steps between validations.
            online_ratio: Fraction of each batch from D_on.
            name: What the training is called in ``state``.
        """
        members = self.model.num_ensemble
        datasets = [offline_data] if online_data is offline_data else [offline_data, online_data]
        tables, holdouts = [], []
        for data in datasets:
            table = self.training_table(data)
            held_out, kept = self.split_rows(len(table), holdout_ratio)
            holdouts.append(self.training_pairs(table[held_out]))
            tables.append((table, kept))
        online_rows = int(batch_size * online_ratio)
        sources = [(*tables[0], batch_size - online_rows), (*tables[-1], online_rows)]

        def epoch_batches(first: int) -> Iterator[Pairs]:
            for _ in range(first, steps_per_epoch):
                drawn = []
                for table, kept, count in sources:
                    chosen = _rows_of(kept, torch.randint(len(kept), (members, count), device=kept.device))
                    drawn.append(_rows_of(table, chosen))
                yield self.training_pairs(torch.cat(drawn, dim=1))

        settings = (max_epochs, max_epochs_since_update, logvar_loss_coef, on_epoch, state, name)
        return DynamicsTrainer(self, logger, *settings).fit(epoch_batches, holdouts, datasets)

    def training_step(self, inputs: torch.Tensor, targets: torch.Tensor, logvar_loss_coef: float) -> torch.Tensor:
        """One optimiser step on inputs, targets [E, B, ·]; returns the loss (see dynamics_trainer.training_step)."""
        if not self._workspace or self._workspace[0][0].shape[:2] != inputs.shape[:2]:
            shapes = [(*inputs.shape[:2], layer.bias.shape[-1]) for layer in self.model.backbones]
            self._workspace = [(inputs.new_empty(shape), inputs.new_empty(shape)) for shape in shapes]
        return training_step(self.model, self.optim, inputs, targets, logvar_loss_coef, self._workspace)

    def copy_for_finetuning(self, lr: float) -> DOOFDynamics:
        """A dynamics with the same weights, elites and scaler, and a fresh Adam."""
        clone = copy.copy(self)
        for part in ("model", "scaler", "estimator"):
            setattr(clone, part, copy.deepcopy(getattr(self, part)))
        clone.optim = torch.optim.Adam(clone.model.parameters(), lr=lr, fused=True)
        return clone

    def fit_estimator(self, *datasets: Mapping[str, Any]) -> None:
        """Fits the estimator of u, where it learns from data, to all that the dynamics was trained on."""
        observations, actions = (
            torch.cat([torch.as_tensor(data[name], device=self.device) for data in datasets])
            for name in ("observations", "actions")
        )
        self.estimator.refit(observations, actions)

    def split_rows(self, count: int, holdout_ratio: float) -> tuple[torch.Tensor, ...]:
        """Indices of held-out rows, about ``holdout_ratio`` of them and at most 1000, and of training rows.

        A row has the same split key in every training, and the rows held out have the smallest. Where rows are added
        (D_on from round to round), the keys of the first rows stay, so that one that was trained on is never held out
        later.
        """
        keys = np.random.default_rng(self.holdout_seed).random(count)
        held_out = min((keys < holdout_ratio).sum(), 1000)
        order = torch.as_tensor(keys.argsort(), device=self.device)
        return order.tensor_split([int(np.clip(held_out, 1, count - 1))])

    def training_table(self, data: Mapping[str, Any]) -> torch.Tensor:
        """A row [O+A + O+1] per transition: scaled inputs, the change of the observation, the reward.

        One gather then draws a batch. It is filled block by block, so that there is never a second copy of all rows.
        """
        names = ("observations", "actions", "next_observations", "rewards")
        columns = [torch.as_tensor(data[name], device=self.device) for name in names]
        table = torch.empty(len(columns[0]), sum(column.shape[-1] for column in columns), device=self.device)
        blocks = zip(*(part.split(BLOCK) for part in (table, *columns)), strict=True)
        for rows, obs, actions, next_obs, rewards in blocks:
            inputs = self.scaler.transform_tensor(torch.cat([obs, actions], dim=-1))
            torch.cat([inputs, next_obs - obs, rewards], dim=-1, out=rows)
        return table

    def training_pairs(self, rows: torch.Tensor) -> Pairs:
        """Inputs [..., O+A] and targets [..., O+1] of a training table's rows."""
        targets = self.model.output_layer.bias.shape[-1] // 2
        return rows[..., :-targets], rows[..., -targets:]

    def save_members(self, members: torch.Tensor) -> None:
        """Keeps the present weights of ``members`` (indices), and the variance bounds, as the best so far."""
        self.model.update_save(members.tolist())
        self._saved_bounds = [bound.detach().clone() for bound in (self.model.max_logvar, self.model.min_logvar)]

    @torch.no_grad()
    def restore_members(self) -> None:
        """Restores each member's best weights, and the variance bounds saved with the last of them; u needs both."""
        self.model.load_save()
        for bound, saved in zip((self.model.max_logvar, self.model.min_logvar), self._saved_bounds, strict=True):
            bound.copy_(saved)

    def training_state(self) -> dict[str, Any]:
        """All that training and prediction depend on: weights, best weights, optimiser, scaler, u."""
        return {
            "model": self.model.state_dict(),
            "optim": self.optim.state_dict(),
            "bounds": self._saved_bounds,
            "scaler": {"mu": self.scaler.mu, "std": self.scaler.std},
            "estimator": self.estimator.state_dict(),
            "epochs_trained": self.epochs_trained,
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`training_state` returned."""
        self.model.load_state_dict(state["model"])
        self.optim.load_state_dict(state["optim"])
        self._saved_bounds = [bound.to(self.device) for bound in state["bounds"]]
        self.scaler.mu, self.scaler.std = state["scaler"]["mu"], state["scaler"]["std"]
        if state["estimator"]:
            self.estimator.load_state_dict({name: value.to(self.device) for name, value in state["estimator"].items()})
        self.epochs_trained = state["epochs_trained"]

    def load(self, load_path: str) -> None:
        """Reads dynamics.pth, mu.npy and std.npy from a folder, as the kit's; raises UserError for what is no state."""
        load_state(os.path.join(load_path, "dynamics.pth"), self.model)
        try:
            self.scaler.load_scaler(load_path)
        except (OSError, ValueError) as error:
            raise UserError(f"{load_path}: mu.npy and std.npy cannot be read ({error})") from error


def _rows_of(table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The rows [...] of a table [N, ...], as table[rows] but several times as fast."""
    return table.index_select(0, rows.flatten()).view(*rows.shape, *table.shape[1:])
