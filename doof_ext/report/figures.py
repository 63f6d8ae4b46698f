"""Figures 1 to 8 of the paper for any runs: functions of run directories that give a :class:`Drawing`.

Where runs for a figure are missing, the drawing says which. Nothing here is global: figures are made without pyplot.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from doof_ext.report.runs import CONTROL, grouped

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by the colour-blind too
_CONTROL = "#888888"
_FLOOR = 1e-6  # where a distance of 0 stands on a logarithmic axis


@dataclass
class Drawing:
    """What a figure shows: ``draw(figure)`` fills a matplotlib Figure of ``size`` inches."""

    name: str
    question: str  # that the figure answers
    caption: str
    alt: str  # what is to be seen, in words and numbers
    size: tuple[float, float]
    draw: Callable
    missing: str = ""


def all_figures(runs) -> list[Drawing]:
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


def render(drawing, path, dark=False, **settings) -> None:
    """Draws into a file (a path, or a file object with ``format``), for a light or a dark page."""
    import matplotlib
    from matplotlib.figure import Figure

    ink, paper = ("#e6e6e6", "#16181d") if dark else ("#222222", "#ffffff")
    style = {
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "svg.hashsalt": "doof_ext",
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "figure.facecolor": paper,
        "axes.facecolor": paper,
        "savefig.facecolor": paper,
        "grid.color": ink,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=drawing.size, layout="constrained")
        drawing.draw(figure)
        if drawing.missing:
            figure.supxlabel(f"missing: {drawing.missing}", fontsize=7, style="italic", wrap=True)
        figure.savefig(path, **settings)


def _nothing(name, question, caption, missing) -> Drawing:
    def draw(figure):
        figure.text(0.5, 0.55, "nothing to draw yet", ha="center", va="center", fontsize=11)

    return Drawing(name, question, caption, f"Nothing to draw: {missing}.", (6, 1.6), draw, missing)


def _colour(arm, arms):
    doof = [other for other in arms if not other.startswith(CONTROL)]
    return _CONTROL if arm.startswith(CONTROL) else _COLOURS[doof.index(arm) % len(_COLOURS)]


def _label(run):
    return f"{run.paper_name}{' (recipe data)' if run.provenance == 'recipe' else ''}"


def _panels(figure, count, columns=3, **settings):
    columns = min(count, columns)
    axes = figure.subplots(-(-count // columns), columns, squeeze=False, **settings).flatten()
    for axis in axes[count:]:
        axis.set_visible(False)
    return axes[:count]


def _grid_size(count, width=3.2, height=2.6, columns=3):
    return max(4.2, width * min(count, columns)), height * -(-count // columns) + 0.3


# Distances ------------------------------------------------------------------------------------------------------

_REGIONS = {"data": "$s_D, a_D$", "random_actions": "$s_D$, random $a$", "uniform": "random $s, a$"}


def _with_distances(runs, kinds, first_task):
    """One run per task whose distances have the kinds, the first one; and the tasks that have none."""
    found, lacking = {}, []
    for task, members in grouped(runs, lambda run: (run.task, run.provenance)).items():
        chosen = next((r for r in members if not r.control and set(kinds) <= set(r.distances)), None)
        if chosen is not None:
            found[task] = chosen
        elif any(not run.problem for run in members):
            lacking.append(f"distances of {members[0].paper_name}")
    chosen = list(found.values())
    return chosen[: 1 if first_task else None], ", ".join(lacking)


def _violins(axis, columns, colours):
    logs = [np.log10(np.maximum(column, _FLOOR)) for column in columns]
    parts = axis.violinplot(logs, showmedians=True, widths=0.8)
    for body, colour in zip(parts["bodies"], colours, strict=False):
        body.set(facecolor=colour, alpha=0.55)
    for name in ("cbars", "cmins", "cmaxes", "cmedians"):
        parts[name].set(color=axis.xaxis.label.get_color(), linewidth=0.8)
    ticks = range(int(np.floor(min(map(np.min, logs)))), int(np.ceil(max(map(np.max, logs)))) + 1)
    axis.set_yticks(list(ticks), [f"$10^{{{tick}}}$" for tick in ticks])


def _medians(run, when, name):
    parts = [f"{kind.replace('_', ' ')} {np.median(run.distances[kind][when][name]):.3g}" for kind in _REGIONS]
    return f"{_label(run)}: {', '.join(parts)}"


def distance_distributions(runs, name, first_task=False) -> Drawing:
    """Figures 1 and 7: how far the pretrained dynamics is off where the data are and where they are not."""
    question = "Where is the pretrained dynamics model wrong?"
    caption = (
        "Distribution of the dynamics distance (norm of predicted less true next state) of P̂ on recorded pairs, "
        "recorded states with uniform actions, and uniform states and actions. Logarithmic axis; bars are "
        "medians and extremes."
    )
    chosen, missing = _with_distances(runs, _REGIONS, first_task)
    if not chosen:
        return _nothing(name, question, caption, missing or "a finished DOOF run")

    def draw(figure):
        for axis, run in zip(_panels(figure, len(chosen)), chosen, strict=True):
            _violins(axis, [run.distances[kind]["before"]["distance"] for kind in _REGIONS], _COLOURS)
            axis.set_xticks([1, 2, 3], _REGIONS.values())
            axis.set(title=_label(run), ylabel="dynamics distance")

    alt = f"Medians of the distance: {'; '.join(_medians(run, 'before', 'distance') for run in chosen)}."
    return Drawing(name, question, caption, alt, _grid_size(len(chosen)), draw, missing)


def distance_beside_u(runs, name, first_task=False) -> Drawing:
    """Figures 2 and 8: the same beside the uncertainty u, which is all that a policy can see of it."""
    question = "Does the uncertainty tell where the model is wrong?"
    caption = (
        "The dynamics distance (left of each pair) beside the uncertainty u (right) on the same pairs, for "
        "P̂. Nothing of u is clipped but by the model's soft bound on its variance."
    )
    chosen, missing = _with_distances(runs, _REGIONS, first_task)
    if not chosen:
        return _nothing(name, question, caption, missing or "a finished DOOF run")

    def draw(figure):
        axes = _panels(figure, 2 * len(chosen), columns=2 if len(chosen) == 1 else 4)
        for index, run in enumerate(chosen):
            for axis, column, label in zip(
                axes[2 * index :][:2], ("distance", "u"), ("dynamics distance", "uncertainty u"), strict=True
            ):
                _violins(axis, [run.distances[kind]["before"][column] for kind in _REGIONS], _COLOURS)
                axis.set_xticks([1, 2, 3], _REGIONS.values(), fontsize=7)
                axis.set(title=_label(run), ylabel=label)

    alt = "Medians, distance then u: " + "; ".join(
        f"{_medians(run, 'before', 'distance')}; u {_medians(run, 'before', 'u')}" for run in chosen
    )
    return Drawing(name, question, caption, f"{alt}.", _grid_size(2 * len(chosen), columns=4), draw, missing)


def offline_against_online(runs) -> Drawing:
    """Figure 4: the pretrained dynamics on D and on D_on; on D_on of π_off and on D_on of π_u."""
    name, question = "figure-4", "Do the collected steps show the model what it does not know?"
    caption = (
        "Mean distance of the pretrained dynamics on the offline data D, on steps that the pretrained policy "
        "collected (ratio 0), and on steps that an exploration policy collected; means over seeds."
    )
    of_tasks, lacking = {}, []
    for task, members in grouped(runs, lambda run: (run.task, run.provenance)).items():
        useful = [run for run in members if not run.control and {"data", "online"} <= set(run.distances)]
        if not useful:
            lacking += [f"distances on D_on of {members[0].paper_name}"] * any(not run.problem for run in members)
            continue
        bars = {"D": [float(np.mean(run.distances["data"]["before"]["distance"])) for run in useful]}
        for arm, of_arm in grouped(useful, lambda run: run.arm).items():
            label = "D_on (π_off)" if of_arm[0].settings["exploration_ratio"] == 0 else f"D_on ({arm})"
            bars[label] = [float(np.mean(run.distances["online"]["before"]["distance"])) for run in of_arm]
        if "D_on (π_off)" not in bars:
            lacking.append(f"{members[0].paper_name} at ratio 0")
        of_tasks[_label(useful[0])] = bars
    if not of_tasks:
        return _nothing(name, question, caption, ", ".join(lacking) or "a finished DOOF run")

    def draw(figure):
        for axis, (task, bars) in zip(_panels(figure, len(of_tasks)), of_tasks.items(), strict=True):
            means = [np.mean(values) for values in bars.values()]
            axis.barh(range(len(bars)), means, color=[_CONTROL, *_COLOURS[: len(bars) - 1]], alpha=0.8)
            for row, values in enumerate(bars.values()):
                axis.plot(values, [row] * len(values), "o", ms=3, color=axis.xaxis.label.get_color())
            axis.set_yticks(range(len(bars)), list(bars), fontsize=7)
            axis.invert_yaxis()
            axis.set(title=task, xlabel="mean dynamics distance")

    shown = (
        f"{task}: {', '.join(f'{label} {np.mean(values):.3g}' for label, values in bars.items())}"
        for task, bars in of_tasks.items()
    )
    size = _grid_size(len(of_tasks), 4, 2.4, 2)
    return Drawing(name, question, caption, f"Mean distances: {'; '.join(shown)}.", size, draw, ", ".join(lacking))


def other_dataset(runs) -> Drawing:
    """Figure 5: the distance on another, better dataset before and after stage 4."""
    name, question = "figure-5", "Is the finetuned model better where a good policy goes?"
    caption = (
        "Distribution of the dynamics distance on the data of another task of the same system "
        "(--distance-task), before and after dynamics finetuning."
    )
    chosen, _ = _with_distances(runs, ["other"], False)
    if not chosen:
        return _nothing(name, question, caption, "a finished DOOF run with --distance-task TASK")

    def draw(figure):
        for axis, run in zip(_panels(figure, len(chosen)), chosen, strict=True):
            columns = [run.distances["other"][when]["distance"] for when in ("before", "after")]
            _violins(axis, columns, _COLOURS)
            axis.set_xticks([1, 2], ["before", "after"])
            axis.set(title=f"{_label(run)} on {run.settings.get('distance_task')}", ylabel="dynamics distance")

    medians = (
        f"{_label(run)} from {np.median(run.distances['other']['before']['distance']):.3g} to "
        f"{np.median(run.distances['other']['after']['distance']):.3g}"
        for run in chosen
    )
    return Drawing(name, question, caption, f"Median distance: {'; '.join(medians)}.", _grid_size(len(chosen)), draw)


# Scores ---------------------------------------------------------------------------------------------------------


def exploration_change(runs) -> Drawing:
    """Figure 3: how much worse (or better) the exploration policy is than the pretrained one."""
    name, question = "figure-3", "What does exploring cost while it lasts?"
    caption = (
        "Score of the exploration policy π_u against the pretrained policy π_off, in per cent of the latter's "
        "score (its absolute value), per task and ratio λ_on : λ_off; points are seeds."
    )
    changes = {}
    for run in runs:
        scores = run.summary["scores"] if run.summary else {}
        if "exploration" in scores and run.settings["exploration_ratio"] > 0 and scores["pretrained"]["mean"]:
            before, after = scores["pretrained"]["mean"], scores["exploration"]["mean"]
            changes.setdefault((_label(run), run.arm), []).append(100 * (after - before) / abs(before))
    if not changes:
        return _nothing(name, question, caption, "a finished DOOF run with a ratio above 0")

    def draw(figure):
        axis, labels = figure.subplots(), [f"{task}\n{arm}" for task, arm in changes]
        axis.bar(range(len(changes)), [np.mean(values) for values in changes.values()], color=_COLOURS[0], alpha=0.7)
        for place, values in enumerate(changes.values()):
            axis.plot([place] * len(values), values, "o", ms=4, color=_COLOURS[1])
        axis.axhline(0, lw=0.8, color=axis.xaxis.label.get_color())
        axis.set_xticks(range(len(changes)), labels, fontsize=7)
        axis.set(ylabel="change of the score, %", xlim=(-1, len(changes)))

    alt = "; ".join(f"{task}, {arm}: {np.mean(values):+.0f} %" for (task, arm), values in changes.items())
    return Drawing(name, question, caption, f"Mean changes: {alt}.", (max(4.2, 1.3 * len(changes)), 3), draw)


def _curves(runs):
    """By task, by arm: steps [T] and scores [seeds, T] of stage 5, cut to the shortest seed."""
    found = {}
    for run in runs:
        points = run.finetuning()
        if points and (run.summary or run.problem.startswith("unfinished")):
            found.setdefault(_label(run), {}).setdefault(run.arm, []).append(points)
    curves = {}
    for task, arms in found.items():
        for arm, seeds in arms.items():
            length = min(map(len, seeds))
            steps = np.array([step for _, step, _ in seeds[0][:length]])
            scores = np.array([[score for *_, score in points[:length]] for points in seeds])
            curves.setdefault(task, {})[arm] = steps, scores
    return curves


def _pretrained(runs, task):
    found = [run.summary["scores"]["pretrained"]["mean"] for run in runs if run.summary and _label(run) == task]
    return float(np.mean(found)) if found else None


def finetuning_curves(runs) -> Drawing:
    """Figure 6a and b: finetuning per ratio, the data of π_off as ratio 0, and the control."""
    name, question = "figure-6ab", "Does the policy improve in the better model, and more than by training longer?"
    caption = (
        "Score during policy finetuning (stage 5) per exploration ratio: mean and one standard deviation over "
        "seeds. Ratio 0 collected with the pretrained policy; the control trained as long in the pretrained "
        "model without online data. Dotted: the pretrained policy."
    )
    single = [run for run in runs if run.settings["rounds"] == 1]
    curves = _curves(single)
    if not curves:
        return _nothing(name, question, caption, "a run that has reached stage 5")
    lacking = [
        f"{what} of {task}"
        for task, arms in curves.items()
        for what, there in (
            ("a control run", any(arm.startswith(CONTROL) for arm in arms)),
            ("ratio 0", "ratio 0" in arms),
        )
        if not there
    ]

    def draw(figure):
        for axis, (task, arms) in zip(_panels(figure, len(curves), columns=2), curves.items(), strict=True):
            for arm, (steps, scores) in arms.items():
                mean, spread, colour = scores.mean(0), scores.std(0), _colour(arm, list(arms))
                label = f"{arm} ({len(scores)} seed{'s' * (len(scores) > 1)})"
                axis.plot(steps / 1000, mean, color=colour, label=label, lw=1.4, marker="." if len(mean) < 8 else None)
                axis.fill_between(steps / 1000, mean - spread, mean + spread, color=colour, alpha=0.2, lw=0)
            before = _pretrained(single, task)
            if before is not None:
                axis.axhline(before, ls=":", lw=1, color=axis.xaxis.label.get_color())
            axis.set(title=task, xlabel="gradient steps of stage 5, thousands", ylabel="normalised score")
            axis.legend(fontsize=7)

    return Drawing(
        name, question, caption, _ends(curves), _grid_size(len(curves), 4.6, 3.2, 2), draw, ", ".join(lacking)
    )


def _ends(curves):
    ends = (
        f"{task}: {', '.join(f'{arm} {scores[:, -1].mean():.1f}' for arm, (_, scores) in arms.items())}"
        for task, arms in curves.items()
    )
    return f"Scores at the end: {'; '.join(ends)}."


def rounds_curve(runs) -> Drawing:
    """Figure 6c: several rounds of collecting and finetuning."""
    name, question = "figure-6c", "Does a second round repair what the first one spoilt?"
    caption = "Score during policy finetuning over several rounds of stages 2 to 5; dashed lines: a new round."
    several = [run for run in runs if run.settings["rounds"] > 1]
    curves = _curves(several)
    if not curves:
        return _nothing(name, question, caption, "a run with --rounds 2")
    starts = {}
    for run in several:
        points = run.finetuning()
        changes = [b[1] for a, b in itertools.pairwise(points) if a[0] != b[0]]
        starts.setdefault(_label(run), set()).update(changes)

    def draw(figure):
        for axis, (task, arms) in zip(_panels(figure, len(curves), columns=2), curves.items(), strict=True):
            for arm, (steps, scores) in arms.items():
                axis.plot(steps / 1000, scores.mean(0), color=_colour(arm, list(arms)), label=arm, marker=".")
            for step in starts[task]:
                axis.axvline(step / 1000, ls="--", lw=0.8, color=axis.xaxis.label.get_color())
            axis.set(title=task, xlabel="gradient steps of stage 5, thousands", ylabel="normalised score")
            axis.legend(fontsize=7)

    return Drawing(name, question, caption, _ends(curves), _grid_size(len(curves), 4.6, 3.2, 2), draw)
