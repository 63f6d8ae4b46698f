"""Tables 2 and 6 of the paper for any runs, and the distances' whole distribution: the tail, and u beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from doof_ext.evaluation.rank_correlation import rank_correlation
from doof_ext.report.grouping import grouped
from doof_ext.report.runs import Run, count_seeds
from doof_ext.report.table import Table

_PAIRS = {
    "data": "recorded",
    "random_actions": "uniform actions",
    "uniform": "uniform",
    "fake_buffer": "fake buffer",
    "online": "D_on",
    "other": "other data",
}
"""What each kind of measured pairs is called."""
_REGIONS = ("data", "random_actions", "uniform")  # Figure 2's


def distance_table(runs: Sequence[Run], kind: str, number: int) -> Table:
    """Tables 2 and 6: the dynamics distance on pairs of one kind, uniform or fake_buffer, before and after stage 4."""
    of = {"uniform": "uniformly drawn pairs", "fake_buffer": "the fake buffer of stage 1"}[kind]
    finished = [run for run in runs if run.summary and run.finetunes_dynamics]
    rows: list[list[str]] = []
    best: set[tuple[int, int]] = set()
    lacking: list[str] = []
    for of_task in grouped(finished, lambda run: (run.task, run.provenance)).values():
        first, means = len(rows), []
        for arm, members in grouped(of_task, lambda run: run.arm).items():
            found = [run.results["distance"].get(kind, {}) for run in members]
            pairs = [(f["before"].get("mean"), f["after"].get("mean")) for f in found if f]
            pairs = [pair for pair in pairs if None not in pair]
            if not pairs:
                lacking.append(f"{of_task[0].paper_name} {arm}")
                continue
            before, after = np.mean(pairs, axis=0)
            largest = max(f["after"].get("max") or 0.0 for f in found if f)
            figures = f"{before:.4g}", f"{after:.4g}", f"{100 * (after - before) / before:+.1f} %", f"{largest:.4g}"
            rows.append([of_task[0].paper_name, of_task[0].data, arm, str(len(pairs)), *figures])
            means.append(after)
        if means:
            best.add((first + int(np.argmin(means)), 5))
    return Table(
        f"table-{number}",
        f"Dynamics distance (norm of predicted less true next state) on {of}, mean over pairs and "
        "seeds, before and after dynamics finetuning.",
        ["task", "data", "arm", "seeds", "before", "after", "change", "largest after"],
        rows,
        best,
        missing=f"no distances of {', '.join(lacking)}" if lacking else "" if rows else "no finished DOOF runs",
    )


def mean_table(runs: Sequence[Run]) -> Table:
    """The mean distance on every kind of pairs (Figure 4 as numbers, Tables 2 and 6 among them)."""
    return _over_pairs(
        runs,
        "table-distance",
        "The dynamics distance: its mean over pairs of each kind",
        lambda distances: float(np.mean(distances)),
    )


def tail_table(runs: Sequence[Run]) -> Table:
    """The long tail of Figure 5, on every kind of pairs."""
    return _over_pairs(
        runs,
        "table-tail",
        "The tail of the dynamics distance: its 99th percentile over pairs of each kind",
        lambda distances: float(np.quantile(distances, 0.99)),
    )


def _over_pairs(runs: Sequence[Run], name: str, caption: str, statistic: Callable[[np.ndarray], float]) -> Table:
    def cell(members: Sequence[Run], kind: str) -> str:
        measured = [run for run in members if kind in run.distances]
        if not measured or (kind == "other" and len({run.settings.get("distance_task") for run in measured}) > 1):
            return ""  # of several other tasks there is no mean
        found = [run.distances[kind] for run in measured]
        before, after = (np.mean([statistic(of[when]["distance"]) for of in found]) for when in ("before", "after"))
        return f"{before:.3g} → {after:.3g}"

    kept = [run for run in runs if run.summary and run.finetunes_dynamics and run.distances]
    return Table(
        name,
        f"{caption}, before → after dynamics finetuning, mean over seeds. D_on are the arm's own steps.",
        ["task", "data", "arm", "seeds", *_PAIRS.values()],
        [
            [members[0].paper_name, members[0].data, arm, count_seeds(members), *(cell(members, k) for k in _PAIRS)]
            for (*_, arm), members in grouped(kept, lambda run: (run.task, run.provenance, run.arm)).items()
        ],
        missing="" if kept else "finished runs with distances",
    )


def u_table(runs: Sequence[Run]) -> Table:
    """How u of the pretrained dynamics ranks pairs beside their distance (Figures 2 and 8 as a number)."""

    def ranked(run: Run, kinds: Sequence[str]) -> float | None:
        if not set(kinds) <= set(run.distances):
            return None
        before = [run.distances[kind]["before"] for kind in kinds]
        u, distance = (np.concatenate([of[name] for of in before]) for name in ("u", "distance"))
        return rank_correlation(u, distance)

    def cell(members: Sequence[Run], kinds: Sequence[str]) -> str:
        found = [value for value in (ranked(run, kinds) for run in members) if value is not None]
        return f"{np.mean(found):+.2f}" if found else ""

    kept = [run for run in runs if run.summary and run.distances and not run.control and not run.method]
    rows = [
        [
            members[0].paper_name,
            members[0].data,
            arm,
            count_seeds(members),
            *(cell(members, [kind]) for kind in _PAIRS),
            cell(members, _REGIONS),
        ]
        for (*_, arm), members in grouped(kept, lambda run: (run.task, run.provenance, run.arm)).items()
    ]
    return Table(
        "table-u",
        "Does u tell where the pretrained dynamics errs? Spearman's rank correlation of u and the dynamics distance "
        "over pairs of each kind, and over recorded pairs, those with uniform actions and uniform pairs together; mean "
        "over seeds. 1: the same order; 0: none.",
        ["task", "data", "arm", "seeds", *_PAIRS.values(), "first three together"],
        rows,
        missing="" if rows else "finished DOOF runs with distances",
    )
