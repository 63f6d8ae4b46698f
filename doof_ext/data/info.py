"""A dataset described in a few lines."""

from __future__ import annotations

import numpy as np

from doof_ext.data import episodes
from doof_ext.data.d4rl_statistics import STATISTICS, Statistics, spread_ratio, statistics_of
from doof_ext.data.dataset import Dataset
from doof_ext.tasks.specs import TaskSpec


def describe(dataset: Dataset, spec: TaskSpec | None = None) -> list[str]:
    """Dimensions, episodes, returns and provenance of a dataset.

    With a task's spec, returns are normalised too, and the figures of D4RL's own file stand beside the dataset's where
    they are known.
    """
    _, lengths = episodes.returns_and_lengths(dataset)
    found = statistics_of(dataset)
    shapes = [f"{name} {list(state.shape[1:])}" for name, state in dataset.states.items()]
    lines = [
        ("dimensions", f"{dataset.observations.shape[1]} observed, {dataset.actions.shape[1]} acted"),
        ("ends", f"{dataset.terminals.sum()} terminals, {dataset.timeouts.sum()} timeouts"),
        ("lengths", f"std {np.std(lengths):.1f}, from {min(lengths)} to {max(lengths)}"),
        ("states", ", ".join(shapes) or "none recorded"),
        *_spread(found, spec),
        *dataset.metadata.items(),
    ]
    return [*_table(found, spec), *(f"{name:<15} {value}" for name, value in lines)]


def _table(found: Statistics, spec: TaskSpec | None) -> list[str]:
    columns = {"this file": _cells(found, spec)}
    if spec is not None and spec.name in STATISTICS:
        columns["D4RL's file"] = _cells(STATISTICS[spec.name], spec)
    lines = [f"{'':<20}" + "".join(f"{name:>20}" for name in columns)]
    for name in columns["this file"]:
        lines.append(f"{name:<20}" + "".join(f"{cells[name]:>20}" for cells in columns.values()))
    return lines


def _spread(found: Statistics, spec: TaskSpec | None) -> list[tuple[str, str]]:
    if spec is None or spec.name not in STATISTICS or (ratio := spread_ratio(found, STATISTICS[spec.name])) is None:
        return []
    least, most = np.argmin(ratio), np.argmax(ratio)
    told = f"{ratio[least]:.2g} (column {least}) to {ratio[most]:.2g} (column {most})"
    return [("observations", f"spread {told} times as far as D4RL's")]


def _cells(figures: Statistics, spec: TaskSpec | None) -> dict[str, str]:
    mean, best = _rounded(figures.return_mean), _rounded(figures.return_max)
    if figures.return_std is not None:
        mean += f" ± {_rounded(figures.return_std)}"
    cells = {"transitions": str(figures.transitions), "episodes": str(figures.episodes), "return": mean}
    if spec is not None:
        cells["normalised"] = f"{100 * spec.normalized_score(figures.return_mean):.1f}"
        best += f" ({100 * spec.normalized_score(figures.return_max):.1f})"
    return cells | {
        "best return": best,
        "mean length": f"{figures.length_mean:.1f}",
        "return per step": f"{figures.reward_mean:.2f}",
    }


def _rounded(value: float) -> str:
    """Four digits or so: 18.40, 288.8, 4770."""
    return f"{value:.{2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0}f}"
