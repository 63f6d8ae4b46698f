"""A fast actor-critic step for the kit's policies: the same losses and updates, forward and backward written out.

Nothing is recorded for autograd; a network's parameters are one tensor, and so is each of its optimiser's moments.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from doof_ext.errors import DivergenceError
from doof_ext.learning.adam import adam_step, optimize_tensors
from doof_ext.learning.network_stack import NetworkStack
from doof_ext.learning.precision import full_precision

Batch = Mapping[str, torch.Tensor]
"""B transitions by the kit's names, tensors [B, ·]."""


class Sample(NamedTuple):
    """Actions drawn for B observations, a = tanh(μ + σ·ε), and what the gradient through them needs."""

    squashed: torch.Tensor  # a [B, A] in (-1, 1)
    log_probs: torch.Tensor  # log π(a|s) [B, 1]
    bounded: torch.Tensor  # log σ [B, A] within its bounds
    spread: torch.Tensor  # σ·ε [B, A]
    slope: torch.Tensor  # 1 − a² [B, A]
    inside: torch.Tensor  # the same + 1e-6, the argument of the tanh correction's logarithm


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
        optimize_tensors(self.actor_optim, self._actor.flat)
        self._one = torch.ones((), device=self._actor.flat.device)
        self._alpha = torch.as_tensor(self._alpha, device=self._one.device)
        if self._is_auto_alpha:
            optimize_tensors(self.alpha_optim, self._log_alpha)
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

    def _sample(self, output: torch.Tensor, draws: int = 1) -> Sample:
        """A draw from the actor's output [1, B, 2·A].

        The noise is drawn in ``draws`` equal blocks of rows, as the kit draws it where it samples block by block.
        """
        mean, log_std = output[0].chunk(2, dim=-1)
        head: Any = self.actor.dist_net
        bounded = log_std.clamp(head._sigma_min, head._sigma_max)
        noise = torch.empty_like(bounded)
        for block in noise.chunk(draws):
            block.normal_()
        spread = bounded.exp().mul_(noise)
        squashed = (mean + spread).tanh_()
        slope = torch.addcmul(self._one, squashed, squashed, value=-1)
        inside = slope + 1e-6
        density = inside.log().add_(bounded).addcmul_(noise, noise, value=0.5)
        log_probs = density.add_(0.5 * math.log(2 * math.pi)).sum(-1, keepdim=True).neg_()
        return Sample(squashed, log_probs, bounded, spread, slope, inside)

    def _critics_step(
        self, obss: torch.Tensor, actions: torch.Tensor, target: torch.Tensor, weight: float
    ) -> torch.Tensor:
        """One step of the critics towards target [B, 1]: minus ``weight`` · Σ (Q − target)²; returns each one's mean
        squared error [C]."""
        values = self._critics.forward(torch.cat([obss, actions], dim=1))
        error = values[-1] - target
        losses = error.square().mean(dim=(1, 2))
        self._critics.backward(values, error.mul_(2 * weight))
        adam_step(self._critics_optim, [self._critics.flat])
        return losses

    def _actor_step(self, obss: torch.Tensor) -> dict[str, torch.Tensor]:
        """One step of the actor on obss [B, O], then of the temperature; returns a dict of scalar tensors."""
        hidden = self._actor.forward(obss)
        sample = self._sample(hidden[-1])
        pairs = torch.cat([obss, self._scale(sample.squashed)], dim=1)
        return self._actor_step_on(pairs, hidden, sample, self._alpha * sample.log_probs)

    def _actor_step_on(
        self, pairs: torch.Tensor, hidden: list[torch.Tensor], sample: Sample, entropy_cost: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """As :meth:`_actor_step`, where the actor's pass over the observations is known.

        Written out: the gradient of α·log π(a|s) − min Q(s, a), with a = tanh(μ + σ·ε), in the actor's output.

        Args:
            pairs: The observations with the sampled actions beside them [B, O+A].
            hidden: The values of the actor's layers.
            sample: The draw.
            entropy_cost: α·log π(a|s) [B, 1].
        """
        squashed, log_probs, bounded, spread, slope, inside = sample
        rows, actions = squashed.shape
        values = self._critics.forward(pairs)
        q = values[-1].amin(0)
        chosen = (values[-1] == q).float()
        chosen /= chosen.sum(0)
        of_action = self._critics.input_gradient(values, chosen, slice(-actions, None))
        share = self._alpha / rows
        of_raw = of_action.mul_(self._scale_slope / -rows).mul_(slope)
        of_raw.addcmul_((squashed * slope).div_(inside), share, value=2)
        free = bounded == hidden[-1][0, :, actions:]
        of_log_std = (of_raw * spread).sub_(share).mul_(free)
        self._actor.backward(hidden, torch.cat([of_raw, of_log_std], dim=1)[None])
        adam_step(self.actor_optim, [self._actor.flat])
        losses = {"loss/actor": (entropy_cost - q).mean()}
        if self._is_auto_alpha:
            of_log_alpha = log_probs.mean().add_(self._target_entropy).neg_()
            losses["loss/alpha"] = (self._log_alpha * of_log_alpha).squeeze()
            self._log_alpha.grad.copy_(of_log_alpha)
            adam_step(self.alpha_optim, [self._log_alpha])
            self._alpha = self._log_alpha.detach().exp().clamp_(0.0, 1.0)
            losses["alpha"] = self._alpha
        return losses

    def _targets_step(self) -> None:
        self._critics_old.flat.lerp_(self._critics.flat, self._tau)

    @full_precision()
    @torch.no_grad()
    def select_action(self, obs: Any, deterministic: bool = False) -> np.ndarray:
        """The kit's: obs [..., O] → actions [..., A], arrays. A mean action is computed without a distribution."""
        if not deterministic:
            return super().select_action(obs)  # type: ignore[misc] # the kit's policy's
        obs = torch.as_tensor(obs, dtype=torch.float32, device=self._actor.flat.device)
        mean, _ = self._actor(obs.reshape(-1, obs.shape[-1]))[0].chunk(2, dim=-1)
        return self._scale(mean.tanh()).view(*obs.shape[:-1], -1).cpu().numpy()

    def _sample_actions(self, obss: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sample = self._sample(self._actor.forward(obss)[-1])
        return self._scale(sample.squashed), sample.log_probs


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
        # one pass for both: next actions enter the target, and the actor, which learns last, acts here before it does
        both = torch.cat([next_obss, obss])
        hidden = self._actor.forward(both)
        sample = self._sample(hidden[-1], draws=2)
        pairs = torch.cat([both, self._scale(sample.squashed)], dim=1)
        next_cost, entropy_cost = (self._alpha * sample.log_probs).chunk(2)
        next_q = self._critics_old.forward(pairs[:rows])[-1].amin(0).sub_(next_cost)
        next_q.addcmul_(next_q, batch["terminals"], value=-1)
        target = torch.add(batch["rewards"], next_q, alpha=self._gamma)
        critic_losses = self._critics_step(obss, actions, target, weight=1 / rows)
        hidden, sample = [value[:, rows:] for value in hidden], Sample(*(part[rows:] for part in sample))
        losses = self._actor_step_on(pairs[rows:], hidden, sample, entropy_cost)
        self._targets_step()
        losses["loss/critic1"], losses["loss/critic2"] = critic_losses.unbind()
        return losses


class MeanLosses:
    """Means of scalar tensors over an epoch, summed on the device and read once.

    Args:
        device: The tensors'; a checkpoint's sums are restored to it.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._device = device
        self._sums: dict[str, Any] = {}
        self._count = 0

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, and of how many steps."""
        return {"sums": {name: total.clone() for name, total in self._sums.items()}, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""
        self._sums = {name: total.to(self._device, copy=True) for name, total in state["sums"].items()}
        self._count = state["count"]

    def add(self, losses: Mapping[str, torch.Tensor]) -> None:
        """Adds one step's dict of scalars, of the same names at each step."""
        if not self._sums:
            self._sums = {name: torch.zeros_like(value) for name, value in losses.items()}
        torch._foreach_add_([self._sums[name] for name in losses], list(losses.values()))
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
