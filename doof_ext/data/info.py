"""A dataset described in a few lines."""

from __future__ import annotations

import numpy as np

from doof_ext.data import episodes
from doof_ext.data.dataset import Dataset
from doof_ext.tasks.specs import TaskSpec


def describe(dataset: Dataset, spec: TaskSpec | None = None) -> list[str]:
    """Size, provenance, lengths and returns of a dataset; with a task's spec, normalised returns too."""
    returns, lengths = episodes.returns_and_lengths(dataset)
    dimensions = f"{dataset.observations.shape[1]} observed, {dataset.actions.shape[1]} acted"
    lines = [f"{'steps':<14}{len(dataset)} in {len(returns)} episodes; dimensions: {dimensions}"]
    lines += [f"{'ends':<14}{dataset.terminals.sum()} terminals, {dataset.timeouts.sum()} timeouts"]
    lines += [_spread("length", lengths), _spread("return", returns)]
    if spec is not None:
        lines.append(_spread("normalised", 100 * spec.normalized_score(returns)))
    shapes = [f"{name} {list(state.shape[1:])}" for name, state in dataset.states.items()]
    lines.append(f"{'states':<14}{', '.join(shapes) or 'none recorded'}")
    lines += [f"{name:<14}{value}" for name, value in dataset.metadata.items()]
    return lines


def _spread(name: str, values: np.ndarray) -> str:
    return (
        f"{name:<14}mean {np.mean(values):.1f}, std {np.std(values):.1f}, from {min(values):.1f} to {max(values):.1f}"
    )
