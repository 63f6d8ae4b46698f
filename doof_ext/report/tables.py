"""Tables 2, 3, 6 and 7 of the paper for any runs, and those that the paper does not have."""

from __future__ import annotations

from collections.abc import Sequence

from doof_ext.report.distance_tables import distance_table, mean_table, tail_table, u_table
from doof_ext.report.model_returns import model_return_table
from doof_ext.report.runs import Run
from doof_ext.report.score_tables import aggregate_table, score_table
from doof_ext.report.table import Table
from doof_ext.report.time_table import time_table


def all_tables(runs: Sequence[Run]) -> list[Table]:
    """Every table but the guard's."""
    return [
        distance_table(runs, "uniform", 2),
        score_table(runs),
        distance_table(runs, "fake_buffer", 6),
        aggregate_table(runs),
        mean_table(runs),
        tail_table(runs),
        u_table(runs),
        model_return_table(runs),
        time_table(runs),
    ]
