"""Figures 3 and 6: what exploring costs, and the scores while the policy is finetuned."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from doof_ext.report.drawing import COLOURS, Drawing, arm_colour, grid_size, nothing_to_draw, panels, run_label
from doof_ext.report.runs import CONTROL, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Curves = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]
"""By task, by arm: steps [T] and scores [seeds, T] of stage 5."""


def exploration_change(runs: Sequence[Run]) -> Drawing:
    """Figure 3: how much worse (or better) the exploration policy is than the pretrained one."""
    name, question = "figure-3", "What does exploring cost while it lasts?"
    caption = (
        "Score of the exploration policy π_u against the pretrained policy π_off, in per cent of the latter's "
        "score (its absolute value), per task and ratio λ_on : λ_off; points are seeds."
    )
    changes: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        scores = run.summary["scores"] if run.summary else {}
        if "exploration" in scores and run.settings["exploration_ratio"] != 0 and scores["pretrained"]["mean"]:
            before, after = scores["pretrained"]["mean"], scores["exploration"]["mean"]
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
            curves.setdefault(task, {})[arm] = steps, scores
    return curves


def _pretrained(runs: Sequence[Run], task: str) -> float | None:
    found = [run.summary["scores"]["pretrained"]["mean"] for run in runs if run.summary and run_label(run) == task]
    return float(np.mean(found)) if found else None


def finetuning_curves(runs: Sequence[Run]) -> Drawing:
    """Figure 6a and b: policy finetuning per exploration ratio, and the control; ratio 0 is the data of π_off."""
    name, question = "figure-6ab", "Does the policy improve in the better model, and more than by training longer?"
    caption = (
        "Score during policy finetuning (stage 5) per exploration ratio: mean and one standard deviation over "
        "seeds. Ratio 0 collected with the pretrained policy; the control trained as long in the pretrained "
        "model without online data. Dotted: the pretrained policy."
    )
    single = [run for run in runs if run.settings["rounds"] == 1]
    curves = _curves(single)
    if not curves:
        return nothing_to_draw(name, question, caption, "a run that has reached stage 5")
    lacking = [
        f"{what} of {task}"
        for task, arms in curves.items()
        for what, there in (
            ("a control run", any(arm.startswith(CONTROL) for arm in arms)),
            ("ratio 0", "ratio 0" in arms),
        )
        if not there
    ]

    def draw(figure: Figure) -> None:
        for axis, (task, arms) in zip(panels(figure, len(curves), columns=2), curves.items(), strict=True):
            for arm, (steps, scores) in arms.items():
                mean, spread, colour = scores.mean(0), scores.std(0), arm_colour(arm, list(arms))
                label = f"{arm} ({len(scores)} seed{'s' * (len(scores) > 1)})"
                axis.plot(steps / 1000, mean, color=colour, label=label, lw=1.4, marker="." if len(mean) < 8 else None)
                axis.fill_between(steps / 1000, mean - spread, mean + spread, color=colour, alpha=0.2, lw=0)
            before = _pretrained(single, task)
            if before is not None:
                axis.axhline(before, ls=":", lw=1, color=axis.xaxis.label.get_color())
            axis.set(title=task, xlabel="gradient steps of stage 5, thousands", ylabel="normalised score")
            axis.legend(fontsize=7)

    return Drawing(
        name, question, caption, _ends(curves), grid_size(len(curves), 4.6, 3.2, 2), draw, ", ".join(lacking)
    )


def _ends(curves: _Curves) -> str:
    ends = (
        f"{task}: {', '.join(f'{arm} {scores[:, -1].mean():.1f}' for arm, (_, scores) in arms.items())}"
        for task, arms in curves.items()
    )
    return f"Scores at the end: {'; '.join(ends)}."


def rounds_curve(runs: Sequence[Run]) -> Drawing:
    """Figure 6c: several rounds of collecting and finetuning."""
    name, question = "figure-6c", "Does a second round repair what the first one spoilt?"
    caption = "Score during policy finetuning over several rounds of stages 2 to 5; dashed lines: a new round."
    several = [run for run in runs if run.settings["rounds"] > 1]
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
            for arm, (steps, scores) in arms.items():
                axis.plot(steps / 1000, scores.mean(0), color=arm_colour(arm, list(arms)), label=arm, marker=".")
            for step in starts[task]:
                axis.axvline(step / 1000, ls="--", lw=0.8, color=axis.xaxis.label.get_color())
            axis.set(title=task, xlabel="gradient steps of stage 5, thousands", ylabel="normalised score")
            axis.legend(fontsize=7)

    return Drawing(name, question, caption, _ends(curves), grid_size(len(curves), 4.6, 3.2, 2), draw)
