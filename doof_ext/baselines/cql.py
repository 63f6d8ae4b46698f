"""CQL (Kumar et al. 2020), its variant CQL(H): SAC whose critics are pushed down where D has no actions.

    L_Q = Σ_i E[(r + γ·min Q̄(s', a') − Q_i(s, a))²] + α·E[log Σ_a exp Q_i(s, a) − Q_i(s, a_D)]             (eq. 4)

The sum over actions is estimated by importance sampling (Appendix F): as many uniform actions as there are of π(·|s)
and of π(·|s'), each weighted by its density. As in CORL, which the DOOF paper ran, the target has no entropy term.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from doof_ext.baselines.agent import Agent, follow, frozen_copy
from doof_ext.baselines.networks import Critics, SquashedPolicy
from doof_ext.config import BaselineConfig
from doof_ext.data.dataset import Dataset
from doof_ext.learning.actor_critic import Batch
from doof_ext.tasks import TaskSpec


class CQL(Agent):
    """Conservative Q-learning."""

    def __init__(self, config: BaselineConfig, spec: TaskSpec, dataset: Dataset) -> None:
        super().__init__(config, spec, dataset)
        assert config.conservatism is not None and config.sampled_actions is not None
        self.conservatism, self.draws = config.conservatism, config.sampled_actions
        self.online_ratio = config.online_ratio
        dims = (self.obs_dim, self.action_dim, config.hidden_dims)
        self.policy = SquashedPolicy(*dims)
        self.critics = Critics(*dims)
        self.targets = frozen_copy(self.critics, Critics(*dims))
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.adam("critics_optimizer", self.critics.parameters(), config.critic_lr)
        self.adam("actor_optimizer", [*self.policy.parameters(), self.log_alpha], config.actor_lr)

    def learn(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One step of critics, policy and temperature from the same weights; then the target critics follow."""
        obs, next_obs = self.normalizer(batch["observations"]), self.normalizer(batch["next_observations"])
        alpha = self.log_alpha.exp().detach()
        actions, log_probs = (draw[0] for draw in self.policy.sample(obs))
        actor_loss = (alpha * log_probs - self.critics(obs, actions, frozen=True).amin(0)).mean()
        alpha_loss = -self.log_alpha * (log_probs.detach().mean() - self.action_dim)  # H̄ = −A
        values = self.critics(obs, batch["actions"])  # [2, B, 1]
        errors = values - self._target(batch, next_obs)
        gap = self._log_sum_exp(obs, next_obs, batch["returns"]) - values
        bellman, conservative = errors.square().mean((1, 2)).sum(), gap.mean((1, 2)).sum()
        critic_loss = bellman + self.conservatism * conservative
        for optimizer in self.optims.values():
            optimizer.zero_grad()
        (critic_loss + actor_loss + alpha_loss).backward()
        for optimizer in self.optims.values():
            optimizer.step()
        follow(self.targets, self.critics, self.config.tau)
        losses = {"loss/critic": bellman, "loss/conservative": conservative, "loss/actor": actor_loss, "alpha": alpha}
        return {name: loss.detach() for name, loss in losses.items()} | {"q": values.detach().mean()}

    @torch.no_grad()
    def _target(self, batch: Batch, next_obs: torch.Tensor) -> torch.Tensor:
        """r + γ·min Q̄(s', a') [B, 1], a' one action of π, or the best of several."""
        draws = self.draws if self.config.max_q_backup else 1
        next_actions, _ = self.policy.sample(next_obs, draws)  # [draws, B, A]
        next_q = self._of_all(self.targets, next_obs, next_actions).amin(0).amax(0)
        return batch["rewards"] + self.config.gamma * (1 - batch["terminals"]) * next_q

    def _log_sum_exp(self, obs: torch.Tensor, next_obs: torch.Tensor, returns: torch.Tensor) -> torch.Tensor:
        """log Σ exp(Q(s, a) − log density of a) [2, B, 1] over uniform actions and the policy's for s and for s'."""
        draws = self.draws
        with torch.no_grad():
            uniform = torch.empty(draws, len(obs), self.action_dim, device=obs.device).uniform_(-1, 1)
            ours, log_ours = self.policy.sample(obs, draws)
            theirs, log_theirs = self.policy.sample(next_obs, draws)
        q_uniform, q_ours, q_theirs = self._of_all(self.critics, obs, torch.cat([uniform, ours, theirs])).chunk(
            3, dim=1
        )
        terms = [
            q_uniform + self.action_dim * math.log(2),  # less the logarithm of their density, 2^−A
            self._bounded(q_ours, returns) - log_ours,
            self._bounded(q_theirs, returns) - log_theirs,
        ]
        return torch.cat(terms, dim=1).logsumexp(dim=1)

    def _bounded(self, values: torch.Tensor, returns: torch.Tensor) -> torch.Tensor:
        """The values [2, draws, B, 1] of the policy's actions as the conservative term has them."""
        return values

    @staticmethod
    def _of_all(critics: nn.Module, obs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Values [2, draws, B, 1] of actions [draws, B, A] in obs [B, O]."""
        draws, rows, _ = actions.shape
        values = critics(obs.repeat(draws, 1), actions.flatten(0, 1))
        return values.view(len(values), draws, rows, 1)

    def act(self, obs: torch.Tensor, deterministic: bool) -> torch.Tensor:
        return self.policy.act(obs, deterministic)
