"""Ranks as SciPy has them."""

import numpy as np
import pytest

from doof_ext.evaluation.rank_correlation import rank_correlation


def test_it_is_the_correlation_of_mean_ranks():
    assert rank_correlation([1, 2, 3], [5, 6, 700]) == pytest.approx(1)
    assert rank_correlation([3, 2, 1], [5, 6, 700]) == pytest.approx(-1)
    # ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4
    assert rank_correlation([5, 5, 6, 7], [1, 2, 3, 4]) == pytest.approx(0.948683)
    assert rank_correlation([1, 2, 3], [4, 4, 4]) is None


def test_it_is_scipys():
    scipy_stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 6, size=(2, 9)).astype(float)  # with ties
        assert rank_correlation(x, y) == pytest.approx(scipy_stats.spearmanr(x, y).statistic)
