"""SPOT (Wu et al. 2022): TD3 whose policy is penalised where the density of D's actions is low.

    L_π = E[−Q_1(s, π(s)) / mean|Q_1| − λ·log π_β(π(s)|s)]                                                   (eq. 11)

log π_β is bounded from below by the evidence of a conditional variational autoencoder (eqs. 8, 9), which is trained on
D before the policy and stays as it is. During the online steps λ may fall in a line to a part of itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from doof_ext.baselines.agent import Agent, Preparation, follow, frozen_copy
from doof_ext.baselines.networks import Critics, perceptron
from doof_ext.config import BaselineConfig
from doof_ext.data.dataset import Dataset
from doof_ext.learning.actor_critic import Batch
from doof_ext.tasks import TaskSpec

_LATENT_WEIGHT = 0.5  # of the divergence, the authors' β
_DENSITY_HIDDEN, _DENSITY_LR = (750, 750), 1e-3
_DELAY = 2  # critic steps for each step of the policy, as TD3's
_NOISE, _NOISE_CLIP, _EXPLORATION = 0.2, 0.5, 0.1  # standard deviations and bound, of TD3


class Density(nn.Module):
    """A conditional variational autoencoder of actions [B, A] given observations [B, O]."""

    def __init__(self, obs_dim: int, action_dim: int) -> None:
        super().__init__()
        latent = 2 * action_dim
        self.encoder = perceptron(obs_dim + action_dim, _DENSITY_HIDDEN, 2 * latent)
        self.decoder = perceptron(obs_dim + latent, _DENSITY_HIDDEN, action_dim)

    def negative_evidence(self, obs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Mean squared reconstruction error + β · KL(q(z|s, a) ‖ N(0, 1)) per latent dimension, [B, 1].

        It is −log π_β(a|s), bounded from above, but for a factor and a constant (eq. 9 with σ² = β/4).
        """
        mean, log_std = self.encoder(torch.cat([obs, actions], 1)).chunk(2, dim=1)
        log_std = log_std.clamp(-4, 15)
        latent = mean + log_std.exp() * torch.randn_like(mean)
        rebuilt = self.decoder(torch.cat([obs, latent], 1)).tanh()
        divergence = 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std
        error = (rebuilt - actions).square()
        return error.mean(1, keepdim=True) + _LATENT_WEIGHT * divergence.mean(1, keepdim=True)


class SPOT(Agent):
    """Supported policy optimisation."""

    steps: torch.Tensor  # of the critics
    online: torch.Tensor  # environment steps taken, and how many there will be

    def __init__(self, config: BaselineConfig, spec: TaskSpec, dataset: Dataset) -> None:
        super().__init__(config, spec, dataset)
        of_policy = (self.obs_dim, config.hidden_dims, self.action_dim)
        of_critics = (self.obs_dim, self.action_dim, config.hidden_dims)
        self.density = Density(self.obs_dim, self.action_dim)
        self.policy, self.critics = perceptron(*of_policy), Critics(*of_critics)
        self.policy_target = frozen_copy(self.policy, perceptron(*of_policy))
        self.targets = frozen_copy(self.critics, Critics(*of_critics))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("online", torch.zeros(2))
        self.adam("density_optimizer", self.density.parameters(), _DENSITY_LR)
        self._make_optimizers()

    def _make_optimizers(self) -> None:
        self.adam("critics_optimizer", self.critics.parameters(), self.config.critic_lr)
        self.adam("actor_optimizer", self.policy.parameters(), self.config.actor_lr)

    def preparations(self) -> Sequence[Preparation]:
        assert self.config.density_epochs is not None
        return [Preparation("density", self.learn_density, self.config.density_epochs)]

    def begin_pretraining(self, steps: int) -> None:
        self.density.requires_grad_(False)  # from here on only the policy learns through it

    def begin_online(self, steps: int) -> None:
        self.online[1] = steps
        self._make_optimizers()  # as the authors': fresh ones

    def learn_density(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One step of the density on actions of D."""
        loss = self.density.negative_evidence(self.normalizer(batch["observations"]), batch["actions"]).mean()
        self._step("density_optimizer", loss)
        return {"loss/density": loss.detach()}

    def learn(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One step of the critics; at every second one, one of the policy, and the targets follow."""
        obs, next_obs = self.normalizer(batch["observations"]), self.normalizer(batch["next_observations"])
        with torch.no_grad():
            noise = (_NOISE * torch.randn_like(batch["actions"])).clamp(-_NOISE_CLIP, _NOISE_CLIP)
            next_actions = (self.policy_target(next_obs).tanh() + noise).clamp(-1, 1)
            next_q = self.targets(next_obs, next_actions).amin(0)
            target = batch["rewards"] + self.config.gamma * (1 - batch["terminals"]) * next_q
        critic_loss = (self.critics(obs, batch["actions"]) - target).square().mean((1, 2)).sum()
        self._step("critics_optimizer", critic_loss)
        self.steps += 1
        if self.steps % _DELAY == 0:
            self._learn_policy(obs)
        return {"loss/critic": critic_loss.detach(), "density_weight": self.density_weight.clone()}

    def _learn_policy(self, obs: torch.Tensor) -> None:
        actions = self.policy(obs).tanh()
        q = self.critics(obs, actions, frozen=True)[0]
        penalty = self.density.negative_evidence(obs, actions).mean()
        self._step("actor_optimizer", self.density_weight * penalty - q.mean() / q.detach().abs().mean())
        follow(self.targets, self.critics, self.config.tau)
        follow(self.policy_target, self.policy, self.config.tau)

    @property
    def density_weight(self) -> torch.Tensor:
        """λ: in a line with the online steps, down to its part ``density_weight_end``."""
        taken, total = self.online
        left = 1 - taken / total if total else taken.new_ones(())
        return self.config.density_weight * left.clamp(min=self.config.density_weight_end)

    def count_online_step(self) -> None:
        self.online[0] += 1

    def _step(self, name: str, loss: torch.Tensor) -> None:
        optimizer = self.optims[name]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def act(self, obs: torch.Tensor, deterministic: bool) -> torch.Tensor:
        actions = self.policy(obs).tanh()
        if deterministic:
            return actions
        return (actions + _EXPLORATION * torch.randn_like(actions)).clamp(-1, 1)
