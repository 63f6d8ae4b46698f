"""DOOF's policy: the kit's MOPO with rollouts on tensors and a reward of r ± λ·u."""

import torch

from doof_ext import kit
from doof_ext.dynamics import BLOCK
from doof_ext.replay import FIELDS
from doof_ext.sac import FastSAC


def shaped_reward(reward, uncertainty, uncertainty_coef):
    """r + c·u: pessimism (eq. 2) for c = −λ_off, exploration (eq. 9) for c = +λ_on. All tensors [B, 1]."""
    return reward + uncertainty_coef * uncertainty


class DOOFPolicy(FastSAC, kit.MOPOPolicy):
    """MOPO's policy whose rollouts reward or penalise the dynamics' uncertainty.

    ``uncertainty_coef`` is the signed weight of u in a rollout's rewards: −λ_off or +λ_on. Without one it is minus
    the dynamics' penalty coefficient, as in the kit. ``action_low`` and ``action_high`` [A] are the action space's
    bounds; -1 and 1, the kit's, where they are not given. Log densities are those of the action before scaling.
    """

    def __init__(self, dynamics, *args, uncertainty_coef=None, action_low=None, action_high=None, **kwargs):
        super().__init__(dynamics, *args, **kwargs)
        low, high = (
            None if bound is None else torch.tensor(bound, dtype=torch.float32, device=dynamics.device)
            for bound in (action_low, action_high)
        )
        self._bounds = None if low is None or bool((low == -1).all() and (high == 1).all()) else (low, high)
        self.uncertainty_coef = -dynamics._penalty_coef if uncertainty_coef is None else uncertainty_coef

    def _scale(self, squashed):
        """Actions in [-1, 1] as the environment takes them."""
        if self._bounds is None:
            return squashed
        low, high = self._bounds
        return torch.lerp(low, high, (squashed + 1) / 2)

    def actforward(self, obs, deterministic=False):
        """obs [B, O] → actions [B, A] within the action space, their log density [B, 1] before scaling."""
        squashed, log_prob = super().actforward(obs, deterministic)
        return self._scale(squashed), log_prob

    @torch.no_grad()
    def rollout(self, init_obss, rollout_length):
        """Rolls the policy in the model from init_obss [N, O], array or tensor; terminated rows leave.

        Returns: dict of tensors obss, next_obss, actions, rewards, terminals [M, ·] (rewards with ± λ·u), in blocks
        of start states; dict of num_transitions, reward_mean, raw_reward_mean, uncertainty_mean.
        """
        starts = torch.as_tensor(init_obss, dtype=torch.float32, device=self.dynamics.device)
        names = ("obss", "next_obss", "actions", "rewards", "terminals", "raw_rewards", "uncertainties")
        columns = {name: [] for name in names}
        for obss in starts.split(BLOCK):
            for _ in range(rollout_length):
                actions = self._scale(self.actor(obss).rsample()[0])
                step = self.dynamics.sample_step(obss, actions)
                rewards = shaped_reward(step.reward, step.uncertainty, self.uncertainty_coef)
                row = (obss, step.next_obs, actions, rewards, step.terminal.float(), step.reward, step.uncertainty)
                for name, value in zip(names, row, strict=True):
                    columns[name].append(value)
                obss = step.next_obs[~step.terminal.flatten()]
                if len(obss) == 0:
                    break
        transitions = {name: torch.cat(parts) for name, parts in columns.items()}
        info = {
            "num_transitions": len(transitions["rewards"]),
            "raw_reward_mean": transitions.pop("raw_rewards").mean().item(),
            "uncertainty_mean": transitions.pop("uncertainties").mean().item(),
            "reward_mean": transitions["rewards"].mean().item(),
        }
        return transitions, info

    def learn(self, batch):
        """SAC's step on a batch, or on the rows of batch["real"] and batch["fake"] together; scalar tensors."""
        if "real" in batch:
            batch = {name: torch.cat([batch["real"][name], batch["fake"][name]]) for name in FIELDS}
        return self.sac_step(batch)
