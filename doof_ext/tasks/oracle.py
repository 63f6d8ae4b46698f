"""What environments with true dynamics share, whichever simulator they run on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def simulate_rows(
    simulate_one: Callable[..., tuple[np.ndarray, float, bool]], action: np.ndarray, state: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, Any, Any]:
    """``simulate_one(action, **state)`` for one row, or for each row of a batch.

    Args:
        simulate_one: One step; returns next_obs [O], reward, terminal.
        action: [A] or [B, A].
        state: The state's arrays by name, each with a leading [B] for a batch.

    Returns:
        next_obs [O] or [B, O], reward float or [B], terminal bool or [B].
    """
    action, state = np.asarray(action), {name: np.asarray(value) for name, value in state.items()}
    if action.ndim == 1:
        return simulate_one(action, **state)
    steps = [
        simulate_one(row, **{name: value[index] for name, value in state.items()}) for index, row in enumerate(action)
    ]
    next_obs, rewards, terminals = zip(*steps, strict=True)
    return np.stack(next_obs), np.array(rewards), np.array(terminals)


def clipped_rows(observations: np.ndarray) -> np.ndarray:
    """Which observations [N, O] of hopper or walker2d have a velocity beyond ±10, which they clip; [N] of bool."""
    return np.any(abs(observations) >= 10.0, axis=1)


def locomotion_state(observations: np.ndarray, positions: int) -> dict[str, np.ndarray]:
    """States of observations of hopper, halfcheetah or walker2d.

    Exact for HalfCheetah. Hopper's and Walker2d's observations clip velocities at ±10, so a velocity beyond is
    restored as ±10.

    Args:
        observations: [..., O].
        positions: Entries of qpos, the unobserved root x among them.

    Returns:
        qpos [..., positions], with root x 0, and qvel [..., nv].
    """
    observations = np.asarray(observations, dtype=np.float64)
    root = np.zeros((*observations.shape[:-1], 1))
    qpos = np.concatenate([root, observations[..., : positions - 1]], axis=-1)
    return {"qpos": qpos, "qvel": observations[..., positions - 1 :].copy()}
