"""MOBILE (Sun et al. 2023): the penalty is the ensemble's disagreement about the Bellman target."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from doof_ext.kit.embedded.mopo import rollout
from doof_ext.kit.embedded.sac import Alpha, Losses, MaximumEntropyPolicy, concatenate, descend, polyak_update

if TYPE_CHECKING:
    from doof_ext.kit.embedded.dynamics import EnsembleDynamics


class MOBILEPolicy(MaximumEntropyPolicy):
    """SAC with any number of critics whose target is lowered, on synthetic rows, by Model-Bellman inconsistency.

    Args:
        dynamics: The ensemble to roll out in.
        actor: The stochastic actor.
        critics: Any number of critics.
        actor_optim: The actor's optimiser.
        critics_optim: The optimiser of all critics.
        tau: Step of the target critics towards the critics.
        gamma: Discount.
        alpha: See :data:`doof_ext.kit.embedded.sac.Alpha`.
        penalty_coef: Weight of the inconsistency.
        num_samples: Next states per elite.
        deterministic_backup: Leave the entropy out of the target.
        max_q_backup: The target takes the best of ten actions.
        nonnegative_target: Clamp the target at 0 as the kit does: wrong where returns can be negative.
    """

    dynamics: Any  # an EnsembleDynamics; a subclass may need one of its own

    def __init__(
        self,
        dynamics: EnsembleDynamics,
        actor: nn.Module,
        critics: nn.ModuleList,
        actor_optim: torch.optim.Optimizer,
        critics_optim: torch.optim.Optimizer,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Alpha = 0.2,
        penalty_coef: float = 1.0,
        num_samples: int = 10,
        deterministic_backup: bool = False,
        max_q_backup: bool = False,
        nonnegative_target: bool = True,
    ) -> None:
        super().__init__(actor, actor_optim, tau, gamma, alpha)
        self.dynamics = dynamics
        self.critics, self.critics_old, self.critics_optim = critics, copy.deepcopy(critics), critics_optim
        self._penalty_coef, self._num_samples = penalty_coef, num_samples
        self._deterministic_backup, self._max_q_backup = deterministic_backup, max_q_backup
        self._nonnegative_target = nonnegative_target

    def rollout(self, init_obss: np.ndarray, rollout_length: int) -> tuple[dict[str, Any], dict[str, float]]:
        """See :func:`doof_ext.kit.embedded.mopo.rollout`."""
        return rollout(self, self.dynamics, init_obss, rollout_length)

    @torch.no_grad()
    def compute_lcb(self, obss: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Model-Bellman inconsistency [B, 1]: std over elites of the mean over samples of min target-Q.

        The std is Bessel-corrected; Q is taken at sampled next states with actions sampled from the policy.
        """
        samples = self.dynamics.sample_next_obss(obss, actions, self._num_samples)  # [S, elites, B, O]
        flat = torch.as_tensor(samples).reshape(-1, obss.shape[-1])
        next_actions, _ = self.actforward(flat)
        q = self._min_q(self.critics_old, flat, next_actions)
        return q.view(*samples.shape[:-1], 1).mean(0).std(0)

    def learn(self, batch: Mapping[str, Any]) -> Losses:
        """One step on batch["real"] and batch["fake"]; only the fake rows are penalised."""
        mixed = concatenate(batch["real"], batch["fake"])
        obss, actions = mixed["observations"], mixed["actions"]
        target = self._bellman_target(mixed, real_rows=len(batch["real"]["rewards"]))
        predictions = torch.stack([critic(obss, actions) for critic in self.critics])  # [critics, B, 1]
        critic_loss = (predictions - target).square().mean()
        losses: Losses = {"loss/critic": descend(critic_loss, self.critics_optim)}

        losses |= self._learn_actor(obss, lambda obss, actions: self._min_q(self.critics, obss, actions))
        polyak_update(self.critics_old, self.critics, self._tau)
        return losses

    @staticmethod
    def _min_q(critics: Iterable[nn.Module], obss: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return torch.stack([critic(obss, actions) for critic in critics]).min(0).values

    @torch.no_grad()
    def _bellman_target(self, batch: Mapping[str, torch.Tensor], real_rows: int) -> torch.Tensor:
        penalty = self._penalty_coef * self.compute_lcb(batch["observations"], batch["actions"])
        penalty[:real_rows] = 0.0
        next_q = self._next_q(batch["next_observations"])
        target = batch["rewards"] - penalty + self._gamma * (1 - batch["terminals"]) * next_q
        return target.clamp(min=0.0) if self._nonnegative_target else target

    def _next_q(self, next_obss: torch.Tensor) -> torch.Tensor:
        if not self._max_q_backup:
            next_actions, log_probs = self.actforward(next_obss)
            q = self._min_q(self.critics_old, next_obss, next_actions)
            return q if self._deterministic_backup else q - self._alpha * log_probs
        proposals = 10
        repeated = next_obss.repeat_interleave(proposals, dim=0)
        next_actions, _ = self.actforward(repeated)
        q = torch.stack([critic(repeated, next_actions) for critic in self.critics_old])
        return q.view(len(self.critics_old), len(next_obss), proposals, 1).max(2).values.min(0).values
