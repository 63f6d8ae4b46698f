"""Tables 3 and 7 of the paper for any runs, with what DOOF is compared with; as CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from doof_ext.config.settings import CONTROLS
from doof_ext.errors import UserError
from doof_ext.report.grouping import grouped
from doof_ext.report.runs import COMPARISONS, CONTROL, Run, count_seeds, gains_over, is_scored, kind_order
from doof_ext.report.table import Table
from doof_ext.tasks import get_spec

_REPETITIONS = 2000  # of the bootstrap
_FEWEST = 3  # seeds of one task that Student's interval is told of
_ENOUGH = 5  # pairs of runs whose bootstrap is told


def _spread(values: Sequence[float]) -> str:
    """The mean and, of several seeds, the standard deviation; "" of none."""
    if not values:
        return ""
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values):.1f}" if len(values) > 1 else "")


def _scores(runs: Sequence[Run], name: str, measure: str = "last_10") -> list[Any]:
    found = [run.results["scores"][name][measure] for run in runs if name in run.results["scores"]]
    return [score for score in found if score is not None]


def _beside(runs: Sequence[Run], measure: str) -> str:
    """The finetuned policies' last, best or final score, of the runs that have it."""
    found = _scores(runs, "finetuned", measure)
    return _spread([score["mean"] for score in found] if measure == "final" else found)


def _gains(runs: Sequence[Run]) -> list[float]:
    return [run.results["gain"] for run in runs if is_scored(run)]


def score_table(runs: Sequence[Run]) -> Table:
    """Table 3: scores before and after, DOOF's gain per arm, and its gain over each control and over ratio 0."""
    finished = [run for run in runs if run.summary]
    rows: list[list[str]] = []
    best: set[tuple[int, int]] = set()
    faded: set[tuple[int, int]] = set()
    online = ["ON-10K"] if any(run.method for run in finished) else []
    column = 5 + len(online)  # the finetuned policy's
    for of_task in grouped(finished, lambda run: (run.task, run.provenance)).values():
        first, means = len(rows), []
        for arm, members in grouped(of_task, lambda run: run.arm).items():
            before, after = (_spread(_scores(members, name)) for name in ("pretrained", "finetuned"))
            between = [_spread(_scores(members, "online")) for _ in online]
            faded |= {
                (len(rows), 5 + i)
                for i, name in enumerate(["online"] * len(online) + ["finetuned"])
                if _fell(members, name)
            }
            beside = [_beside(members, measure) for measure in ("mean", "best", "final")]
            data, count = of_task[0].data, count_seeds(members)
            over = [_mean_over(gains_over(members, of_task, other), int(count)) for other in COMPARISONS]
            gains = _gains(members)
            gain = f"{np.mean(gains):+.1f}" if gains else ""
            rows.append([of_task[0].paper_name, data, arm, count, before, *between, after, *beside, gain, *over])
            means.append(np.mean(_scores(members, "finetuned") or [-np.inf]))
        if max(means) > -np.inf:
            best.add((first + int(np.argmax(means)), column))
    strict = CONTROLS[0]
    ours = [run for run in finished if run.method is None]
    without = sorted({r.paper_name for r in ours} - {r.paper_name for r in ours if r.control == strict})
    return Table(
        "table-3",
        "Scores before and after finetuning, × 100 on D4RL's scale: mean (± deviation) over seeds. A score is the mean "
        "of a stage's last ten evaluations; last, best and final are the finetuned policy's last evaluation, its best, "
        "and the one at the end. The last columns are DOOF's gain less another arm's, of the seeds that both have: "
        "no-online-data trains dynamics and policy as long on D alone, extra-training the policy alone, ratio 0 is "
        "DOOF with steps that the pretrained policy collected; of three seeds or more with Student's 95 % interval."
        f"{_of_baselines(finished)}"
        f"{_of_older_runs(finished)}{_unequal_steps(finished)}",
        ["task", "data", "arm", "seeds", "pretrained", *online, "finetuned", "last", "best", "final", "gain"]
        + [f"over {other}" for other in COMPARISONS],
        rows,
        best,
        faded,
        f"no control runs ({strict}) of {', '.join(without)}" if without else "",
    )


def _fell(runs: Sequence[Run], name: str) -> bool:
    """Whether the mean score of a policy is below the pretrained one's."""
    before, after = (_scores(runs, of) for of in ("pretrained", name))
    return bool(before and after) and float(np.mean(after)) < float(np.mean(before))


def _of_baselines(runs: Sequence[Run]) -> str:
    if not any(run.method for run in runs):
        return ""
    return (
        " Of a baseline, ON-10K is the score after the online steps, finetuned (OFF-300K) that after the steps on all "
        "data which follow. Grey: below the pretrained score."
    )


def _mean_over(gains: Sequence[float], seeds: int) -> str:
    """The mean gain over another arm, of _FEWEST seeds with its interval; with their number where the arm has more."""
    if not gains:
        return ""
    told = f"{np.mean(gains):+.1f}"
    if len(gains) >= _FEWEST:
        low, high = student_interval(gains)
        told += f" [{low:+.1f}, {high:+.1f}]"
    return told + (f" ({len(gains)} seed{'s' * (len(gains) > 1)})" if len(gains) < seeds else "")


def _of_older_runs(runs: Sequence[Run]) -> str:
    older = [run for run in runs if is_scored(run) and run.results["scores"]["finetuned"]["best"] is None]
    return " Runs of earlier versions have the score of the last evaluation alone." if older else ""


def _unequal_steps(runs: Sequence[Run]) -> str:
    """A sentence where stage 4 of the strict control took another number of steps than DOOF's."""
    steps: dict[str, dict[str, float]] = {}
    for run in (run for run in runs if run.finetunes_dynamics):
        where = ", ".join([run.paper_name, *run.variant, f"seed {run.seed}"])
        of_stage_4 = (s["gradient_steps"] for s in run.results["stages"] if s["name"] == "finetune_dynamics")
        steps.setdefault(where, {})[run.arm] = sum(of_stage_4)
    told = [
        f"{where}: {', '.join(f'{arm} {count:.0f}' for arm, count in arms.items())}"
        for where, arms in steps.items()
        if len(set(arms.values())) > 1 and any(arm.startswith(CONTROL) for arm in arms)
    ]
    if not told:
        return ""
    return f" Stage 4's stopping rule gave the arms other numbers of gradient steps ({'; '.join(told)})."


def student_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of a few differences; a bootstrap of three is no wider than they are.

    Raises:
        UserError: SciPy, which rliable brings, is not installed.
    """
    try:
        from scipy.stats import t
    except ImportError as error:
        raise UserError("intervals need SciPy: pip install 'doof_ext[report]'") from error
    mean, error_of_mean = np.mean(differences), np.std(differences, ddof=1) / np.sqrt(len(differences))
    half = t.ppf(0.975, len(differences) - 1) * error_of_mean
    return float(mean - half), float(mean + half)


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
    finished = [run for run in runs if is_scored(run)]
    rows: list[list[str]] = []
    uneven: list[str] = []
    order: dict[tuple[str, str], int] = {}
    for (quality, arm), members in grouped(finished, lambda run: (_quality(run), run.arm)).items():
        tasks = list(grouped(members, lambda run: (run.task, run.provenance)).values())
        gains = [_gains(of_task) for of_task in tasks]
        cells = [quality, arm, str(len(tasks)), _seeds(gains), f"{_mean(gains):+.1f}"]
        if _balanced(gains):
            (_, low, high), (iqm, iqm_low, iqm_high) = intervals(np.array(gains).T)
            told = len(gains[0]) > 1
            cells += [f"[{low:+.1f}, {high:+.1f}]" * told, f"{iqm:+.1f}", f"[{iqm_low:+.1f}, {iqm_high:+.1f}]" * told]
        else:
            cells += [""] * 3
            uneven.append(f"{quality}, {arm}: IQM and intervals, since its tasks have {_seeds(gains)} seeds")
        rows.append([*cells, *(_interval_over(tasks, finished, other) for other in COMPARISONS)])
        order[quality, arm] = kind_order(members[0])
    rows.sort(key=lambda row: (row[0], order[row[0], row[1]], row[1]))
    return Table(
        "table-7",
        "Average gain per kind of dataset, the mean of the tasks' means, with 95 % stratified bootstrap intervals over "
        f"seeds ({_REPETITIONS} repetitions), which are too narrow of a few seeds and left out of one. The last "
        "columns are the mean gain over another arm, of the tasks and seeds that both have, with its interval from "
        f"{_ENOUGH} pairs of runs on.",
        ["datasets", "arm", "tasks", "seeds", "mean gain", "95 % of mean", "IQM gain", "95 % of IQM"]
        + [f"over {other}" for other in COMPARISONS],
        rows,
        missing="; ".join(uneven) if rows else "no finished runs",
    )


def _balanced(gains: Sequence[Sequence[float]]) -> bool:
    """Whether all tasks have the same number of seeds."""
    return len(set(map(len, gains))) == 1


def _mean(gains: Sequence[Sequence[float]]) -> float:
    return float(np.mean([np.mean(of_task) for of_task in gains]))


def _seeds(gains: Sequence[Sequence[float]]) -> str:
    fewest, most = min(map(len, gains)), max(map(len, gains))
    return str(most) if fewest == most else f"{fewest} to {most}"


def _interval_over(tasks: Sequence[Sequence[Run]], finished: Sequence[Run], other: str) -> str:
    """The mean gain of an arm over another, of the tasks that have both; its interval, of several seeds in each."""
    found = []
    for of_task in tasks:
        first = of_task[0]
        same = [run for run in finished if (run.task, run.provenance) == (first.task, first.provenance)]
        found.append(gains_over(of_task, same, other))
    found = [gains for gains in found if gains]
    if not found:
        return ""
    seeds = _seeds(found)
    interval = ""
    if _balanced(found) and len(found[0]) > 1 and len(found) * len(found[0]) >= _ENOUGH:
        (_, low, high), _ = intervals(np.array(found).T)
        interval = f" [{low:+.1f}, {high:+.1f}]"
    of_all = f" of {seeds} seed{'s' * (seeds != '1')} of {len(found)} task{'s' * (len(found) > 1)}"
    fewer = sum(map(len, found)) < sum(map(len, tasks))
    return f"{_mean(found):+.1f}" + interval + of_all * fewer


def _quality(run: Run) -> str:
    try:
        return get_spec(run.task).quality or "own"
    except UserError:
        return "own"
