"""Numbers below 1e-38, for which a processor takes many times as long as for others."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    """Counts float32 numbers below 1e-38 as 0, on this thread and on those that torch starts within.

    Adam's mean of a dead unit's gradients would end there and stay, for 0.9 of the least number rounds to itself, and
    so would a weight that decay alone moves (``benchmarks/bench_denormals.py``).
    """
    were_kept = bool(torch.tensor(1e-45) * 1.0 > 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(not were_kept)
