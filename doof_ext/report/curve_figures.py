"""Figures 3 and 6: what exploring costs, and the scores while the policy is finetuned."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from doof_ext.config.settings import CONTROLS
from doof_ext.evaluation.returns import mean_of_last_10
from doof_ext.report.drawing import (
    COLOURS,
    Drawing,
    arm_colour,
    arm_line,
    grid_size,
    nothing_to_draw,
    panels,
    run_label,
)
from doof_ext.report.grouping import grouped
from doof_ext.report.runs import CONTROL, Run, gains_over, is_scored

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEGEND_POINTS = 7
_LEGEND_LINE, _LEGEND_GAP = 0.125, 0.06  # inches of a line of that size, and between entries

_Curves = dict[str, dict[str, tuple[np.ndarray, np.ndarray, float]]]
"""By task, by arm: steps [T] and scores [seeds, T] of stage 5, and the mean over seeds of its score at the end."""


def exploration_change(runs: Sequence[Run]) -> Drawing:
    """Figure 3: how much worse (or better) the exploration policy is than the pretrained one."""
    name, question = "figure-3", "What does exploring cost while it lasts?"
    caption = (
        "Score of the exploration policy π_u against the pretrained policy π_off, in per cent of the latter's "
        "score (its absolute value), per task and ratio λ_on : λ_off; points are seeds."
    )
    changes: dict[tuple[str, str], list[float]] = {}
    for run in filter(is_scored, runs):
        scores = run.results["scores"]
        if "exploration" in scores and run.settings["exploration_ratio"] != 0 and scores["pretrained"]["last_10"]:
            before, after = scores["pretrained"]["last_10"], scores["exploration"]["last_10"]
            changes.setdefault((run_label(run), run.arm), []).append(100 * (after - before) / abs(before))
    if not changes:
        return nothing_to_draw(name, question, caption, "a finished DOOF run with a ratio above 0")

    def draw(figure: Figure) -> None:
        axis, labels = figure.subplots(), [f"{task}\n{arm}" for task, arm in changes]
        axis.bar(range(len(changes)), [np.mean(values) for values in changes.values()], color=COLOURS[0], alpha=0.7)
        for place, values in enumerate(changes.values()):
            axis.plot([place] * len(values), values, "o", ms=4, color=COLOURS[1])
        axis.axhline(0, lw=0.8, color=axis.xaxis.label.get_color())
        axis.set_xticks(range(len(changes)), labels, fontsize=7)
        axis.set(ylabel="change of the score, %", xlim=(-1, len(changes)))

    alt = "; ".join(f"{task}, {arm}: {np.mean(values):+.0f} %" for (task, arm), values in changes.items())
    return Drawing(name, question, caption, f"Mean changes: {alt}.", (max(4.2, 1.3 * len(changes)), 3), draw)


def _curves(runs: Sequence[Run]) -> _Curves:
    """The curves of the runs that have any, cut to the shortest seed."""
    found: dict[str, dict[str, list[list[tuple[int, int, float]]]]] = {}
    for run in runs:
        points = run.finetuning()
        if points and (run.summary or run.problem.startswith("unfinished")):
            found.setdefault(run_label(run), {}).setdefault(run.arm, []).append(points)
    curves: _Curves = {}
    for task, arms in found.items():
        for arm, seeds in arms.items():
            length = min(map(len, seeds))
            steps = np.array([step for _, step, _ in seeds[0][:length]])
            scores = np.array([[score for *_, score in points[:length]] for points in seeds])
            last_rounds = [[score for round, _, score in points if round == points[-1][0]] for points in seeds]
            end = float(np.mean(list(map(mean_of_last_10, last_rounds))))
            curves.setdefault(task, {})[arm] = steps, scores, end
    return curves


def _pretrained(runs: Sequence[Run], task: str) -> float | None:
    of_task = [run for run in runs if is_scored(run) and run.method is None and run_label(run) == task]
    found = [run.results["scores"]["pretrained"]["last_10"] for run in of_task]
    return float(np.mean(found)) if found else None


def finetuning_curves(runs: Sequence[Run]) -> Drawing:
    """Figure 6a and b: policy finetuning per exploration ratio, and the controls; ratio 0 is the data of π_off."""
    name, question = "figure-6ab", "Does the policy improve in the better model, and more than by training longer?"
    caption = (
        "Score during policy finetuning (stage 5) per exploration ratio: mean and one standard deviation over "
        "seeds. Ratio 0 collected with the pretrained policy. The controls have no online data: no-online-data "
        "trained dynamics and policy as long on D alone, extra-training the policy alone, in the pretrained model. "
        "The legend has each arm's gain over the controls, by scores that are means of the last ten evaluations. "
        "Dotted: the policy that DOOF pretrained."
    )
    single = [run for run in runs if run.rounds == 1]
    curves = _curves(single)
    if not curves:
        return nothing_to_draw(name, question, caption, "a run that has reached stage 5")
    lacking = [
        f"{what} of {task}"
        for task, arms in curves.items()
        for what, there in (
            (f"a control run ({CONTROLS[0]})", any(arm.startswith(f"{CONTROL} {CONTROLS[0]}") for arm in arms)),
            ("ratio 0", "ratio 0" in arms),
        )
        if not there
    ]
    gains = _gains_over_controls(single)

    def draw(figure: Figure) -> None:
        for axis, (task, arms) in zip(panels(figure, len(curves), columns=2), curves.items(), strict=True):
            for arm, (steps, scores, _) in arms.items():
                mean, spread, colour = scores.mean(0), scores.std(0), arm_colour(arm, list(arms))
                seeds = f"{arm} ({len(scores)} seed{'s' * (len(scores) > 1)})"
                label = "\n".join([seeds, *gains.get(task, {}).get(arm, [])])
                axis.plot(
                    steps / 1000,
                    mean,
                    color=colour,
                    label=label,
                    lw=1.4,
                    ls=arm_line(arm, list(arms)),
                    marker="." if len(mean) < 8 else None,
                )
                axis.fill_between(steps / 1000, mean - spread, mean + spread, color=colour, alpha=0.2, lw=0)
            before = _pretrained(single, task)
            if before is not None:
                axis.axhline(before, ls=":", lw=1, color=axis.xaxis.label.get_color())
            axis.set(title=task, xlabel="gradient steps of stage 5, thousands", ylabel="normalised score")
            # beside the curves: arms are many
            axis.legend(fontsize=_LEGEND_POINTS, loc="center left", bbox_to_anchor=(1, 0.5))

    legends = [[1 + len(gains.get(task, {}).get(arm, [])) for arm in arms] for task, arms in curves.items()]
    tallest = max(_LEGEND_LINE * sum(lines) + _LEGEND_GAP * len(lines) for lines in legends)
    size = grid_size(len(curves), 6, max(3.4, tallest), 2)
    return Drawing(name, question, caption, _ends(curves, gains), size, draw, ", ".join(lacking))


def _gains_over_controls(runs: Sequence[Run]) -> dict[str, dict[str, list[str]]]:
    """By task and arm of finished runs: the mean gain over each control that has ended, the strictest first."""
    told: dict[str, dict[str, list[str]]] = {}
    finished = [run for run in runs if run.summary]
    for task, of_task in grouped(finished, run_label).items():
        for arm, members in grouped(of_task, lambda run: run.arm).items():
            over = {control: gains_over(members, of_task, control) for control in CONTROLS}
            lines = [f"{np.mean(gains):+.1f} over {control}" for control, gains in over.items() if gains]
            told.setdefault(task, {})[arm] = lines
    return told


def _ends(curves: _Curves, gains: dict[str, dict[str, list[str]]]) -> str:
    """What the curves come to, in words: the mean score of each arm, and its gain over the controls."""
    ends = []
    for task, arms in curves.items():
        of_arms = []
        for arm, (_, _, end) in arms.items():
            over = "".join(f", {line}" for line in gains.get(task, {}).get(arm, []))
            of_arms.append(f"{arm} {end:.1f}{over}")
        ends.append(f"{task}: {'; '.join(of_arms)}")
    return f"Scores at the end: {'. '.join(ends)}."


def rounds_curve(runs: Sequence[Run]) -> Drawing:
    """Figure 6c: several rounds of collecting and finetuning."""
    name, question = "figure-6c", "Does a second round repair what the first one spoilt?"
    caption = "Score during policy finetuning over several rounds of stages 2 to 5; dashed lines: a new round."
    several = [run for run in runs if run.rounds > 1]
    curves = _curves(several)
    if not curves:
        return nothing_to_draw(name, question, caption, "a run with --rounds 2")
    starts: dict[str, set[int]] = {}
    for run in several:
        points = run.finetuning()
        changes = [b[1] for a, b in itertools.pairwise(points) if a[0] != b[0]]
        starts.setdefault(run_label(run), set()).update(changes)

    def draw(figure: Figure) -> None:
        for axis, (task, arms) in zip(panels(figure, len(curves), columns=2), curves.items(), strict=True):
            for arm, (steps, scores, _) in arms.items():
                colour, line = arm_colour(arm, list(arms)), arm_line(arm, list(arms))
                axis.plot(steps / 1000, scores.mean(0), color=colour, ls=line, label=arm, marker=".")
            for step in starts[task]:
                axis.axvline(step / 1000, ls="--", lw=0.8, color=axis.xaxis.label.get_color())
            axis.set(title=task, xlabel="gradient steps of stage 5, thousands", ylabel="normalised score")
            axis.legend(fontsize=7)

    ends = _ends(curves, _gains_over_controls(several))
    return Drawing(name, question, caption, ends, grid_size(len(curves), 4.6, 3.2, 2), draw)
