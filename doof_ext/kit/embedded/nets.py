"""Networks: a multilayer perceptron and a layer that holds one weight matrix per ensemble member."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn


class MLP(nn.Module):
    """Hidden layers with an activation after each, and optionally a linear output layer.

    ``output_dim`` (attribute) is the width of what ``forward`` returns.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dims: Sequence[int],
        output_dim: int | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
        dropout_rate: float | None = None,
    ) -> None:
        super().__init__()
        widths = [input_dim, *hidden_dims]
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), activation()]
            if dropout_rate is not None:
                layers.append(nn.Dropout(p=dropout_rate))
        if output_dim is not None:
            layers.append(nn.Linear(widths[-1], output_dim))
        self.output_dim = widths[-1] if output_dim is None else output_dim
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, input_dim] → [B, output_dim]."""
        return self.model(x)


class EnsembleLinear(nn.Module):
    """E linear layers side by side, each with a saved copy of its weights that training can restore."""

    def __init__(self, input_dim: int, output_dim: int, num_ensemble: int, weight_decay: float = 0.0) -> None:
        super().__init__()
        self.num_ensemble = num_ensemble
        self.weight_decay = weight_decay
        self.weight = nn.Parameter(torch.empty(num_ensemble, input_dim, output_dim))
        self.bias = nn.Parameter(torch.zeros(num_ensemble, 1, output_dim))
        nn.init.trunc_normal_(self.weight, std=1 / (2 * math.sqrt(input_dim)))
        self.saved_weight = nn.Parameter(self.weight.detach().clone())
        self.saved_bias = nn.Parameter(self.bias.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, in], the same for all members, or [E, B, in] → [E, B, out]."""
        return x @ self.weight + self.bias

    @torch.no_grad()
    def load_save(self) -> None:
        """Restores the saved copy."""
        self.weight.copy_(self.saved_weight)
        self.bias.copy_(self.saved_bias)

    @torch.no_grad()
    def update_save(self, indexes: Sequence[int]) -> None:
        """Saves a copy of the weights of the members ``indexes``."""
        self.saved_weight[indexes] = self.weight[indexes]
        self.saved_bias[indexes] = self.bias[indexes]

    def get_decay_loss(self) -> torch.Tensor:
        """weight_decay · ½ · Σ w²."""
        return self.weight_decay * 0.5 * self.weight.square().sum()
