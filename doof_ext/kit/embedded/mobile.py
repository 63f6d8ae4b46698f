"""MOBILE (Sun et al. 2023): the penalty is the ensemble's disagreement about the Bellman target."""

import copy

import torch

from doof_ext.kit.embedded.mopo import rollout
from doof_ext.kit.embedded.sac import MaximumEntropyPolicy, concatenate, descend, polyak_update


class MOBILEPolicy(MaximumEntropyPolicy):
    """SAC with any number of critics whose target is lowered, on synthetic rows, by Model-Bellman inconsistency."""

    def __init__(
        self,
        dynamics,
        actor,
        critics,
        actor_optim,
        critics_optim,
        tau=0.005,
        gamma=0.99,
        alpha=0.2,
        penalty_coef=1.0,
        num_samples=10,
        deterministic_backup=False,
        max_q_backup=False,
        nonnegative_target=True,
    ):
        """``nonnegative_target`` clamps the target at 0 as the kit does: wrong where returns can be negative."""
        super().__init__(actor, actor_optim, tau, gamma, alpha)
        self.dynamics = dynamics
        self.critics, self.critics_old, self.critics_optim = critics, copy.deepcopy(critics), critics_optim
        self._penalty_coef, self._num_samples = penalty_coef, num_samples
        self._deterministic_backup, self._max_q_backup = deterministic_backup, max_q_backup
        self._nonnegative_target = nonnegative_target

    def rollout(self, init_obss, rollout_length):
        """See :func:`doof_ext.kit.embedded.mopo.rollout`."""
        return rollout(self, self.dynamics, init_obss, rollout_length)

    @torch.no_grad()
    def compute_lcb(self, obss, actions):
        """Model-Bellman inconsistency [B, 1]: std over elites of the mean over samples of min target-Q.

        The std is Bessel-corrected; Q is taken at sampled next states with actions sampled from the policy.
        """
        samples = self.dynamics.sample_next_obss(obss, actions, self._num_samples)  # [S, elites, B, O]
        flat = torch.as_tensor(samples).reshape(-1, obss.shape[-1])
        next_actions, _ = self.actforward(flat)
        q = self._min_q(self.critics_old, flat, next_actions)
        return q.view(*samples.shape[:-1], 1).mean(0).std(0)

    def learn(self, batch):
        """One step on batch["real"] and batch["fake"]; only the fake rows are penalised."""
        mixed = concatenate(batch["real"], batch["fake"])
        obss, actions = mixed["observations"], mixed["actions"]
        target = self._bellman_target(mixed, real_rows=len(batch["real"]["rewards"]))
        predictions = torch.stack([critic(obss, actions) for critic in self.critics])  # [critics, B, 1]
        critic_loss = (predictions - target).square().mean()
        losses = {"loss/critic": descend(critic_loss, self.critics_optim)}

        losses |= self._learn_actor(obss, lambda obss, actions: self._min_q(self.critics, obss, actions))
        polyak_update(self.critics_old, self.critics, self._tau)
        return losses

    @staticmethod
    def _min_q(critics, obss, actions):
        return torch.stack([critic(obss, actions) for critic in critics]).min(0).values

    @torch.no_grad()
    def _bellman_target(self, batch, real_rows):
        penalty = self._penalty_coef * self.compute_lcb(batch["observations"], batch["actions"])
        penalty[:real_rows] = 0.0
        next_q = self._next_q(batch["next_observations"])
        target = batch["rewards"] - penalty + self._gamma * (1 - batch["terminals"]) * next_q
        return target.clamp(min=0.0) if self._nonnegative_target else target

    def _next_q(self, next_obss):
        if not self._max_q_backup:
            next_actions, log_probs = self.actforward(next_obss)
            q = self._min_q(self.critics_old, next_obss, next_actions)
            return q if self._deterministic_backup else q - self._alpha * log_probs
        proposals = 10
        repeated = next_obss.repeat_interleave(proposals, dim=0)
        next_actions, _ = self.actforward(repeated)
        q = torch.stack([critic(repeated, next_actions) for critic in self.critics_old])
        return q.view(len(self.critics_old), len(next_obss), proposals, 1).max(2).values.min(0).values
