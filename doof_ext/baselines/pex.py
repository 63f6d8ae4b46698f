"""PEX (Zhang et al. 2023): a new policy beside the frozen offline one, and a choice between them by their values.

    π̃(a|s) = Σ_i w_i · δ(a − a_i),  a_1 of the offline policy, a_2 of the new one,  w ∝ exp(Q(s, a_i) / α)  (eqs. 3, 4)

Pretraining is IQL's, and so are the values' losses; online, the new policy regresses on the actions that the choice
takes, with IQL's weights for them. Of the offline policy the mean action is taken, as in the authors' code. In an
evaluation it is the better mean action, where the authors' code makes a random choice one time in ten.
"""

from __future__ import annotations

import torch

from doof_ext.baselines.agent import frozen_copy
from doof_ext.baselines.iql import IQL
from doof_ext.baselines.networks import GaussianPolicy
from doof_ext.config import BaselineConfig
from doof_ext.data.dataset import Dataset
from doof_ext.tasks import TaskSpec


class PEX(IQL):
    """Policy expansion over IQL."""

    expanded: torch.Tensor  # whether there are two policies

    def __init__(self, config: BaselineConfig, spec: TaskSpec, dataset: Dataset) -> None:
        super().__init__(config, spec, dataset)
        assert config.selection_temperature is not None
        self.online_ratio, self.selection_temperature = config.online_ratio, config.selection_temperature
        self.offline_policy = GaussianPolicy(self.obs_dim, self.action_dim, config.hidden_dims).requires_grad_(False)
        self.register_buffer("expanded", torch.zeros((), dtype=torch.bool))

    def begin_online(self, steps: int) -> None:
        super().begin_online(steps)
        frozen_copy(self.policy, self.offline_policy)
        fresh = GaussianPolicy(self.obs_dim, self.action_dim, self.config.hidden_dims)
        self.policy.load_state_dict(fresh.state_dict())
        self._make_optimizer()
        self.expanded.fill_(True)

    def _policy_loss(self, obs: torch.Tensor, actions: torch.Tensor, advantage: torch.Tensor) -> torch.Tensor:
        if self.expanded:
            with torch.no_grad():
                actions = self.act(obs, deterministic=False)
                advantage = self.targets(obs, actions).amin(0) - self.value(obs)
        return super()._policy_loss(obs, actions, advantage)

    def act(self, obs: torch.Tensor, deterministic: bool) -> torch.Tensor:
        own = self.policy.act(obs, deterministic)
        if not self.expanded:
            return own
        proposals = torch.stack([self.offline_policy.act(obs, deterministic=True), own])  # [2, B, A]
        values = torch.stack([self.critics(obs, actions).amin(0) for actions in proposals])  # [2, B, 1]
        if deterministic:
            takes_own = values[1] > values[0]
        else:
            odds = ((values[1] - values[0]) * self.selection_temperature).sigmoid()
            takes_own = torch.rand_like(odds) < odds
        return torch.where(takes_own, proposals[1], proposals[0])
