"""Adam's fused kernel without what ``torch.optim.Adam.step`` spends around it, which on small networks is as long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def optimize_tensors(optimizer: torch.optim.Optimizer, *parameters: torch.Tensor) -> None:
    """Has a fresh Adam work on these tensors; it stays the object that learning-rate schedules know."""
    (group,) = optimizer.param_groups
    group.update(params=list(parameters), fused=True, foreach=False)


def adam_step(optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor], weight_decay: float = 0.0) -> None:
    """One step of a torch.optim.Adam, whose state and settings are used and kept: saving and schedules work as ever.

    Args:
        optimizer: A fused Adam without AMSGrad.
        parameters: Some of its parameters, with their gradients in ``grad``, which stay as they are.
        weight_decay: Times the parameter, added to the gradient.

    Raises:
        ValueError: A parameter has no gradient; nothing is stepped.
    """
    (group,) = optimizer.param_groups
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if len(gradients) != len(parameters):
        raise ValueError(f"{len(parameters) - len(gradients)} of {len(parameters)} parameters have no gradient")
    states = [optimizer.state[parameter] or _initial_state(optimizer, parameter) for parameter in parameters]
    steps = [state["step"] for state in states]
    # a learning-rate schedule warns where its first step comes before the optimiser's
    optimizer._opt_called = True  # type: ignore[attr-defined]
    torch._foreach_add_(steps, 1)
    beta1, beta2 = group["betas"]
    torch._fused_adam_(
        list(parameters),
        gradients,
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        steps,
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"] + weight_decay,
        eps=group["eps"],
        amsgrad=False,
        maximize=group["maximize"],
    )


def _initial_state(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> dict[str, Any]:
    state = optimizer.state[parameter]
    state["step"] = torch.zeros((), device=parameter.device)
    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    return state
