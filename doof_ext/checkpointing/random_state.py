"""The random number generators of a process: seeded together, saved and restored together."""

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_generators(*origin: int | str) -> int:
    """Seeds Python's, NumPy's and torch's generators.

    Args:
        origin: Numbers and names that the seeds are derived from.

    Returns:
        A seed, from the same origin, for the environment.
    """
    numbers = [zlib.crc32(item.encode()) if isinstance(item, str) else item for item in origin]
    seeds = np.random.SeedSequence(numbers).generate_state(4)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])
    seed_torch(int(seeds[2]))
    return int(seeds[3])


def seed_torch(seed: int) -> None:
    """Seeds torch's generators, for the draws that ``torch.manual_seed`` gives.

    That keeps a stack trace at each call, also where there is no GPU to seed later, which takes longer than an action.
    """
    if torch.cuda.is_available():
        torch.manual_seed(seed)  # which also seeds a GPU that is not in use yet
    else:
        torch.default_generator.manual_seed(seed)


def get_random_state() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators, as a tree that a checkpoint can hold.

    The environment's generator is not among them: it is seeded before each episode.
    """
    version, internal, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    state: dict[str, Any] = {
        "python": [version, np.array(internal, np.int64), gauss],
        "numpy": [kind, np.asarray(keys).astype(np.int64), *rest],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Restores what :func:`get_random_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal.tolist()), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def generators_kept() -> Iterator[None]:
    """Whatever is drawn inside, the generators are afterwards as they were."""
    state = get_random_state()
    try:
        yield
    finally:
        set_random_state(state)
