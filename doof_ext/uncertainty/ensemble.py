"""The estimators of MOPO and of the kit: from the ensemble's prediction alone."""

from __future__ import annotations

import torch

from doof_ext.uncertainty.base import EnsemblePrediction, UncertaintyEstimator


class Aleatoric(UncertaintyEstimator):
    """MOPO's own (Yu et al. 2020; DOOF section 3.2): the largest predicted standard deviation of any member."""

    needs = ("prediction",)

    def u(self, observations: torch.Tensor, actions: torch.Tensor, prediction: EnsemblePrediction) -> torch.Tensor:
        """max over members of the norm of σ over next-state deltas and reward → [B, 1]."""
        return prediction.std.norm(dim=-1).amax(0).unsqueeze(-1)


class PairwiseDifference(UncertaintyEstimator):
    """The largest distance of a member's mean next state from the ensemble's (the kit's "pairwise-diff")."""

    needs = ("prediction",)

    def u(self, observations: torch.Tensor, actions: torch.Tensor, prediction: EnsemblePrediction) -> torch.Tensor:
        """max over members of ‖μ_k − mean of μ‖₂ over next states → [B, 1]."""
        means = prediction.mean[..., :-1]
        return (means - means.mean(0)).norm(dim=-1).amax(0).unsqueeze(-1)


class EnsembleStd(UncertaintyEstimator):
    """The spread of the members' mean next states (the kit's "ensemble_std")."""

    needs = ("prediction",)

    def u(self, observations: torch.Tensor, actions: torch.Tensor, prediction: EnsemblePrediction) -> torch.Tensor:
        """√(mean over coordinates of the variance over members of μ_k) → [B, 1]."""
        return prediction.mean[..., :-1].var(0, correction=0).mean(-1).sqrt().unsqueeze(-1)
