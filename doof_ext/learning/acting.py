"""An actor that takes one step after another as stage 3 does, outside a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from doof_ext.learning.network_stack import NetworkStack
from doof_ext.learning.policy import scale_actions


class StepActor:
    """Acts on one observation at a time, with the bits that the policy's ``select_action`` has on the CPU.

    The weights lie as in a policy, since a product's last bits depend on that. A generator of its own leaves torch's
    alone.

    Args:
        actor: The network, as build_actor makes it; its parameters are bound to another place.
        action_low: The action bounds, float32 [A].
        action_high: Likewise.
    """

    def __init__(self, actor: Any, action_low: np.ndarray, action_high: np.ndarray) -> None:
        self._actor, self._stack, self._generator = actor, NetworkStack.of_actor(actor), torch.Generator()
        self._bounds: tuple[torch.Tensor, torch.Tensor] | None = None
        if not ((action_low == -1).all() and (action_high == 1).all()):
            self._bounds = torch.from_numpy(action_low), torch.from_numpy(action_high)

    @torch.no_grad()
    def act(self, observation: np.ndarray, seed: int | None) -> np.ndarray:
        """The action [A] for an observation [O], float32: sampled with a seed, the mean without."""
        obs, head = torch.as_tensor(observation, dtype=torch.float32)[None], self._actor.dist_net
        if seed is None:
            mean, _ = self._stack(obs)[0].chunk(2, dim=-1)
            squashed = mean.tanh()
        else:
            features = self._actor.backbone(obs)
            mean = head.mu(features)
            std = head.sigma(features).clamp(head._sigma_min, head._sigma_max).exp()
            noise = torch.empty_like(mean).normal_(generator=self._generator.manual_seed(seed))
            squashed = torch.tanh(mean + noise * std)
        return (squashed if self._bounds is None else scale_actions(squashed, *self._bounds))[0].numpy()
