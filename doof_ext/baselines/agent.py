"""What every baseline is: networks that learn from batches and act."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from doof_ext.baselines.networks import Normalizer
from doof_ext.baselines.replay import Replay
from doof_ext.config import BaselineConfig
from doof_ext.data.dataset import Dataset
from doof_ext.errors import DivergenceError
from doof_ext.learning.actor_critic import Batch
from doof_ext.learning.policy import scale_actions
from doof_ext.learning.precision import full_precision
from doof_ext.tasks import TaskSpec


class Preparation(NamedTuple):
    """What a method trains on D before its policy."""

    name: str
    learn: Callable[[Batch], dict[str, torch.Tensor]]
    epochs: int


class Agent(nn.Module):
    """The base of the methods: units of observations and actions, optimisers, what a checkpoint holds.

    A method's file has the rest: its networks, :meth:`learn`, and what it does when online steps begin and end.

    Args:
        config: The settings.
        spec: The task, with dimensions and action bounds.
        dataset: D.
    """

    online_ratio: float | None = None
    """The part of a batch that is of D_on; None where rows of D and D_on are drawn alike."""

    def __init__(self, config: BaselineConfig, spec: TaskSpec, dataset: Dataset) -> None:
        super().__init__()
        self.config = config
        self.obs_dim, self.action_dim = dataset.observations.shape[1], dataset.actions.shape[1]
        self.normalizer = Normalizer(dataset.observations, config.normalize_observations)
        for name, bound in (("action_low", spec.action_low), ("action_high", spec.action_high)):
            self.register_buffer(name, torch.tensor(bound, dtype=torch.float32))
        self.optims: dict[str, torch.optim.Optimizer] = {}

    def adam(self, name: str, groups: Iterable[Any], lr: float) -> torch.optim.Optimizer:
        """An Adam that is part of the training state."""
        self.optims[name] = torch.optim.Adam(groups, lr=lr, fused=True)
        return self.optims[name]

    def draw(self, replay: Replay) -> Batch:
        """A batch to learn from."""
        return replay.draw(self.config.batch_size, self.online_ratio)

    def learn(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One gradient step on a batch of :meth:`draw`; returns its losses, scalar tensors."""
        raise NotImplementedError

    def act(self, obs: torch.Tensor, deterministic: bool) -> torch.Tensor:
        """Normalised observations [B, O] → actions [B, A] in [-1, 1]."""
        raise NotImplementedError

    def preparations(self) -> Sequence[Preparation]:
        """What is trained on D before the policy, in order."""
        return ()

    def begin_pretraining(self, steps: int) -> None:
        """Called before the first of ``steps`` gradient steps on D."""

    def begin_online(self, steps: int) -> None:
        """Called before the first of ``steps`` environment steps."""

    def count_online_step(self) -> None:
        """Called after each environment step, before the gradient step that goes with it."""

    @full_precision()
    @torch.no_grad()
    def select_action(self, obs: Any, deterministic: bool = False) -> np.ndarray:
        """The kit's: obs [B, O] → actions [B, A] in the environment's units, arrays."""
        low, high = self.get_buffer("action_low"), self.get_buffer("action_high")
        obs = self.normalizer(torch.as_tensor(obs, dtype=torch.float32, device=low.device))
        actions = scale_actions(self.act(obs, deterministic), low, high)
        return actions.clamp(low, high).cpu().numpy()

    def training_state(self) -> dict[str, Any]:
        """All that learning resumes from."""
        return {"networks": self.state_dict(), **{name: optim.state_dict() for name, optim in self.optims.items()}}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`training_state` returned."""
        self.load_state_dict(state["networks"])
        for name, optim in self.optims.items():
            optim.load_state_dict(copy.deepcopy(state[name]))  # which would else learn in the checkpoint's tensors

    def check_weights(self, where: str) -> None:
        """Raises DivergenceError, naming the network and ``where`` it was, for a weight that is not finite."""
        for name, parameter in self.named_parameters():
            if not parameter.isfinite().all():
                raise DivergenceError(f"a weight of {name} is not finite in {where}")


@torch.no_grad()
def follow(targets: nn.Module, networks: nn.Module, tau: float) -> None:
    """Moves target networks a part of the way, θ̄ ← θ̄ + τ·(θ − θ̄)."""
    torch._foreach_lerp_(list(targets.parameters()), list(networks.parameters()), tau)


def frozen_copy(network: nn.Module, into: nn.Module) -> nn.Module:
    """``into``, a network of the same shape, with its weights and without gradients."""
    into.load_state_dict(network.state_dict())
    return into.requires_grad_(False)
