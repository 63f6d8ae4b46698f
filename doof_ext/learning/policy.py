"""DOOF's policies: the kit's MOPO and MOBILE with rollouts on tensors and λ·u with either sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from doof_ext import kit
from doof_ext.learning.actor_critic import Batch, FastActorCritic, FastSAC
from doof_ext.learning.dynamics import BLOCK, DOOFDynamics, ModelStep
from doof_ext.learning.replay_buffer import FIELDS
from doof_ext.uncertainty.base import UncertaintyEstimator
from doof_ext.uncertainty.bellman import ModelBellmanInconsistency


def uncertainty_reward(reward: torch.Tensor, uncertainty: torch.Tensor, uncertainty_coef: float) -> torch.Tensor:
    """r + c·u: pessimism (eq. 2) for c = −λ_off, exploration (eq. 9) for c = +λ_on. All tensors [B, 1]."""
    return reward + uncertainty_coef * uncertainty


def scale_actions(squashed: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Actions in [-1, 1], [B, A], as actions between ``low`` [A] and ``high`` [A]."""
    return torch.lerp(low, high, (squashed + 1) / 2)


def unscale_actions(actions: Any, low: Any, high: Any) -> Any:
    """Undoes :func:`scale_actions`, on tensors or arrays: [..., A] within [low, high] to [-1, 1].

    Where an action's bounds are the same there is nothing to choose, and it is 0.
    """
    half = (high - low) / 2
    return (actions - (high + low) / 2) / (half + (half == 0))


class ModelBasedPolicy:
    """What the stages train: a policy that learns in a model, from real rows and its own rollouts on tensors.

    Attributes:
        dynamics: The model.
        uncertainty_coef: The signed weight of u, −λ_off or +λ_on.
    """

    dynamics: DOOFDynamics
    uncertainty_coef: float

    if TYPE_CHECKING:  # what the kit's policies and the fast steps have
        select_action: Any
        state_dict: Any
        load_state_dict: Any
        _sample_actions: Any
        learn: Any
        target_q: Any
        training_state: Any
        load_training_state: Any
        check_weights: Any

        def rollout_reward(
            self, obss: torch.Tensor, actions: torch.Tensor, step: ModelStep
        ) -> tuple[torch.Tensor, torch.Tensor | None]: ...

        def with_uncertainty(self, batch: Batch, uncertainty_coef: float) -> Batch: ...

    def lr_schedule(self, epochs: int) -> Any:
        """The schedule of learning rates of a training of so many epochs, stepped after each; None for none."""
        return None

    @torch.no_grad()
    def rollout(self, init_obss: Any, rollout_length: int) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Rolls the policy in the model; terminated rows leave.

        Args:
            init_obss: Start states [N, O], array or tensor.
            rollout_length: Steps of each.

        Returns:
            Tensors obss, next_obss, actions, rewards, terminals [M, ·], in blocks of start states; and num_transitions,
            reward_mean, raw_reward_mean and, where :meth:`rollout_reward` adds u, uncertainty_mean.
        """
        starts = torch.as_tensor(init_obss, dtype=torch.float32, device=self.dynamics.device)
        names = ("obss", "next_obss", "actions", "rewards", "terminals", "raw_rewards", "uncertainties")
        columns: dict[str, list[torch.Tensor]] = {name: [] for name in names}
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
    def _joined(batch: Mapping[str, Batch]) -> Batch:
        """The rows of batch["real"], then those of batch["fake"]: batch["all"], where the trainer has it."""
        if "all" in batch:
            return batch["all"]
        return {name: torch.cat([batch["real"][name], batch["fake"][name]]) for name in FIELDS}


class UncertaintyInReward(ModelBasedPolicy):
    """Mixed into a policy whose model rollouts and D_u are rewarded with r ± λ·u, as MOPO's."""

    def rollout_reward(
        self, obss: torch.Tensor, actions: torch.Tensor, step: ModelStep
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The reward [B, 1] that a model transition is stored with, r + c·u, and u [B, 1]."""
        u = self.dynamics.estimator(obss, actions, self.dynamics, self, step.prediction)
        return uncertainty_reward(step.reward, u, self.uncertainty_coef), u

    def with_uncertainty(self, batch: Batch, uncertainty_coef: float) -> Batch:
        """Recorded transitions with rewards r + c·u: D_u has c = +λ_on (eq. 9)."""
        uncertainty = self.dynamics.uncertainty(batch["observations"], batch["actions"], self)
        return {**batch, "rewards": uncertainty_reward(batch["rewards"], uncertainty, uncertainty_coef)}


class KitPolicy(ModelBasedPolicy):
    """Mixed into a kit policy: actions in the environment's units, the kit's schedule of the actor's learning rate.

    Args:
        dynamics: The model that it learns in.
        args: The kit policy's own.
        uncertainty_coef: The signed weight of u, −λ_off or +λ_on.
        action_low: The action space's lower bounds [A]; with ``action_high``, or else -1, the kit's.
        action_high: Its upper bounds [A]; likewise, or else 1.
        kwargs: The kit policy's own.

    Raises:
        ValueError: One bound without the other.
    """

    if TYPE_CHECKING:
        actor: nn.Module
        actor_optim: torch.optim.Optimizer
        _log_alpha: torch.Tensor

        @property
        def all_critics(self) -> list[nn.Module]: ...

    def __init__(
        self,
        dynamics: DOOFDynamics,
        *args: Any,
        uncertainty_coef: float,
        action_low: Sequence[float] | None = None,
        action_high: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        if (action_low is None) != (action_high is None):
            raise ValueError("action_low and action_high go together")
        super().__init__(dynamics, *args, **kwargs)  # type: ignore[call-arg]  # the kit policy's
        self.uncertainty_coef = uncertainty_coef
        self._bounds: tuple[torch.Tensor, torch.Tensor] | None = None
        self._scale_slope: float | torch.Tensor = 1.0
        if action_low is not None:
            bounds = (action_low, action_high)
            low, high = (torch.tensor(bound, dtype=torch.float32, device=dynamics.device) for bound in bounds)
            if not bool((low == -1).all() and (high == 1).all()):
                self._bounds, self._scale_slope = (low, high), (high - low) / 2

    def _scale(self, squashed: torch.Tensor) -> torch.Tensor:
        """Actions in [-1, 1] as the environment takes them."""
        return squashed if self._bounds is None else scale_actions(squashed, *self._bounds)

    def actforward(self, obs: torch.Tensor, deterministic: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """obs [B, O] → actions [B, A] within the action space, their log density [B, 1] before scaling."""
        squashed, log_prob = super().actforward(obs, deterministic)  # type: ignore[misc]  # the kit policy's
        return self._scale(squashed), log_prob

    def lr_schedule(self, epochs: int) -> torch.optim.lr_scheduler.CosineAnnealingLR:
        """The kit's of MOPO: the actor's learning rate falls to 0 on a cosine over all epochs."""
        return torch.optim.lr_scheduler.CosineAnnealingLR(self.actor_optim, epochs)


class DOOFPolicy(UncertaintyInReward, KitPolicy, FastSAC, kit.MOPOPolicy):
    """MOPO's policy: rollouts and D_u are rewarded with r ± λ·u.

    Without an ``uncertainty_coef`` it is minus the dynamics' penalty coefficient, as in the kit.
    """

    def __init__(
        self, dynamics: DOOFDynamics, *args: Any, uncertainty_coef: float | None = None, **kwargs: Any
    ) -> None:
        coef = -dynamics._penalty_coef if uncertainty_coef is None else uncertainty_coef
        super().__init__(dynamics, *args, uncertainty_coef=coef, **kwargs)

    @property
    def all_critics(self) -> list[nn.Module]:
        """The critics that learn."""
        return [self.critic1, self.critic2]

    def learn(self, batch: Any) -> dict[str, torch.Tensor]:
        """SAC's step on a batch, or on the rows of batch["real"] and batch["fake"] together; scalar tensors."""
        return self.sac_step(self._joined(batch) if "real" in batch else batch)


class DOOFMobilePolicy(KitPolicy, FastActorCritic, kit.MOBILEPolicy):
    """MOBILE (Sun et al. 2023): ± λ·u enters the Q target of model rows, not the reward.

    The kit's arguments, and:

    Args:
        nonnegative_target: Clamp the Q target at 0 from below, as the kit does: wrong where returns can be negative.
        uncertainty_coef: The signed weight of u; −``penalty_coef`` by default, as in the kit.
        estimator: u; Model-Bellman inconsistency by default.
    """

    def __init__(
        self,
        dynamics: DOOFDynamics,
        actor: nn.Module,
        critics: nn.ModuleList,
        actor_optim: torch.optim.Optimizer,
        critics_optim: torch.optim.Optimizer,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Any = 0.2,
        penalty_coef: float = 1.0,
        num_samples: int = 10,
        deterministic_backup: bool = False,
        max_q_backup: bool = False,
        nonnegative_target: bool = True,
        uncertainty_coef: float | None = None,
        estimator: UncertaintyEstimator | None = None,
        **kwargs: Any,
    ) -> None:
        coef = -penalty_coef if uncertainty_coef is None else uncertainty_coef
        super().__init__(
            dynamics,
            actor,
            critics,
            actor_optim,
            critics_optim,
            tau,
            gamma,
            alpha,
            penalty_coef,
            num_samples,
            deterministic_backup,
            max_q_backup,
            uncertainty_coef=coef,
            **kwargs,
        )
        self._inconsistency = ModelBellmanInconsistency(num_samples)
        self._estimator = estimator or self._inconsistency
        self.nonnegative_target = nonnegative_target
        self.deterministic_backup, self.max_q_backup = deterministic_backup, max_q_backup
        self._stack(list(self.critics), list(self.critics_old), critics_optim.param_groups[0]["lr"])

    @property
    def all_critics(self) -> list[nn.Module]:
        """The critics that learn."""
        return list(self.critics)

    def rollout_reward(
        self, obss: torch.Tensor, actions: torch.Tensor, step: ModelStep
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The model's reward as it is, and no u: the Q target has the ± λ·u."""
        return step.reward, None

    def with_uncertainty(self, batch: Batch, uncertainty_coef: float) -> Batch:
        """Recorded transitions as they are: the Q target has the ± λ·u."""
        return batch

    def compute_lcb(self, obss: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Model-Bellman inconsistency [B, 1], under the kit's name."""
        return self._inconsistency(obss, actions, self.dynamics, self)

    @torch.no_grad()
    def learn(self, batch: Any) -> dict[str, torch.Tensor]:
        """One step of critics, actor, temperature and targets; only the rows of batch["fake"] get ± λ·u."""
        real_rows = len(batch["real"]["rewards"])
        batch = self._joined(batch)
        obss, actions = batch["observations"], batch["actions"]
        uncertainty = self._estimator(obss, actions, self.dynamics, self)
        of_fake_rows = torch.arange(len(obss), device=obss.device)[:, None] >= real_rows
        rewards = uncertainty_reward(batch["rewards"], uncertainty * of_fake_rows, self.uncertainty_coef)
        target = rewards + self._gamma * (1 - batch["terminals"]) * self._next_q(batch["next_observations"])
        if self.nonnegative_target:
            target.clamp_(min=0.0)
        critic_loss = self._critics_step(obss, actions, target, weight=1 / (len(obss) * self._critics.count)).mean()
        losses = self._actor_step(obss)
        self._targets_step()
        return losses | {"loss/critic": critic_loss, "uncertainty": uncertainty[real_rows:].mean()}

    def _next_q(self, next_obss: torch.Tensor) -> torch.Tensor:
        proposals = 10 if self.max_q_backup else 1
        repeated = next_obss.repeat_interleave(proposals, dim=0)
        next_actions, log_probs = self._sample_actions(repeated)
        q = self._critics_old(repeated, next_actions).view(-1, len(next_obss), proposals).amax(2).amin(0)[:, None]
        return q if self.deterministic_backup or self.max_q_backup else q - self._alpha * log_probs
