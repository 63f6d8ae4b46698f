"""Networks of one shape as one batched network on flat parameters, forward and backward written out.

Nothing is recorded for autograd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

_threshold_backward = torch.ops.aten.threshold_backward


class NetworkStack:
    """C perceptrons of one shape with ReLU between their layers, as one batched network on flat parameters.

    The modules' parameters become views of one tensor, so that ``state_dict()`` and all else of the kit work as
    ever while a layer of all C networks is one batched product. ``gradient`` has the gradient of every parameter
    after :meth:`backward`, in the same order.

    A weight lies [inputs, outputs] in it where the inputs are fewer, else [outputs, inputs]: the libraries' products
    with a narrow matrix are up to three times as fast where its long side is contiguous. A bias is added after its
    product: baddbmm copies it for all rows first, which costs more, and a bfloat16 product with it half as much again.
    """

    def __init__(self, layers: Sequence[Sequence[tuple[nn.Linear, ...]]]) -> None:
        """``layers``: for each depth, C tuples of nn.Linear whose outputs stand side by side."""
        self.count = len(layers[0])
        self._turned: list[bool] = []  # whether a layer's weight lies [inputs, outputs]
        shapes = []
        for peers in layers:
            inputs, outputs = peers[0][0].in_features, sum(linear.out_features for linear in peers[0])
            shapes += [(self.count, *sorted((inputs, outputs))), (self.count, 1, outputs)]
            self._turned.append(inputs < outputs)
        sizes = [math.prod(shape) for shape in shapes]
        device = layers[0][0][0].weight.device
        self.flat, self.gradient = torch.empty(sum(sizes), device=device), torch.empty(sum(sizes), device=device)
        views, gradients = (
            [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
            for flat in (self.flat, self.gradient)
        )
        self._weight_gradients, self._bias_gradients = gradients[0::2], gradients[1::2]
        turns = [(view, view.transpose(1, 2)) for view in views[0::2]]
        turns = [pair[::-1] if turned else pair for pair, turned in zip(turns, self._turned, strict=True)]
        self.weights, self._weights_forward = zip(*turns, strict=True)  # [C, outputs, inputs], [C, inputs, outputs]
        self.biases = views[1::2]
        # the modules' parameters and where they are in the flat tensor
        self._views: list[tuple[nn.Parameter, torch.Tensor]] = []
        for peers, weight, bias in zip(layers, self.weights, self.biases, strict=True):
            for index, heads in enumerate(peers):
                first = 0
                linear: Any  # torch's stubs declare its parameters as tensors
                for linear in heads:
                    rows = slice(first, first + linear.out_features)
                    self._views += [(linear.weight, weight[index, rows]), (linear.bias, bias[index, 0, rows])]
                    first = rows.stop
        for parameter, view in self._views:
            view.copy_(parameter.detach())
        self.bind()
        self.flat.grad = self.gradient

    def bind(self) -> None:
        """Has the modules' parameters be views of the flat tensor; again after they were copied."""
        for parameter, view in self._views:
            parameter.data = view

    @classmethod
    def of_critics(cls, critics: Sequence[nn.Module]) -> NetworkStack:
        """The kit's critics; raises ValueError for what is no ReLU network."""
        layers = [_linears(critic) for critic in critics]
        return cls([[(linear,) for linear in peers] for peers in zip(*layers, strict=True)])

    @classmethod
    def of_actor(cls, actor: nn.Module) -> NetworkStack:
        """The kit's actor: its backbone, then mean and log standard deviation side by side; ValueError as above."""
        *hidden, mean, log_std = _linears(actor)
        head: Any = actor.dist_net
        if mean is not head.mu or log_std is not getattr(head, "sigma", None) or not head._unbounded or head._max != 1:
            raise ValueError(
                "DOOF's policies need an actor as the kit's runners build it: unbounded, with its own sigma"
            )
        return cls([[(linear,)] for linear in hidden] + [[(mean, log_std)]])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """x [B, inputs] → each layer's value, the input first and the output [C, B, outputs] last."""
        values = [x.expand(self.count, -1, -1)]
        for weight, bias in zip(self._weights_forward, self.biases, strict=True):
            values.append(torch.bmm(values[-1], weight).add_(bias))
            if len(values) <= len(self.weights):
                values[-1].relu_()
        return values

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """inputs [B, ·], joined → [C, B, outputs]."""
        return self.forward(torch.cat(inputs, dim=1))[-1]

    def backward(self, values: Sequence[torch.Tensor], gradient: torch.Tensor) -> None:
        """Fills ``self.gradient`` from the layers' values and the loss's gradient in the output [C, B, outputs]."""
        for depth in reversed(range(len(self.weights))):
            factors = (values[depth], gradient) if self._turned[depth] else (gradient, values[depth])
            torch.bmm(factors[0].transpose(1, 2), factors[1], out=self._weight_gradients[depth])
            torch.sum(gradient, 1, keepdim=True, out=self._bias_gradients[depth])
            if depth:
                gradient = self._through(depth, gradient, values)

    def input_gradient(self, values: Sequence[torch.Tensor], gradient: torch.Tensor, columns: slice) -> torch.Tensor:
        """The loss's gradient in ``columns`` (a slice) of the input, summed over the networks: [B, columns]."""
        for depth in reversed(range(1, len(self.weights))):
            gradient = self._through(depth, gradient, values)
        return torch.bmm(gradient, self.weights[0][:, :, columns]).sum(0)

    def _through(self, depth: int, gradient: torch.Tensor, values: Sequence[torch.Tensor]) -> torch.Tensor:
        weight = self.weights[depth]
        gradient = gradient * weight if weight.shape[1] == 1 else torch.bmm(gradient, weight)
        return _threshold_backward.grad_input(gradient, values[depth], 0, grad_input=gradient)


def _linears(network: nn.Module) -> list[nn.Linear]:
    """The linear layers of a network in the order they are applied."""
    modules = [module for module in network.modules() if not list(module.children())]
    if not all(isinstance(module, nn.Linear | nn.ReLU) for module in modules):
        raise ValueError("DOOF's policies need networks of linear layers with ReLU, as the kit's runners build them")
    return [module for module in modules if isinstance(module, nn.Linear)]
