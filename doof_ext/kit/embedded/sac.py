"""Soft actor-critic (Haarnoja et al. 2018), written for reading: the reference that the fast path is tested against."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

Alpha = float | tuple[float, torch.Tensor, torch.optim.Optimizer]
"""The temperature: a number, or (target_entropy, log_alpha, alpha_optim) to learn it."""

Losses = dict[str, Any]
"""Losses by name: numbers, or scalar tensors."""


class BasePolicy(nn.Module):
    """The interface of every policy: ``select_action`` and ``learn``."""

    def select_action(self, obs: Any, deterministic: bool = False) -> np.ndarray:
        """obs [B, O] → actions [B, A], as arrays."""
        raise NotImplementedError

    def learn(self, batch: Mapping[str, Any]) -> Losses:
        """One gradient step; returns the losses."""
        raise NotImplementedError


@torch.no_grad()
def polyak_update(target: nn.Module, source: nn.Module, tau: float) -> None:
    """target ← (1 − τ)·target + τ·source, parameter by parameter."""
    for old, new in zip(target.parameters(), source.parameters(), strict=True):
        old.lerp_(new, tau)


class MaximumEntropyPolicy(BasePolicy):
    """What SAC and MOBILE share: a stochastic actor and a temperature, fixed or learned, in [0, 1]."""

    _alpha: Any  # a number, or a scalar tensor where it is learned

    def __init__(
        self, actor: nn.Module, actor_optim: torch.optim.Optimizer, tau: float, gamma: float, alpha: Alpha
    ) -> None:
        super().__init__()
        self.actor, self.actor_optim = actor, actor_optim
        self._tau, self._gamma = tau, gamma
        self._is_auto_alpha = isinstance(alpha, tuple)
        if isinstance(alpha, tuple):
            self._target_entropy, self._log_alpha, self.alpha_optim = alpha
            self._alpha = self._log_alpha.detach().exp().clamp(0.0, 1.0)
        else:
            self._alpha = alpha

    def actforward(self, obs: Any, deterministic: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """obs [B, O] → actions [B, A] and their log density [B, 1]."""
        distribution = self.actor(obs)
        squashed, raw = distribution.mode() if deterministic else distribution.rsample()
        return squashed, distribution.log_prob(squashed, raw)

    @torch.no_grad()
    def select_action(self, obs: Any, deterministic: bool = False) -> np.ndarray:
        """obs [B, O] → actions [B, A], as arrays."""
        return self.actforward(obs, deterministic)[0].cpu().numpy()

    def _learn_actor(self, obss: torch.Tensor, min_q: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Losses:
        """One step of the actor, then of the temperature; ``min_q(obss, actions)`` is the critics' minimum."""
        actions, log_probs = self.actforward(obss)
        losses: Losses = {
            "loss/actor": descend((self._alpha * log_probs - min_q(obss, actions)).mean(), self.actor_optim)
        }
        if self._is_auto_alpha:
            loss = -(self._log_alpha * (log_probs.detach() + self._target_entropy)).mean()
            losses["loss/alpha"] = descend(loss, self.alpha_optim)
            self._alpha = self._log_alpha.detach().exp().clamp(0.0, 1.0)
            losses["alpha"] = float(self._alpha)
        return losses


def descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> float:
    """One optimiser step on a scalar loss; returns its value."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


class SACPolicy(MaximumEntropyPolicy):
    """Two critics and their target networks, a tanh-Gaussian actor."""

    def __init__(
        self,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        actor_optim: torch.optim.Optimizer,
        critic1_optim: torch.optim.Optimizer,
        critic2_optim: torch.optim.Optimizer,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Alpha = 0.2,
    ) -> None:
        super().__init__(actor, actor_optim, tau, gamma, alpha)
        self.critic1, self.critic1_old = critic1, copy.deepcopy(critic1)
        self.critic2, self.critic2_old = critic2, copy.deepcopy(critic2)
        self.critic1_optim, self.critic2_optim = critic1_optim, critic2_optim

    def _min_q(self, obss: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return torch.min(self.critic1(obss, actions), self.critic2(obss, actions))

    def learn(self, batch: Mapping[str, Any]) -> Losses:
        """One step of critics, actor, temperature and target networks on a batch of B transitions."""
        obss, actions, next_obss = batch["observations"], batch["actions"], batch["next_observations"]
        rewards, terminals = batch["rewards"], batch["terminals"]
        with torch.no_grad():
            next_actions, next_log_probs = self.actforward(next_obss)
            next_q = torch.min(self.critic1_old(next_obss, next_actions), self.critic2_old(next_obss, next_actions))
            target = rewards + self._gamma * (1 - terminals) * (next_q - self._alpha * next_log_probs)
        losses: Losses = {}
        for name in ("critic1", "critic2"):
            loss = functional.mse_loss(getattr(self, name)(obss, actions), target)
            losses[f"loss/{name}"] = descend(loss, getattr(self, f"{name}_optim"))
        losses |= self._learn_actor(obss, self._min_q)
        polyak_update(self.critic1_old, self.critic1, self._tau)
        polyak_update(self.critic2_old, self.critic2, self._tau)
        return losses


def concatenate(real: Mapping[str, torch.Tensor], fake: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Two batches of tensors as one: the rows of ``real`` first."""
    return {name: torch.cat([real[name], fake[name]]) for name in real}
