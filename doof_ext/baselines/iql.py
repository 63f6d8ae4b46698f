"""IQL (Kostrikov et al. 2022): in-sample values by expectile regression, the policy by weighted regression.

    L_V = E[|τ − 1(Q̄(s, a) < V(s))| · (Q̄(s, a) − V(s))²]                                              (eq. 5)
    L_Q = E[(r + γ·V(s') − Q(s, a))²]                                                                   (eq. 6)
    L_π = −E[exp(β·(Q̄(s, a) − V(s))) · log π(a|s)]                                                      (eq. 7)

with Q̄ the least of two target critics. The policy's learning rate falls to 0 on a cosine over pretraining, as the
authors', and is what it was at first in finetuning.
"""

from __future__ import annotations

import math

import torch

from doof_ext.baselines.agent import Agent, follow, frozen_copy
from doof_ext.baselines.networks import Critics, GaussianPolicy, perceptron
from doof_ext.config import BaselineConfig
from doof_ext.data.dataset import Dataset
from doof_ext.learning.actor_critic import Batch
from doof_ext.tasks import TaskSpec

_LARGEST_WEIGHT = 100.0


class IQL(Agent):
    """Implicit Q-learning."""

    steps_left: torch.Tensor  # of the schedule's cosine; its length beside it
    schedule: torch.Tensor

    def __init__(self, config: BaselineConfig, spec: TaskSpec, dataset: Dataset) -> None:
        super().__init__(config, spec, dataset)
        assert config.expectile is not None and config.advantage_temperature is not None
        self.expectile, self.advantage_temperature = config.expectile, config.advantage_temperature
        dims = (self.obs_dim, self.action_dim, config.hidden_dims)
        self.policy = GaussianPolicy(*dims)
        self.value = perceptron(self.obs_dim, config.hidden_dims, 1)
        self.critics = Critics(*dims)
        self.targets = frozen_copy(self.critics, Critics(*dims))
        self.register_buffer("steps_left", torch.zeros(()))
        self.register_buffer("schedule", torch.zeros(()))
        self._make_optimizer()

    def _make_optimizer(self) -> None:
        learned = [*self.value.parameters(), *self.critics.parameters()]
        groups = [{"params": learned}, {"params": list(self.policy.parameters()), "lr": self.config.actor_lr}]
        self.adam("optimizer", groups, self.config.critic_lr)

    def begin_pretraining(self, steps: int) -> None:
        self.steps_left.fill_(steps)
        self.schedule.fill_(steps)

    def begin_online(self, steps: int) -> None:
        self.schedule.zero_()

    def _set_actor_lr(self) -> None:
        rate = self.config.actor_lr
        if self.schedule:
            rate *= (1 - math.cos(math.pi * float(self.steps_left / self.schedule))) / 2
            self.steps_left -= 1
        self.optims["optimizer"].param_groups[1]["lr"] = rate

    def learn(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One step on eqs. 5, 6 and 7 at once, whose parameters are apart; then the target critics follow."""
        obs, next_obs = self.normalizer(batch["observations"]), self.normalizer(batch["next_observations"])
        actions, config = batch["actions"], self.config
        with torch.no_grad():
            target_q = self.targets(obs, actions).amin(0)
            target = batch["rewards"] + config.gamma * (1 - batch["terminals"]) * self.value(next_obs)
        advantage = target_q - self.value(obs)
        weight = torch.where(advantage < 0, 1 - self.expectile, self.expectile)
        value_loss = (weight * advantage.square()).mean()
        critic_loss = (self.critics(obs, actions) - target).square().mean()
        policy_loss = self._policy_loss(obs, actions, advantage.detach())
        self._set_actor_lr()
        optimizer = self.optims["optimizer"]
        optimizer.zero_grad()
        (value_loss + critic_loss + policy_loss).backward()
        optimizer.step()
        follow(self.targets, self.critics, config.tau)
        losses = {"loss/value": value_loss, "loss/critic": critic_loss, "loss/actor": policy_loss}
        return {name: loss.detach() for name, loss in losses.items()} | {"advantage": advantage.detach().mean()}

    def _policy_loss(self, obs: torch.Tensor, actions: torch.Tensor, advantage: torch.Tensor) -> torch.Tensor:
        weight = (self.advantage_temperature * advantage).exp().clamp(max=_LARGEST_WEIGHT)
        return -(weight * self.policy.log_prob(obs, actions)).mean()

    def act(self, obs: torch.Tensor, deterministic: bool) -> torch.Tensor:
        return self.policy.act(obs, deterministic)
