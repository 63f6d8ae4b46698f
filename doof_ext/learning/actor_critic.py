"""A fast actor-critic step for the kit's policies: the same losses and updates, forward and backward written out.

Nothing is recorded for autograd; a network's parameters are one tensor, and so is each of its optimiser's moments.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from doof_ext.errors import DivergenceError
from doof_ext.learning.network_stack import NetworkStack

Batch = Mapping[str, torch.Tensor]
"""B transitions by the kit's names, tensors [B, ·]."""


def _optimize_flat(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> None:
    """Has a fresh Adam work on one tensor; it stays the object that learning-rate schedules know."""
    (group,) = optimizer.param_groups
    group.update(params=[parameter], fused=True, foreach=False)


class FastActorCritic:
    """Mixed into a kit policy: what the fast steps of SAC and MOBILE share.

    Same equations (Haarnoja et al. 2018) and same draws from torch's generator as the kit's steps. Losses stay tensors
    on the device; the caller reads them once an epoch.
    """

    if TYPE_CHECKING:  # what the kit's policies have
        actor: nn.Module
        actor_optim: torch.optim.Optimizer
        alpha_optim: torch.optim.Optimizer
        state_dict: Any
        load_state_dict: Any
        _is_auto_alpha: bool
        _log_alpha: Any  # a tensor
        _alpha: Any
        _target_entropy: float
        _tau: float
        _gamma: float
        _scale_slope: Any

        def _scale(self, squashed: torch.Tensor) -> torch.Tensor: ...

    def _stack(self, critics: Sequence[nn.Module], targets: Sequence[nn.Module], critic_lr: float) -> None:
        self._actor = NetworkStack.of_actor(self.actor)
        self._critics, self._critics_old = NetworkStack.of_critics(critics), NetworkStack.of_critics(targets)
        self._critics_optim = torch.optim.Adam([self._critics.flat], lr=critic_lr, fused=True)
        _optimize_flat(self.actor_optim, self._actor.flat)
        if self._is_auto_alpha:
            _optimize_flat(self.alpha_optim, self._log_alpha)
            self._log_alpha.grad = torch.zeros_like(self._log_alpha)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        clone = memo[id(self)] = type(self).__new__(type(self))
        clone.__dict__.update(copy.deepcopy(self.__dict__, memo))
        for stack in (clone._actor, clone._critics, clone._critics_old):
            stack.bind()  # parameters are copied one by one, without the tensor they are views of
        return clone

    def training_state(self) -> dict[str, Any]:
        """All that learning resumes from: networks with their targets, every optimiser, the temperature."""
        return {
            "networks": self.state_dict(),
            "log_alpha": self._log_alpha.detach() if self._is_auto_alpha else None,
            **{name: optim.state_dict() for name, optim in self._optims().items()},
        }

    @torch.no_grad()
    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`training_state` returned."""
        self.load_state_dict(state["networks"])
        for name, optim in self._optims().items():
            optim.load_state_dict(state[name])
        if self._is_auto_alpha:
            self._log_alpha.copy_(state["log_alpha"])
            self._alpha = self._log_alpha.detach().exp().clamp(0.0, 1.0)

    def _optims(self) -> dict[str, torch.optim.Optimizer]:
        optims = {"actor_optim": self.actor_optim, "critics_optim": self._critics_optim}
        return optims | ({"alpha_optim": self.alpha_optim} if self._is_auto_alpha else {})

    def check_weights(self, where: str) -> None:
        """Raises DivergenceError, naming the network and ``where`` it was, for a weight that is not finite."""
        stacks = {"actor": self._actor, "critic": self._critics, "target critic": self._critics_old}
        for name, stack in stacks.items():
            if not stack.flat.isfinite().all():
                raise DivergenceError(f"a weight of the {name} is not finite in {where}")

    def target_q(self, obss: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """The least target critic's value [B, 1] of obss [B, O], actions [B, A]."""
        return self._critics_old(obss, actions).amin(0)

    def _sample(self, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
        """From the actor's output [1, B, 2·A]: actions [B, A] in (-1, 1), log density [B, 1], what made them."""
        mean, log_std = output[0].chunk(2, dim=-1)
        head: Any = self.actor.dist_net
        bounded = log_std.clamp(head._sigma_min, head._sigma_max)
        noise = torch.randn_like(mean)
        spread = bounded.exp().mul_(noise)
        squashed = (mean + spread).tanh_()
        slope = 1 - squashed.square()
        density = (slope + 1e-6).log_().add_(bounded).add_(noise.square_(), alpha=0.5)
        log_probs = density.add_(0.5 * math.log(2 * math.pi)).sum(-1, keepdim=True).neg_()
        return squashed, log_probs, (bounded == log_std, spread, slope)

    def _critics_step(
        self, obss: torch.Tensor, actions: torch.Tensor, target: torch.Tensor, weight: float
    ) -> torch.Tensor:
        """One step of the critics towards target [B, 1]: minus ``weight`` · Σ (Q − target)²; returns each one's mean
        squared error [C]."""
        values = self._critics.forward(torch.cat([obss, actions], dim=1))
        error = values[-1] - target
        losses = error.square().mean(dim=(1, 2))
        self._critics.backward(values, error.mul_(2 * weight))
        self._critics_optim.step()
        return losses

    def _actor_step(self, obss: torch.Tensor, hidden: list[torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """One step of the actor on obss [B, O], then of the temperature; returns a dict of scalar tensors.

        ``hidden`` is what the actor's layers give for obss, where that is known. Written out: the gradient of
        α·log π(a|s) − min Q(s, a), with a = tanh(μ + σ·ε), in the actor's output.
        """
        rows = len(obss)
        hidden = self._actor.forward(obss) if hidden is None else hidden
        squashed, log_probs, (free, spread, slope) = self._sample(hidden[-1])
        values = self._critics.forward(torch.cat([obss, self._scale(squashed)], dim=1))
        q = values[-1].amin(0)
        chosen = (values[-1] == q).float()
        chosen /= chosen.sum(0)
        of_action = self._critics.input_gradient(values, chosen.div_(-rows), slice(obss.shape[1], None))
        of_raw = of_action * self._scale_slope * slope
        of_raw += 2 * self._alpha / rows * squashed * slope / (slope + 1e-6)
        of_log_std = torch.where(free, of_raw * spread - self._alpha / rows, 0.0)
        self._actor.backward(hidden, torch.cat([of_raw, of_log_std], dim=1)[None])
        self.actor_optim.step()
        losses = {"loss/actor": (self._alpha * log_probs - q).mean()}
        if self._is_auto_alpha:
            excess = log_probs.mean() + self._target_entropy
            losses["loss/alpha"] = -(self._log_alpha.detach() * excess).squeeze()
            self._log_alpha.grad.copy_(-excess)
            self.alpha_optim.step()
            self._alpha = self._log_alpha.detach().exp().clamp(0.0, 1.0)
            losses["alpha"] = self._alpha
        return losses

    def _targets_step(self) -> None:
        self._critics_old.flat.lerp_(self._critics.flat, self._tau)

    def _sample_actions(self, obss: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        squashed, log_probs, _ = self._sample(self._actor.forward(obss)[-1])
        return self._scale(squashed), log_probs


class FastSAC(FastActorCritic):
    """Mixed into a kit policy with ``critic1`` and ``critic2``: a fast SAC step."""

    if TYPE_CHECKING:
        critic1: Any
        critic2: Any
        critic1_old: Any
        critic2_old: Any
        critic1_optim: torch.optim.Optimizer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        lr = self.critic1_optim.param_groups[0]["lr"]
        self._stack([self.critic1, self.critic2], [self.critic1_old, self.critic2_old], lr)

    @torch.no_grad()
    def sac_step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One step of critics, actor, temperature and targets on B transitions; returns a dict of scalar tensors."""
        obss, actions, next_obss = batch["observations"], batch["actions"], batch["next_observations"]
        rows = len(obss)
        hidden = self._actor.forward(torch.cat([next_obss, obss]))  # one product for both: the actor learns last
        squashed, next_log_probs, _ = self._sample(hidden[-1][:, :rows])
        next_actions = self._scale(squashed)
        next_q = self.target_q(next_obss, next_actions) - self._alpha * next_log_probs
        target = batch["rewards"] + self._gamma * (1 - batch["terminals"]) * next_q
        critic_losses = self._critics_step(obss, actions, target, weight=1 / rows)
        losses = self._actor_step(obss, [value[:, rows:] for value in hidden])
        self._targets_step()
        return losses | {"loss/critic1": critic_losses[0], "loss/critic2": critic_losses[1]}


class MeanLosses:
    """Means of scalar tensors over an epoch, summed on the device and read once."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._count = 0

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, and of how many steps."""
        return {"sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""
        self._sums, self._count = dict(state["sums"]), state["count"]

    def add(self, losses: Mapping[str, torch.Tensor]) -> None:
        """Adds one step's dict of scalars."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def read(self, where: str) -> dict[str, float]:
        """The means; starts anew.

        Args:
            where: The epoch and stage, for the error's message.

        Raises:
            DivergenceError: One is not finite; the message names the first.
        """
        means = {name: float(total) / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        for name, value in means.items():
            if not abs(value) < float("inf"):
                raise DivergenceError(f"{name} is {value} in {where}")
        return means
