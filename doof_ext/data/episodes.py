"""The episode structure of recorded steps: where episodes end, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from doof_ext.errors import UserError

if TYPE_CHECKING:
    from doof_ext.data.dataset import Dataset

_SAME = 1e-4  # of a column's standard deviation: a difference that is rounding, not another state
_NEAR = 1e-3  # the same, where episodes' ends are recorded and only doubted


def bounds(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Start and stop (one past the end) of each episode [E], [E]; steps after the last end are an episode too."""
    ends = np.flatnonzero(dataset.terminals | dataset.timeouts) + 1
    stops = ends if len(ends) and ends[-1] == len(dataset) else np.append(ends, len(dataset))
    return np.concatenate([[0], stops[:-1]]), stops


def returns_and_lengths(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The undiscounted return [E] and number of steps [E] of each episode."""
    starts, stops = bounds(dataset)
    return np.add.reduceat(dataset.rewards.astype(np.float64), starts), stops - starts


def mean_return(dataset: Dataset) -> float:
    """The mean undiscounted return of the episodes; of those that have ended, where any has."""
    returns, _ = returns_and_lengths(dataset)
    ended = returns[: int((dataset.terminals | dataset.timeouts).sum())]
    return float((ended if len(ended) else returns).mean())


def breaks(dataset: Dataset, spread: np.ndarray) -> tuple[int, int]:
    """How many steps that end no episode do not lead to the next row's observation, and of how many.

    Args:
        dataset: The steps.
        spread: The observations' standard deviations [O]; a thousandth of one is rounding.
    """
    goes_on = ~(dataset.terminals | dataset.timeouts)[:-1]
    gaps = abs(dataset.next_observations[:-1] - dataset.observations[1:])[goes_on]
    return int((gaps > _NEAR * spread + 1e-5).any(1).sum()), len(gaps)


def infer_timeouts(columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, str]:
    """Timeouts [N] of columns without, and a sentence on how they were told.

    They are the steps that neither terminate nor lead to the next row's observation, up to rounding: a ten-thousandth
    of each column's spread.
    """
    observations, reached = columns["observations"], columns["next_observations"]
    mean, std = observations.mean(0, dtype=np.float64), observations.std(0, dtype=np.float64)
    rounding = _SAME * std + 4 * np.finfo(np.float32).eps * abs(mean)
    gaps = abs(reached[:-1] - observations[1:])
    follows = np.append((gaps <= rounding).all(1), False)
    timeouts = ~columns["terminals"] & ~follows
    largest = gaps[follows[:-1]].max(initial=0)
    rounded = f"; others do, within {largest:.1g}" if largest else ""
    return timeouts, f"timeouts are the {timeouts.sum()} steps that do not lead to the next row's observation{rounded}"


def reconstruct_next_observations(
    label: object, columns: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, str | float]]:
    """Columns with next_observations taken from the following row, and what was left out.

    The last step of an episode has no following row: it is left out, and the step before it, which stays, is marked as
    a timeout.

    Args:
        label: Names the columns' origin in errors.
        columns: Arrays [N, ·] by D4RL's names.

    Returns:
        The columns, and metadata: ``reconstructed``, a sentence; ``rewards_left_out``, which part of all rewards'
        magnitudes was left out; ``terminals_left_out``, how many terminals, which is all of them.

    Raises:
        UserError: There are no timeouts, so a row may follow one of another episode; or no step would be left.
    """
    if "timeouts" not in columns:
        raise UserError(f"{label}: neither next_observations nor timeouts in it, so episodes run together; record one")
    terminals = columns["terminals"]
    ends = terminals | columns["timeouts"]
    ends[-1] = True
    kept = np.flatnonzero(~ends)
    if not len(kept):
        raise UserError(f"{label}: no next_observations, and no episode of two steps to reconstruct them from")
    reconstructed = {name: column[kept] for name, column in columns.items()}
    reconstructed["next_observations"] = columns["observations"][kept + 1]
    reconstructed["timeouts"] = ends[kept + 1]
    cut, terminal = int((ends & ~terminals).sum()), int(terminals.sum())
    left_out = f"left out, for want of a following row: {cut} cut and {terminal} terminal last steps of episodes"
    paid = abs(columns["rewards"].astype(np.float64))
    lost = float(paid[ends].sum() / paid.sum()) if paid.any() else 0.0
    told = f"next_observations are the following rows' observations; {left_out}"
    return reconstructed, {"reconstructed": told, "rewards_left_out": lost, "terminals_left_out": terminal}
