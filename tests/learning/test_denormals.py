"""Numbers below 1e-38 count as 0 in a run, and as before after it."""

import pytest
import torch
from conftest import wrap_stage

from doof_ext import pipeline
from doof_ext.learning.denormals import denormals_flushed


def _left():
    """How many of four dead moments Adam's decay leaves."""
    return int((torch.full((4,), 1e-45) * 0.9).count_nonzero())


def test_dead_moments_end_at_0_and_nothing_stays_changed():
    assert _left() == 4  # 0.9 of the least number is itself
    with pytest.raises(KeyError), denormals_flushed():
        with denormals_flushed():
            assert _left() == 0
        assert _left() == 0
        raise KeyError
    assert _left() == 4


def test_a_run_counts_them_as_0(settings, monkeypatch):
    seen = []

    def wrapper(stage):
        return lambda ctx, *inputs: seen.append(_left()) or stage(ctx, *inputs)

    wrap_stage(monkeypatch, "explore", wrapper)
    pipeline.run(settings())
    assert seen == [0] and _left() == 4
