"""The precision of float32 products, which ``--matmul-precision`` sets for training."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Multiplies float32 as float32 meanwhile, whatever is set: for what acts on a system.

    An action does not depend on what a run trains at, so that a policy acts elsewhere as it did where it was evaluated.
    Products of a few rows are also faster this way: at medium precision weights are converted for each.
    """
    chosen = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(chosen)
