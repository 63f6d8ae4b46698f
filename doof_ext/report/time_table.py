"""How long each stage took."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from doof_ext.report.grouping import grouped
from doof_ext.report.runs import Run, count_seeds
from doof_ext.report.table import Table

_STAGES = {
    "pretrain": "1 pretrain",
    "choose_ratio": "ratio",
    "explore": "2 explore",
    "collect": "3 collect",
    "finetune_dynamics": "4 dynamics",
    "finetune_policy": "5 policy",
    "finetune_online": "online",
    "finetune_offline": "offline",
    "final_evaluation": "final evaluation",
}


def time_table(runs: Sequence[Run]) -> Table:
    """The minutes of each stage, all rounds together; columns of the stages that any of the runs has."""
    finished = [run for run in runs if run.summary]
    stages = [name for name in _STAGES if any(name in _minutes(run) for run in finished)]
    rows = []
    for (*_, arm), members in grouped(finished, lambda run: (run.task, run.provenance, run.arm)).items():
        found = [_minutes(run) for run in members]
        of_stages = ([of[name] for of in found if name in of] for name in stages)
        cells = [f"{np.mean(of):.1f}" if of else "" for of in of_stages]
        threads = sorted({run.results["threads"] for run in members})
        rows.append(
            [members[0].paper_name, members[0].data, arm, count_seeds(members), ", ".join(map(str, threads)), *cells]
        )
    return Table(
        "table-time",
        "Minutes of each stage, all rounds together, mean over seeds, beside whatever else the machine had to do. "
        "Stage 1 is that of the run that trained it.",
        ["task", "data", "arm", "seeds", "threads", *(_STAGES[name] for name in stages)],
        rows,
        missing="" if rows else "no finished runs",
    )


def _minutes(run: Run) -> dict[str, float]:
    minutes: dict[str, float] = {}
    for stage in run.results["stages"]:
        minutes[stage["name"]] = minutes.get(stage["name"], 0.0) + stage["seconds"] / 60
    return minutes
