"""Figures 1 to 8 of the paper for any runs. A drawing names the runs that it lacks."""

from __future__ import annotations

from collections.abc import Sequence

from doof_ext.report.curve_figures import exploration_change, finetuning_curves, rounds_curve
from doof_ext.report.distance_figures import (
    distance_beside_u,
    distance_distributions,
    offline_against_online,
    other_dataset,
)
from doof_ext.report.drawing import Drawing, render
from doof_ext.report.runs import Run

__all__ = [
    "Drawing",
    "all_figures",
    "distance_beside_u",
    "distance_distributions",
    "exploration_change",
    "finetuning_curves",
    "offline_against_online",
    "other_dataset",
    "render",
    "rounds_curve",
]


def all_figures(runs: Sequence[Run]) -> list[Drawing]:
    """Figures 1 to 8, Figure 6 in its parts."""
    return [
        distance_distributions(runs, "figure-1", first_task=True),
        distance_beside_u(runs, "figure-2", first_task=True),
        exploration_change(runs),
        offline_against_online(runs),
        other_dataset(runs),
        finetuning_curves(runs),
        rounds_curve(runs),
        distance_distributions(runs, "figure-7"),
        distance_beside_u(runs, "figure-8"),
    ]
