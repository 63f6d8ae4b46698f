"""Actor, critic, the squashed Gaussian between them, and the ensemble dynamics network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributions import Normal
from torch.nn import functional

from doof_ext.kit.embedded.nets import EnsembleLinear


class TanhNormal:
    """A diagonal Gaussian squashed by tanh to (-max_mu, max_mu).

    Samples are pairs (squashed, raw): the raw value makes ``log_prob`` exact near the bounds.
    """

    def __init__(self, mean: torch.Tensor, std: torch.Tensor, max_mu: float) -> None:
        self._gaussian = Normal(mean, std)
        self._max_mu = max_mu

    def _squash(self, raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._max_mu * torch.tanh(raw), raw

    def mode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(squashed, raw) of the mean, each [B, A]."""
        return self._squash(self._gaussian.mean)

    def rsample(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(squashed, raw) of a reparameterised sample, each [B, A]."""
        return self._squash(self._gaussian.rsample())

    def log_prob(self, squashed: torch.Tensor, raw: torch.Tensor) -> torch.Tensor:
        """Log density [B, 1] of a squashed action, with tanh's change of variables."""
        correction = torch.log(self._max_mu * (1 - squashed.square()) + 1e-6)
        return (self._gaussian.log_prob(raw) - correction).sum(-1, keepdim=True)


class TanhDiagGaussian(nn.Module):
    """The head that turns an actor's features into a :class:`TanhNormal`."""

    def __init__(
        self,
        latent_dim: int,
        output_dim: int,
        unbounded: bool = False,
        conditioned_sigma: bool = False,
        max_mu: float = 1.0,
        sigma_min: float = -5.0,
        sigma_max: float = 2.0,
    ) -> None:
        super().__init__()
        self._sigma_min, self._sigma_max, self._max = sigma_min, sigma_max, max_mu
        self._unbounded, self._c_sigma = unbounded, conditioned_sigma
        self.mu = nn.Linear(latent_dim, output_dim)
        if self._c_sigma:
            self.sigma = nn.Linear(latent_dim, output_dim)
        else:
            self.sigma_param = nn.Parameter(torch.zeros(output_dim, 1))

    def forward(self, features: torch.Tensor) -> TanhNormal:
        """features [B, latent_dim] → the distribution of actions."""
        mean = self.mu(features)
        if not self._unbounded:
            mean = self._max * torch.tanh(mean)
        log_std = self.sigma(features) if self._c_sigma else self.sigma_param.view(1, -1).expand_as(mean)
        return TanhNormal(mean, log_std.clamp(self._sigma_min, self._sigma_max).exp(), self._max)


class ActorProb(nn.Module):
    """A stochastic actor: backbone, then distribution head."""

    def __init__(self, backbone: nn.Module, dist_net: nn.Module, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.backbone, self.dist_net = backbone.to(device), dist_net.to(device)
        self.device = torch.device(device)

    def forward(self, obs: Any) -> TanhNormal:
        """obs [B, O], array or tensor → distribution."""
        obs = torch.as_tensor(obs, device=self.device, dtype=torch.float32)
        return self.dist_net(self.backbone(obs))


class Critic(nn.Module):
    """Q(s, a), or V(s) where no action is given; ``backbone`` is a module with ``output_dim``."""

    def __init__(self, backbone: Any, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.device = torch.device(device)
        self.backbone = backbone.to(device)
        self.last = nn.Linear(backbone.output_dim, 1).to(device)

    def forward(self, obs: Any, actions: Any = None) -> torch.Tensor:
        """obs [B, O], actions [B, A], arrays or tensors → [B, 1]."""
        inputs = torch.as_tensor(obs, device=self.device, dtype=torch.float32)
        if actions is not None:
            actions = torch.as_tensor(actions, device=self.device, dtype=torch.float32)
            inputs = torch.cat([inputs.flatten(1), actions.flatten(1)], dim=1)
        return self.last(self.backbone(inputs))


class Swish(nn.Module):
    """x · sigmoid(x)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x of any shape → the same shape."""
        return x * torch.sigmoid(x)


def soft_bound(
    x: torch.Tensor, low: torch.Tensor | float | None = None, high: torch.Tensor | float | None = None
) -> torch.Tensor:
    """x bounded smoothly below ``high`` and above ``low``."""
    if high is not None:
        x = high - functional.softplus(high - x)
    if low is not None:
        x = low + functional.softplus(x - low)
    return x


class EnsembleDynamicsModel(nn.Module):
    """E probabilistic networks that predict the change of the observation and the reward (Chua et al. 2018)."""

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden_dims: Sequence[int],
        num_ensemble: int = 7,
        num_elites: int = 5,
        activation: Callable[[], nn.Module] = Swish,
        weight_decays: Sequence[float] | None = None,
        with_reward: bool = True,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        self.num_ensemble, self.num_elites = num_ensemble, num_elites
        self._with_reward = with_reward
        self.device = torch.device(device)
        self.activation = activation()
        weight_decays = [0.0] * (len(hidden_dims) + 1) if weight_decays is None else list(weight_decays)
        if len(weight_decays) != len(hidden_dims) + 1:
            raise ValueError(f"{len(hidden_dims)} hidden layers need {len(hidden_dims) + 1} weight decays")
        widths = [obs_dim + action_dim, *hidden_dims]
        self.backbones: Any = nn.ModuleList(
            EnsembleLinear(width_in, width_out, num_ensemble, decay)
            for width_in, width_out, decay in zip(widths[:-1], widths[1:], weight_decays[:-1], strict=True)
        )
        out_dim = obs_dim + int(with_reward)
        self.output_layer = EnsembleLinear(widths[-1], 2 * out_dim, num_ensemble, weight_decays[-1])
        self.max_logvar = nn.Parameter(torch.full((out_dim,), 0.5))
        self.min_logvar = nn.Parameter(torch.full((out_dim,), -10.0))
        self.elites = nn.Parameter(torch.arange(num_elites), requires_grad=False)
        self.to(self.device)

    def forward(self, obs_action: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """obs_action [B, O+A] or [E, B, O+A] → mean and log-variance, each [E, B, O+1]."""
        x = torch.as_tensor(obs_action, device=self.device, dtype=torch.float32)
        for layer in self.backbones:
            x = self.activation(layer(x))
        mean, logvar = self.output_layer(x).chunk(2, dim=-1)
        return mean, soft_bound(logvar, self.min_logvar, self.max_logvar)

    def _layers(self) -> list[EnsembleLinear]:
        return [*self.backbones, self.output_layer]

    def load_save(self) -> None:
        """Restores every layer's saved copy."""
        for layer in self._layers():
            layer.load_save()

    def update_save(self, indexes: Sequence[int]) -> None:
        """Saves a copy of every layer's weights of the members ``indexes``."""
        for layer in self._layers():
            layer.update_save(indexes)

    def get_decay_loss(self) -> Any:
        """The layers' weight decay, a scalar."""
        return sum(layer.get_decay_loss() for layer in self._layers())

    def set_elites(self, indexes: Sequence[int]) -> None:
        """Sets the members that predictions are drawn from; raises ValueError for indices that do not fit."""
        if len(indexes) > self.num_ensemble or max(indexes) >= self.num_ensemble:
            raise ValueError(f"elites {indexes} do not fit {self.num_ensemble} members")
        self.elites = nn.Parameter(torch.as_tensor(indexes, device=self.device), requires_grad=False)

    def random_elite_idxs(self, batch_size: int) -> np.ndarray:
        """One elite's index per row, [B] integers, from NumPy's global generator."""
        return np.random.choice(self.elites.cpu().numpy(), size=batch_size)
