"""Model-Bellman inconsistency (MOBILE, Sun et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch

from doof_ext.uncertainty.base import EnsemblePrediction, UncertaintyEstimator
from doof_ext.uncertainty.settings import EstimatorSettings

_ROWS = 1024  # at once: a layer's output is still in the cache when the next layer reads it


class ModelBellmanInconsistency(UncertaintyEstimator):
    """The elites' disagreement about the value of the next state.

    Args:
        num_samples: Next states per elite that its value is a mean over.
    """

    needs = ("prediction", "policy")

    def __init__(self, num_samples: int = 10) -> None:
        self.num_samples = num_samples

    @classmethod
    def from_config(cls, config: EstimatorSettings) -> ModelBellmanInconsistency:
        """With ``config.num_samples``."""
        return cls(config.num_samples)

    def u(
        self, observations: torch.Tensor, actions: torch.Tensor, prediction: EnsemblePrediction, policy: Any
    ) -> torch.Tensor:
        """std over elites of the mean over samples of the minimum target Q at (s', a' ~ π) → [B, 1]."""
        samples = prediction.sample_next_obs(self.num_samples)  # [S, elites, B, O]
        blocks = samples.flatten(0, 2).split(_ROWS)
        values = torch.cat([policy.target_q(next_obs, policy.actforward(next_obs)[0]) for next_obs in blocks])
        return values.view(*samples.shape[:-1], 1).mean(0).std(0)
