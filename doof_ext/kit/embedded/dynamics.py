"""Ensemble dynamics: prediction with MOPO's uncertainty, and maximum-likelihood training."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from doof_ext.kit.embedded.logger import Logger
from doof_ext.kit.embedded.modules import EnsembleDynamicsModel
from doof_ext.kit.embedded.sac import descend
from doof_ext.kit.embedded.scaler import StandardScaler


class BaseDynamics:
    """A model and its optimiser."""

    def __init__(self, model: EnsembleDynamicsModel, optim: torch.optim.Optimizer) -> None:
        self.model, self.optim = model, optim
        self.device = model.device


class EnsembleDynamics(BaseDynamics):
    """A probabilistic ensemble as a simulator whose rewards can be penalised by its uncertainty.

    Args:
        model: The ensemble.
        optim: Its optimiser.
        scaler: Standardises inputs.
        terminal_fn: The termination rule, fn(obs [B, O], act [B, A], next_obs [B, O]) → bool [B, 1].
        penalty_coef: Weight of the uncertainty.
        uncertainty_mode: "aleatoric", "pairwise-diff" or "ensemble_std".
    """

    def __init__(
        self,
        model: EnsembleDynamicsModel,
        optim: torch.optim.Optimizer,
        scaler: StandardScaler,
        terminal_fn: Callable[..., Any],
        penalty_coef: float = 0.0,
        uncertainty_mode: str = "aleatoric",
    ) -> None:
        super().__init__(model, optim)
        self.scaler, self.terminal_fn = scaler, terminal_fn
        self._penalty_coef, self._uncertainty_mode = penalty_coef, uncertainty_mode

    @torch.no_grad()
    def _predict(self, obs: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means (of the next observation and the reward) and standard deviations, arrays [E, B, O+1]."""
        mean, logvar = self.model(self.scaler.transform(np.concatenate([obs, action], axis=-1)))
        mean, std = mean.cpu().numpy(), np.sqrt(np.exp(logvar.cpu().numpy()))
        mean[..., :-1] += obs
        return mean, std

    def step(
        self, obs: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """One step of the model.

        Args:
            obs: [B, O].
            action: [B, A].

        Returns:
            next_obs [B, O], reward [B, 1], terminal [B, 1] bool, info; ``info["raw_reward"]`` is the reward before the
            penalty, ``info["penalty"]`` the uncertainty u [B, 1].
        """
        mean, std = self._predict(obs, action)
        samples = (mean + np.random.normal(size=mean.shape) * std).astype(np.float32)
        members = self.model.random_elite_idxs(len(obs))
        sample = samples[members, np.arange(len(obs))]
        next_obs, raw_reward = sample[:, :-1], sample[:, -1:]
        penalty = self._uncertainty(mean, std).astype(np.float32)
        reward = raw_reward - self._penalty_coef * penalty
        terminal = self.terminal_fn(obs, action, next_obs)
        return next_obs, reward, terminal, {"raw_reward": raw_reward, "penalty": penalty}

    def _uncertainty(self, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        if self._uncertainty_mode == "aleatoric":
            return np.linalg.norm(std, axis=-1).max(0)[:, None]
        next_obs_mean = mean[..., :-1]
        if self._uncertainty_mode == "pairwise-diff":
            return np.linalg.norm(next_obs_mean - next_obs_mean.mean(0), axis=-1).max(0)[:, None]
        if self._uncertainty_mode == "ensemble_std":
            return np.sqrt(next_obs_mean.var(0).mean(-1))[:, None]
        raise ValueError(f"unknown uncertainty mode {self._uncertainty_mode!r}")

    @torch.no_grad()
    def sample_next_obss(self, obs: torch.Tensor, action: torch.Tensor, num_samples: int) -> torch.Tensor:
        """``num_samples`` next observations of every elite for obs [B, O], action [B, A]: [S, elites, B, O]."""
        inputs = self.scaler.transform_tensor(torch.cat([obs, action], dim=-1))
        mean, logvar = self.model(inputs)
        elites = self.model.elites
        mean = mean[elites, :, :-1] + obs
        std = (0.5 * logvar[elites, :, :-1]).exp()
        return mean + torch.randn(num_samples, *std.shape, device=std.device) * std

    def format_samples_for_training(self, data: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Transitions by name → inputs [N, O+A], targets [N, O+1]: change of the observation, reward."""
        inputs = np.concatenate([data["observations"], data["actions"]], axis=-1)
        targets = np.concatenate([data["next_observations"] - data["observations"], data["rewards"]], axis=-1)
        return inputs, targets

    def train(
        self,
        data: Mapping[str, np.ndarray],
        logger: Logger,
        max_epochs: int | None = None,
        max_epochs_since_update: int = 5,
        batch_size: int = 256,
        holdout_ratio: float = 0.2,
        logvar_loss_coef: float = 0.01,
    ) -> Any:
        """Fits the ensemble to data, each member on its own bootstrap, until none improves by 1 % for some epochs.

        The held-out loss before training counts as the best so far. Returns nothing, though a subclass may.

        Args:
            data: Transitions by name, arrays [N, ·].
            logger: Records each epoch's losses; the result is saved to its model folder.
            max_epochs: Most epochs; None for no limit.
            max_epochs_since_update: Epochs without an improvement after which it stops.
            batch_size: Rows per batch and member.
            holdout_ratio: Held-out fraction, at most 1000 rows.
            logvar_loss_coef: Weight of the variance bounds.

        Raises:
            FloatingPointError: A loss is not finite.
        """
        inputs, targets = self.format_samples_for_training(data)
        order = np.random.permutation(len(inputs))
        holdout_size = min(int(len(inputs) * holdout_ratio), 1000)
        held_out, kept = order[:holdout_size], order[holdout_size:]
        self.scaler.fit(inputs[kept])
        train_inputs, train_targets = self.scaler.transform(inputs[kept]), targets[kept]
        test_inputs, test_targets = self.scaler.transform(inputs[held_out]), targets[held_out]

        rows = np.random.randint(len(kept), size=(self.model.num_ensemble, len(kept)))
        best = np.array(self.validate(test_inputs, test_targets))
        self._save_members(range(len(best)))
        epoch = epochs_since_update = 0
        while epochs_since_update < max_epochs_since_update and (max_epochs is None or epoch < max_epochs):
            epoch += 1
            train_loss = self.learn(train_inputs[rows], train_targets[rows], batch_size, logvar_loss_coef)
            losses = np.array(self.validate(test_inputs, test_targets))
            if not np.isfinite([train_loss, *losses]).all():
                raise FloatingPointError(f"dynamics loss is not finite in epoch {epoch}")
            logger.logkv("loss/dynamics_train_loss", train_loss)
            logger.logkv("loss/dynamics_holdout_loss", self._elite_mean(losses))
            logger.set_timestep(epoch)
            logger.dumpkvs(exclude=["policy_training_progress"])
            rows = np.take_along_axis(rows, np.random.random(rows.shape).argsort(1), axis=1)
            improved = np.flatnonzero((best - losses) / best > 0.01)
            best[improved] = losses[improved]
            epochs_since_update = 0 if len(improved) else epochs_since_update + 1
            if len(improved):
                self._save_members(improved)
        self._restore_members()
        self.model.set_elites(self.select_elites(best))
        self.save(logger.model_dir)

    def _save_members(self, members: Any) -> None:
        self.model.update_save(list(members))
        self._saved_bounds = [bound.detach().clone() for bound in (self.model.max_logvar, self.model.min_logvar)]

    @torch.no_grad()
    def _restore_members(self) -> None:
        """Restores the best weights, and the variance bounds that were learned with the last of them."""
        self.model.load_save()
        for bound, saved in zip((self.model.max_logvar, self.model.min_logvar), self._saved_bounds, strict=True):
            bound.copy_(saved)

    def _elite_mean(self, losses: np.ndarray) -> float:
        return float(np.sort(losses)[: self.model.num_elites].mean())

    def learn(self, inputs: Any, targets: Any, batch_size: int = 256, logvar_loss_coef: float = 0.01) -> float:
        """One epoch on inputs and targets [E, N, ·], each member on its own rows; returns the mean loss (eq. 1)."""
        self.model.train()
        inputs = torch.as_tensor(inputs, device=self.device, dtype=torch.float32)
        targets = torch.as_tensor(targets, device=self.device, dtype=torch.float32)
        losses = []
        for start in range(0, inputs.shape[1], batch_size):
            batch = slice(start, start + batch_size)
            losses.append(descend(self._loss(inputs[:, batch], targets[:, batch], logvar_loss_coef), self.optim))
        return float(np.mean(losses))

    def _loss(self, inputs: torch.Tensor, targets: torch.Tensor, logvar_loss_coef: float) -> torch.Tensor:
        mean, logvar = self.model(inputs)
        weighted_mse = ((mean - targets).square() * torch.exp(-logvar)).mean(dim=(1, 2)).sum()
        log_variance = logvar.mean(dim=(1, 2)).sum()
        bounds = logvar_loss_coef * (self.model.max_logvar.sum() - self.model.min_logvar.sum())
        return weighted_mse + log_variance + self.model.get_decay_loss() + bounds

    @torch.no_grad()
    def validate(self, inputs: Any, targets: Any) -> list[float]:
        """Mean squared error of each member's mean on [N, ·], a list of E floats."""
        self.model.eval()
        targets = torch.as_tensor(targets, device=self.device, dtype=torch.float32)
        mean, _ = self.model(inputs)
        return (mean - targets).square().mean(dim=(1, 2)).tolist()

    def select_elites(self, metrics: Sequence[float] | np.ndarray) -> list[int]:
        """The indices of the num_elites members with the smallest metric, best first."""
        return np.argsort(metrics)[: self.model.num_elites].tolist()

    def save(self, save_path: str) -> None:
        """Writes dynamics.pth, mu.npy and std.npy into a folder."""
        torch.save(self.model.state_dict(), os.path.join(save_path, "dynamics.pth"))
        self.scaler.save_scaler(save_path)

    def load(self, load_path: str) -> None:
        """Restores what :meth:`save` wrote."""
        state = torch.load(os.path.join(load_path, "dynamics.pth"), map_location=self.device, weights_only=True)
        self.model.load_state_dict(state)
        self.scaler.load_scaler(load_path)
