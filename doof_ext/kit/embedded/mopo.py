"""MOPO (Yu et al. 2020): SAC on real data and on rollouts of a learned model whose rewards are penalised."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from doof_ext.kit.embedded.sac import Alpha, Losses, SACPolicy, concatenate

if TYPE_CHECKING:
    from doof_ext.kit.embedded.dynamics import EnsembleDynamics


def rollout(
    policy: Any, dynamics: EnsembleDynamics, init_obss: np.ndarray, rollout_length: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """Rolls ``policy`` out in ``dynamics``; a terminated row leaves the rollout.

    Args:
        policy: Has ``select_action``.
        dynamics: The learned model.
        init_obss: Start states [N, O].
        rollout_length: Steps of each.

    Returns:
        Arrays obss, next_obss, actions [M, ·], rewards, terminals [M, 1]; and num_transitions, reward_mean.
    """
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    obss = init_obss
    for _ in range(rollout_length):
        actions = policy.select_action(obss)
        next_obss, rewards, terminals, _ = dynamics.step(obss, actions)
        step = dict(obss=obss, next_obss=next_obss, actions=actions, rewards=rewards, terminals=terminals)
        for name, column in step.items():
            columns[name].append(column)
        obss = next_obss[~terminals.ravel()]
        if len(obss) == 0:
            break
    transitions = {name: np.concatenate(column) for name, column in columns.items()}
    rewards = transitions["rewards"]
    return transitions, {"num_transitions": len(rewards), "reward_mean": float(rewards.mean())}


class MOPOPolicy(SACPolicy):
    """SAC that also rolls itself out in ``dynamics``, which penalises the rewards."""

    dynamics: Any  # an EnsembleDynamics; a subclass may need one of its own

    def __init__(
        self,
        dynamics: EnsembleDynamics,
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
        super().__init__(
            actor, critic1, critic2, actor_optim, critic1_optim, critic2_optim, tau=tau, gamma=gamma, alpha=alpha
        )
        self.dynamics = dynamics

    def rollout(self, init_obss: np.ndarray, rollout_length: int) -> tuple[dict[str, Any], dict[str, float]]:
        """See :func:`rollout`."""
        return rollout(self, self.dynamics, init_obss, rollout_length)

    def learn(self, batch: Mapping[str, Any]) -> Losses:
        """SAC's step on the rows of batch["real"] and batch["fake"] together."""
        return super().learn(concatenate(batch["real"], batch["fake"]))
