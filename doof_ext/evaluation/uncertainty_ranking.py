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
from doof_ext.evaluation.rank_correlation import rank_correlation

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
        {"mean_u": {kind: float}, "spearman": float, or None where u is the same everywhere}.
    """
    u = {kind: dynamics.uncertainty(p.observations, p.actions, policy).cpu().numpy()[:, 0] for kind, p in pairs.items()}
    distances = [dynamics_distance(dynamics, p) for p in pairs.values()]
    return {
        "mean_u": {kind: float(values.mean()) for kind, values in u.items()},
        "spearman": rank_correlation(np.concatenate(list(u.values())), np.concatenate(distances)),
    }
