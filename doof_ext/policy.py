"""DOOF's policies: the kit's MOPO and MOBILE with rollouts on tensors and λ·u with either sign."""

import torch

from doof_ext import kit
from doof_ext.dynamics import BLOCK
from doof_ext.replay import FIELDS
from doof_ext.sac import FastActorCritic, FastSAC
from doof_ext.uncertainty.mobile import ModelBellmanInconsistency


def shaped_reward(reward, uncertainty, uncertainty_coef):
    """r + c·u: pessimism (eq. 2) for c = −λ_off, exploration (eq. 9) for c = +λ_on. All tensors [B, 1]."""
    return reward + uncertainty_coef * uncertainty


class ModelBasedPolicy:
    """Mixed into a kit policy: actions in the environment's units, rollouts on tensors, real and fake rows.

    ``uncertainty_coef`` is the signed weight of u: −λ_off or +λ_on.
    """

    def __init__(self, dynamics, *args, uncertainty_coef, action_low=None, action_high=None, **kwargs):
        """``action_low`` and ``action_high`` [A] bound the action space; -1 and 1, the kit's, where not given."""
        super().__init__(dynamics, *args, **kwargs)
        self.uncertainty_coef = uncertainty_coef
        low, high = (
            None if bound is None else torch.tensor(bound, dtype=torch.float32, device=dynamics.device)
            for bound in (action_low, action_high)
        )
        self._bounds = None if low is None or bool((low == -1).all() and (high == 1).all()) else (low, high)
        self._scale_slope = 1.0 if self._bounds is None else (high - low) / 2

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

        Returns: dict of tensors obss, next_obss, actions, rewards, terminals [M, ·], in blocks of start states; dict
        of num_transitions, reward_mean, raw_reward_mean and, where :meth:`rollout_reward` shapes rewards,
        uncertainty_mean.
        """
        starts = torch.as_tensor(init_obss, dtype=torch.float32, device=self.dynamics.device)
        names = ("obss", "next_obss", "actions", "rewards", "terminals", "raw_rewards", "uncertainties")
        columns = {name: [] for name in names}
        for obss in starts.split(BLOCK):
            for _ in range(rollout_length):
                actions, _ = self._sample_actions(obss)
                step = self.dynamics.sample_step(obss, actions)
                rewards, u = self.rollout_reward(obss, actions, step)
                row = (obss, step.next_obs, actions, rewards, step.terminal.float(), step.reward, u)
                for name, value in zip(names, row, strict=True):
                    if value is not None:
                        columns[name].append(value)
                obss = step.next_obs[~step.terminal.flatten()]
                if len(obss) == 0:
                    break
        transitions = {name: torch.cat(parts) for name, parts in columns.items() if parts}
        info = {
            "num_transitions": len(transitions["rewards"]),
            "raw_reward_mean": transitions.pop("raw_rewards").mean().item(),
            "reward_mean": transitions["rewards"].mean().item(),
        }
        if "uncertainties" in transitions:
            info["uncertainty_mean"] = transitions.pop("uncertainties").mean().item()
        return transitions, info

    @staticmethod
    def _joined(batch):
        """The rows of batch["real"], then those of batch["fake"]: batch["all"], where the trainer has it."""
        if "all" in batch:
            return batch["all"]
        return {name: torch.cat([batch["real"][name], batch["fake"][name]]) for name in FIELDS}


class DOOFPolicy(ModelBasedPolicy, FastSAC, kit.MOPOPolicy):
    """MOPO's policy: rollouts and D_u are rewarded with r ± λ·u.

    Without an ``uncertainty_coef`` it is minus the dynamics' penalty coefficient, as in the kit.
    """

    def __init__(self, dynamics, *args, uncertainty_coef=None, **kwargs):
        coef = -dynamics._penalty_coef if uncertainty_coef is None else uncertainty_coef
        super().__init__(dynamics, *args, uncertainty_coef=coef, **kwargs)

    @property
    def all_critics(self):
        """The critics that learn."""
        return [self.critic1, self.critic2]

    def rollout_reward(self, obss, actions, step):
        """The reward [B, 1] that a model transition is stored with, r + c·u, and u [B, 1]."""
        u = self.dynamics.estimator(obss, actions, self.dynamics, self, step.prediction)
        return shaped_reward(step.reward, u, self.uncertainty_coef), u

    def shape_rewards(self, batch):
        """Recorded transitions as D_u holds them: rewards r + c·u (eq. 9)."""
        uncertainty = self.dynamics.uncertainty(batch["observations"], batch["actions"], self)
        return batch | {"rewards": shaped_reward(batch["rewards"], uncertainty, self.uncertainty_coef)}

    def learn(self, batch):
        """SAC's step on a batch, or on the rows of batch["real"] and batch["fake"] together; scalar tensors."""
        return self.sac_step(self._joined(batch) if "real" in batch else batch)


class DOOFMobilePolicy(ModelBasedPolicy, FastActorCritic, kit.MOBILEPolicy):
    """MOBILE (Sun et al. 2023): ± λ·u enters the Q target of model rows, not the reward.

    u is Model-Bellman inconsistency, unless another ``estimator`` is given. Without an ``uncertainty_coef`` it is minus
    ``penalty_coef``, as in the kit.
    """

    def __init__(
        self, dynamics, actor, critics, actor_optim, critics_optim, tau=0.005, gamma=0.99, alpha=0.2,
        penalty_coef=1.0, num_samples=10, deterministic_backup=False, max_q_backup=False, nonnegative_target=True,
        uncertainty_coef=None, estimator=None, **kwargs,
    ):  # fmt: skip
        """The kit's arguments, and: ``nonnegative_target`` clamps the Q target at 0 from below, as the kit does,
        which is wrong where returns can be negative."""
        coef = -penalty_coef if uncertainty_coef is None else uncertainty_coef
        super().__init__(
            dynamics, actor, critics, actor_optim, critics_optim, tau, gamma, alpha, penalty_coef, num_samples,
            deterministic_backup, max_q_backup, uncertainty_coef=coef, **kwargs,
        )  # fmt: skip
        self._inconsistency = ModelBellmanInconsistency(num_samples)
        self._estimator = estimator or self._inconsistency
        self.nonnegative_target = nonnegative_target
        self.deterministic_backup, self.max_q_backup = deterministic_backup, max_q_backup
        self._stack(self.critics, self.critics_old, critics_optim.param_groups[0]["lr"])

    @property
    def all_critics(self):
        """The critics that learn."""
        return list(self.critics)

    def rollout_reward(self, obss, actions, step):
        """The model's reward as it is, and no u: the Q target has the ± λ·u."""
        return step.reward, None

    def shape_rewards(self, batch):
        """Recorded transitions as D_u holds them: as they are, the Q target has the ± λ·u."""
        return batch

    def compute_lcb(self, obss, actions):
        """Model-Bellman inconsistency [B, 1], under the kit's name."""
        return self._inconsistency(obss, actions, self.dynamics, self)

    @torch.no_grad()
    def learn(self, batch):
        """One step of critics, actor, temperature and targets; only the rows of batch["fake"] get ± λ·u."""
        real_rows = len(batch["real"]["rewards"])
        batch = self._joined(batch)
        obss, actions = batch["observations"], batch["actions"]
        uncertainty = self._estimator(obss, actions, self.dynamics, self)
        of_fake_rows = torch.arange(len(obss), device=obss.device)[:, None] >= real_rows
        rewards = shaped_reward(batch["rewards"], uncertainty * of_fake_rows, self.uncertainty_coef)
        target = rewards + self._gamma * (1 - batch["terminals"]) * self._next_q(batch["next_observations"])
        if self.nonnegative_target:
            target.clamp_(min=0.0)
        critic_loss = self._critics_step(obss, actions, target, weight=1 / (len(obss) * self._critics.count)).mean()
        losses = self._actor_step(obss)
        self._targets_step()
        return losses | {"loss/critic": critic_loss, "uncertainty": uncertainty[real_rows:].mean()}

    def _next_q(self, next_obss):
        proposals = 10 if self.max_q_backup else 1
        repeated = next_obss.repeat_interleave(proposals, dim=0)
        next_actions, log_probs = self._sample_actions(repeated)
        q = self._critics_old(repeated, next_actions).view(-1, len(next_obss), proposals).amax(2).amin(0)[:, None]
        return q if self.deterministic_backup or self.max_q_backup else q - self._alpha * log_probs
