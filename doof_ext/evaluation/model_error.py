"""How far a dynamics model is from recorded transitions: no simulator is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

_REGION = 0.9
_BLOCK = 2000  # rows of a prediction


@dataclass(frozen=True)
class ModelError:
    """Means over recorded transitions.

    Attributes:
        nll: Negative log-likelihood of next observation and reward under an elite's Gaussian, nats per coordinate.
        distance: Of the elites' mean prediction to the recorded next observation and reward, Euclidean.
        within_90: Share of the next observations that lie within the predicted 90 % region: of the Gaussian with the
            mean and the variance of the elites' mixture, coordinate by coordinate. 0.9 where u is calibrated.
    """

    nll: float
    distance: float
    within_90: float

    @property
    def finite(self) -> bool:
        """Whether the model predicts numbers at all."""
        return math.isfinite(self.nll) and math.isfinite(self.distance)


@torch.no_grad()
def model_error(dynamics: Any, transitions: Mapping[str, Any]) -> ModelError:
    """The error of a dynamics on recorded transitions.

    Args:
        dynamics: A DOOFDynamics.
        transitions: observations [N, O], actions [N, A], next_observations [N, O], rewards [N, 1], N at least 1.
    """
    names = ("observations", "actions", "next_observations", "rewards")
    columns = [torch.as_tensor(transitions[name], dtype=torch.float32, device=dynamics.device) for name in names]
    sums = torch.zeros(3, dtype=torch.float64)
    for obs, actions, next_obs, rewards in zip(*(column.split(_BLOCK) for column in columns), strict=True):
        prediction = dynamics.predict(obs, actions)
        mean, variance = prediction.mean[prediction.elites], prediction.std[prediction.elites].square()
        recorded = torch.cat([next_obs, rewards], dim=-1)
        nll = 0.5 * ((recorded - mean).square() / variance + variance.log() + math.log(2 * math.pi))
        middle = mean.mean(0)
        spread = variance.mean(0) + mean.var(0, correction=0)
        distance = torch.linalg.vector_norm(middle - recorded, dim=-1)
        squared = ((middle - recorded).square() / spread)[:, :-1].sum(-1)
        inside = torch.special.gammainc(torch.full_like(squared, next_obs.shape[-1] / 2), squared / 2) <= _REGION
        sums += torch.stack([nll.mean((0, 2)).sum(), distance.sum(), inside.sum()]).double().cpu()
    return ModelError(*(sums / len(columns[0])).tolist())
