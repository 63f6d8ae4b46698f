"""Tables 2, 3, 6 and 7 of the paper for any runs, with the control beside DOOF; as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from doof_ext.errors import UserError
from doof_ext.report.runs import CONTROL, Run, grouped
from doof_ext.tasks import get_spec

_REPETITIONS = 2000  # of the bootstrap


@dataclass
class Table:
    """Rows of text under headings.

    Attributes:
        best: The cells to set in bold, (row, column).
        missing: Which runs it lacks.
    """

    name: str
    caption: str
    headings: list[str]
    rows: list[list[str]]
    best: set[tuple[int, int]] = field(default_factory=set)
    missing: str = ""

    def csv(self) -> str:
        """Comma-separated values."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.headings, *self.rows])
        return text.getvalue()

    def markdown(self) -> str:
        """A pipe table, the best in bold."""
        rows = [
            [f"**{cell}**" if (i, j) in self.best else cell for j, cell in enumerate(row)]
            for i, row in enumerate(self.rows)
        ]
        lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in [self.headings, *rows]]
        lines.insert(1, "|---" * len(self.headings) + "|")
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """A tabular of booktabs, the best in bold."""
        lines = [r"\begin{tabular}{" + "l" + "r" * (len(self.headings) - 1) + "}", r"\toprule"]
        lines += [" & ".join(map(_tex, self.headings)) + r" \\", r"\midrule"]
        for i, row in enumerate(self.rows):
            cells = [rf"\textbf{{{_tex(cell)}}}" if (i, j) in self.best else _tex(cell) for j, cell in enumerate(row)]
            lines.append(" & ".join(cells) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _tex(text: str) -> str:
    for plain, escaped in (
        ("&", r"\&"),
        ("%", r"\%"),
        ("_", r"\_"),
        ("#", r"\#"),
        ("±", r"$\pm$"),
        ("→", r"$\to$"),
        ("λ", r"$\lambda$"),
        ("−", "$-$"),
    ):
        text = text.replace(plain, escaped)
    return text


def all_tables(runs: Sequence[Run]) -> list[Table]:
    """Tables 2, 3, 6 and 7."""
    return [
        distance_table(runs, "uniform", 2),
        score_table(runs),
        distance_table(runs, "fake_buffer", 6),
        aggregate_table(runs),
    ]


def _spread(values: Sequence[float]) -> str:
    """The mean and, of several seeds, the standard deviation."""
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values):.1f}" if len(values) > 1 else "")


def _scores(runs: Sequence[Run], name: str) -> list[float]:
    return [run.results["scores"][name]["mean"] for run in runs if name in run.results["scores"]]


def _gains(runs: Sequence[Run]) -> list[float]:
    return [run.results["gain"] for run in runs]


def score_table(runs: Sequence[Run]) -> Table:
    """Table 3: scores before and after, DOOF's gain per arm, and the control's beside it."""
    finished = [run for run in runs if run.summary]
    rows: list[list[str]] = []
    best: set[tuple[int, int]] = set()
    for of_task in grouped(finished, lambda run: (run.task, run.provenance)).values():
        arms = grouped(of_task, lambda run: run.arm)
        first, means = len(rows), []
        controls = _gains([run for run in of_task if run.control])
        for arm, members in arms.items():
            gain = np.mean(_gains(members))
            beside = "" if members[0].control or not controls else f"{gain - np.mean(controls):+.1f}"
            before, after = (_spread(_scores(members, name)) for name in ("pretrained", "finetuned"))
            data, count = _data(of_task[0]), str(len(members))
            rows.append([of_task[0].paper_name, data, arm, count, before, after, f"{gain:+.1f}", beside])
            means.append(np.mean(_scores(members, "finetuned")))
        best.add((first + int(np.argmax(means)), 5))
    without = sorted({run.paper_name for run in finished} - {run.paper_name for run in finished if run.control})
    return Table(
        "table-3",
        "Scores before and after finetuning, × 100 on D4RL's scale: mean (± deviation) over seeds. The last "
        "column is DOOF's gain less that of the control, which trained as long without online data.",
        ["task", "data", "arm", "seeds", "pretrained", "finetuned", "gain", "gain − control's"],
        rows,
        best,
        f"no control runs of {', '.join(without)}" if without else "",
    )


def _data(run: Run) -> str:
    return "recipe data" if run.provenance == "recipe" else f"{run.provenance} data"


def distance_table(runs: Sequence[Run], kind: str, number: int) -> Table:
    """Tables 2 and 6: the dynamics distance on pairs of one kind, uniform or fake_buffer, before and after stage 4."""
    of = {"uniform": "uniformly drawn pairs", "fake_buffer": "the fake buffer of stage 1"}[kind]
    finished = [run for run in runs if run.summary and not run.control]
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
            rows.append([of_task[0].paper_name, _data(of_task[0]), arm, str(len(pairs)), *figures])
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
        f"no distances of {', '.join(lacking)}" if lacking else "" if rows else "no finished DOOF runs",
    )


def intervals(
    scores: np.ndarray, repetitions: int = _REPETITIONS, seed: int = 0
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and interquartile mean with 95 % stratified bootstrap intervals, by rliable.

    Args:
        scores: [seeds, tasks].
        repetitions: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        (mean, low, high) and (IQM, low, high).

    Raises:
        UserError: rliable is not installed.
    """
    try:
        from rliable import library, metrics
    except ImportError as error:
        raise UserError("aggregates need rliable: pip install 'doof_ext[report]'") from error

    state = np.random.get_state()
    np.random.seed(seed)  # rliable 1.2 ignores its random_state and draws from the global generator
    try:
        points, bounds = library.get_interval_estimates(
            {"": scores}, lambda x: np.array([metrics.aggregate_mean(x), metrics.aggregate_iqm(x)]), reps=repetitions
        )
    finally:
        np.random.set_state(state)
    mean, iqm = ((points[""][i], *bounds[""][:, i]) for i in range(2))
    return mean, iqm


def aggregate_table(runs: Sequence[Run]) -> Table:
    """Table 7: average gains per kind of dataset, with 95 % stratified bootstrap intervals (rliable)."""
    finished = [run for run in runs if run.summary]
    rows: list[list[str]] = []
    uneven: list[str] = []
    for (quality, arm), members in grouped(finished, lambda run: (_quality(run), run.arm)).items():
        tasks = list(grouped(members, lambda run: (run.task, run.provenance)).values())
        count = min(map(len, tasks))
        if count < max(map(len, tasks)):
            uneven.append(f"{quality}, {arm}: the first {count} seeds of each task")
        gains = np.array([_gains(of_task)[:count] for of_task in tasks]).T
        (mean, low, high), (iqm, iqm_low, iqm_high) = intervals(gains)
        rows.append(
            [
                quality,
                arm,
                str(len(tasks)),
                str(count),
                f"{mean:+.1f}",
                f"[{low:+.1f}, {high:+.1f}]",
                f"{iqm:+.1f}",
                f"[{iqm_low:+.1f}, {iqm_high:+.1f}]",
            ]
        )
    rows.sort(key=lambda row: (row[0], row[1].startswith(CONTROL), row[1]))
    return Table(
        "table-7",
        "Average gain per kind of dataset, with 95 % stratified bootstrap intervals over seeds and tasks "
        f"({_REPETITIONS} repetitions). Of a single seed an interval has no width: it then says nothing.",
        ["datasets", "arm", "tasks", "seeds", "mean gain", "95 % of mean", "IQM gain", "95 % of IQM"],
        rows,
        missing="; ".join(uneven) if rows else "no finished runs",
    )


def _quality(run: Run) -> str:
    try:
        return get_spec(run.task).quality or "own"
    except UserError:
        return "own"
