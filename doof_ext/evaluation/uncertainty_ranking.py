"""Whether u ranks pairs as the true dynamics distance does, on three kinds of pairs (Figure 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from doof_ext.data.dataset import Dataset
from doof_ext.evaluation.dynamics_distance import (
    TruePairs,
    dataset_pairs,
    dynamics_distance,
    uniform_actions,
    uniform_pairs,
)

KINDS = ("data", "random actions", "uniform states")


def pairs_of_each_kind(env: Any, dataset: Dataset, count: int, seed: int = 0) -> dict[str, TruePairs]:
    """(s_D, a_D), (s_D, uniform a) and (s uniform in the box of the data's range, uniform a), ``count`` of each.

    Returns:
        The pairs by the names of KINDS.
    """
    rng = np.random.default_rng(seed)
    pairs = (
        dataset_pairs(env, dataset, count, rng),
        dataset_pairs(env, dataset, count, rng, actions=uniform_actions(env, count, rng)),
        uniform_pairs(env, dataset.observations, count, rng),
    )
    return dict(zip(KINDS, pairs, strict=True))


def compare(dynamics: Any, policy: Any, pairs: Mapping[str, TruePairs]) -> dict[str, Any]:
    """Mean u of each kind of pairs, and Spearman's correlation of u with the dynamics distance over all of them.

    Returns:
        {"mean_u": {kind: float}, "spearman": float}.
    """
    u = {kind: dynamics.uncertainty(p.observations, p.actions, policy).cpu().numpy()[:, 0] for kind, p in pairs.items()}
    distances = [dynamics_distance(dynamics, p) for p in pairs.values()]
    return {
        "mean_u": {kind: float(values.mean()) for kind, values in u.items()},
        "spearman": spearman(np.concatenate(list(u.values())), np.concatenate(distances)),
    }


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays [N]; equal values share their mean rank."""
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
