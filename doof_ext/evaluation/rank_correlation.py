"""Spearman's rank correlation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rank_correlation(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float | None:
    """Spearman's rank correlation of two columns [N], ties at their mean rank; None where one of them never changes."""
    first, second = (_ranks(np.asarray(column, np.float64)) for column in (x, y))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(column: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(column, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]
