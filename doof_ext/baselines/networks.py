"""The networks of the baselines."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

_LOG_STD = (-20.0, 2.0)


def perceptron(inputs: int, hidden_dims: Sequence[int], outputs: int) -> nn.Sequential:
    """Layers with ReLU between them: [B, inputs] → [B, outputs]."""
    sizes = [inputs, *hidden_dims]
    layers: list[nn.Module] = []
    for first, second in itertools.pairwise(sizes):
        layers += [nn.Linear(first, second), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


class Critics(nn.Module):
    """Q-functions of one shape as one batched network.

    Args:
        obs_dim: O.
        action_dim: A.
        hidden_dims: Sizes of the hidden layers.
        count: How many there are, C.
    """

    def __init__(self, obs_dim: int, action_dim: int, hidden_dims: Sequence[int], count: int = 2) -> None:
        super().__init__()
        sizes = [obs_dim + action_dim, *hidden_dims, 1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for inputs, outputs in itertools.pairwise(sizes):
            bound = 1 / math.sqrt(inputs)  # nn.Linear's
            self.weights.append(nn.Parameter(torch.empty(count, inputs, outputs).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(count, 1, outputs).uniform_(-bound, bound)))

    def forward(self, obs: torch.Tensor, actions: torch.Tensor, frozen: bool = False) -> torch.Tensor:
        """Values [C, B, 1] of obs [B, O], actions [B, A]; ``frozen`` lets no gradient into the parameters."""
        x = torch.cat([obs, actions], dim=-1).expand(len(self.weights[0]), -1, -1)
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if frozen:
                weight, bias = weight.detach(), bias.detach()
            x = torch.baddbmm(bias, x if depth == 0 else x.relu_(), weight)
        return x


class GaussianPolicy(nn.Module):
    """π(a|s) = N(tanh μ(s), σ) with one σ for all states, as IQL has it."""

    def __init__(self, obs_dim: int, action_dim: int, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.mean = perceptron(obs_dim, hidden_dims, action_dim)
        self.log_std = nn.Parameter(torch.zeros(action_dim))

    def log_prob(self, obs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """log π(a|s) [B, 1]."""
        log_std = self.log_std.clamp(*_LOG_STD)
        distance = (actions - self.mean(obs).tanh()) * (-log_std).exp()
        return (-0.5 * distance.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1, keepdim=True)

    def act(self, obs: torch.Tensor, deterministic: bool) -> torch.Tensor:
        """Actions [B, A] in [-1, 1]: the means, or draws that are cut at the bounds."""
        mean = self.mean(obs).tanh()
        if deterministic:
            return mean
        return (mean + self.log_std.clamp(*_LOG_STD).exp() * torch.randn_like(mean)).clamp(-1, 1)


class SquashedPolicy(nn.Module):
    """a = tanh(μ(s) + σ(s)·ε), SAC's."""

    def __init__(self, obs_dim: int, action_dim: int, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.network = perceptron(obs_dim, hidden_dims, 2 * action_dim)

    def sample(self, obs: torch.Tensor, draws: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """``draws`` actions of each observation [B, O]: [draws, B, A], and their log densities [draws, B, 1]."""
        mean, log_std = self.network(obs).chunk(2, dim=-1)
        log_std = log_std.clamp(*_LOG_STD)
        noise = torch.randn(draws, *mean.shape, device=obs.device)
        raw = mean + log_std.exp() * noise
        # log(1 − tanh² x) = 2·(log 2 − x − softplus(−2x)), without its loss of digits
        log_slope = 2 * (math.log(2) - raw - F.softplus(-2 * raw))
        log_probs = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi) - log_slope
        return raw.tanh(), log_probs.sum(-1, keepdim=True)

    def act(self, obs: torch.Tensor, deterministic: bool) -> torch.Tensor:
        """Actions [B, A] in (-1, 1): the means, or draws."""
        if deterministic:
            return self.network(obs).chunk(2, dim=-1)[0].tanh()
        return self.sample(obs)[0][0]


class Normalizer(nn.Module):
    """Observations less D's mean, over its standard deviation + 0.001; or as they are.

    Args:
        observations: D's [N, O].
        enabled: Whether to.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, observations: np.ndarray, enabled: bool) -> None:
        super().__init__()
        mean, std = np.zeros(observations.shape[1]), np.ones(observations.shape[1])
        if enabled:
            mean, std = observations.mean(0, dtype=np.float64), observations.std(0, dtype=np.float64) + 1e-3
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return (observations - self.mean) / self.std
