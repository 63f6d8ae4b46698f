"""Figures 1, 2, 4, 5, 7 and 8: the dynamics distance, and the uncertainty u beside it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from doof_ext.report.drawing import COLOURS, CONTROL_COLOUR, Drawing, grid_size, nothing_to_draw, panels, run_label
from doof_ext.report.grouping import grouped
from doof_ext.report.runs import RATIO_0, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FLOOR = 1e-6  # a distance of 0 is drawn here on a logarithmic axis
_REGIONS = {"data": "$s_D, a_D$", "random_actions": "$s_D$, random $a$", "uniform": "random $s, a$"}


def _with_distances(runs: Sequence[Run], kinds: Collection[str], first_task: bool) -> tuple[list[Run], str]:
    """The first run of each task whose distances have the kinds; and the tasks without such a run."""
    chosen: list[Run] = []
    lacking: list[str] = []
    for members in grouped(runs, lambda run: (run.task, run.provenance)).values():
        first = next((r for r in members if not r.control and set(kinds) <= set(r.distances)), None)
        if first is not None:
            chosen.append(first)
        elif any(not run.problem for run in members):
            lacking.append(f"distances of {members[0].paper_name}")
    return chosen[: 1 if first_task else None], ", ".join(lacking)


def _violins(axis: Axes, columns: Sequence[np.ndarray], colours: Sequence[str]) -> None:
    logs = [np.log10(np.maximum(column, _FLOOR)) for column in columns]
    parts: dict[str, Any] = axis.violinplot(logs, showmedians=True, widths=0.8)
    for body, colour in zip(parts["bodies"], colours, strict=False):
        body.set(facecolor=colour, alpha=0.55)
    for name in ("cbars", "cmins", "cmaxes", "cmedians"):
        parts[name].set(color=axis.xaxis.label.get_color(), linewidth=0.8)
    ticks = range(int(np.floor(min(map(np.min, logs)))), int(np.ceil(max(map(np.max, logs)))) + 1)
    axis.set_yticks(list(ticks), [f"$10^{{{tick}}}$" for tick in ticks])


def _medians(run: Run, when: str, name: str) -> str:
    parts = [f"{kind.replace('_', ' ')} {np.median(run.distances[kind][when][name]):.3g}" for kind in _REGIONS]
    return f"{run_label(run)}: {', '.join(parts)}"


def distance_distributions(runs: Sequence[Run], name: str, first_task: bool = False) -> Drawing:
    """Figures 1 and 7: the error of the pretrained dynamics on and off the data's distribution."""
    question = "Where is the pretrained dynamics model wrong?"
    caption = (
        "Distribution of the dynamics distance (norm of predicted less true next state) of P̂ on recorded pairs, "
        "recorded states with uniform actions, and uniform states and actions. Logarithmic axis; bars are "
        "medians and extremes."
    )
    chosen, missing = _with_distances(runs, _REGIONS, first_task)
    if not chosen:
        return nothing_to_draw(name, question, caption, missing or "a finished DOOF run")

    def draw(figure: Figure) -> None:
        for axis, run in zip(panels(figure, len(chosen)), chosen, strict=True):
            _violins(axis, [run.distances[kind]["before"]["distance"] for kind in _REGIONS], COLOURS)
            axis.set_xticks([1, 2, 3], _REGIONS.values())
            axis.set(title=run_label(run), ylabel="dynamics distance")

    alt = f"Medians of the distance: {'; '.join(_medians(run, 'before', 'distance') for run in chosen)}."
    return Drawing(name, question, caption, alt, grid_size(len(chosen)), draw, missing)


def distance_beside_u(runs: Sequence[Run], name: str, first_task: bool = False) -> Drawing:
    """Figures 2 and 8: the same error beside the uncertainty u, the only estimate of it that a policy has."""
    question = "Does the uncertainty tell where the model is wrong?"
    caption = (
        "The dynamics distance (left of each pair) beside the uncertainty u (right) on the same pairs, for "
        "P̂. Nothing of u is clipped but by the model's soft bound on its variance."
    )
    chosen, missing = _with_distances(runs, _REGIONS, first_task)
    if not chosen:
        return nothing_to_draw(name, question, caption, missing or "a finished DOOF run")

    def draw(figure: Figure) -> None:
        axes = panels(figure, 2 * len(chosen), columns=2 if len(chosen) == 1 else 4)
        for index, run in enumerate(chosen):
            for axis, column, label in zip(
                axes[2 * index :][:2], ("distance", "u"), ("dynamics distance", "uncertainty u"), strict=True
            ):
                _violins(axis, [run.distances[kind]["before"][column] for kind in _REGIONS], COLOURS)
                axis.set_xticks([1, 2, 3], _REGIONS.values(), fontsize=7)
                axis.set(title=run_label(run), ylabel=label)

    alt = "Medians, distance then u: " + "; ".join(
        f"{_medians(run, 'before', 'distance')}; u {_medians(run, 'before', 'u')}" for run in chosen
    )
    return Drawing(name, question, caption, f"{alt}.", grid_size(2 * len(chosen), columns=4), draw, missing)


def offline_against_online(runs: Sequence[Run]) -> Drawing:
    """Figure 4: the error of the pretrained dynamics on D, on D_on of π_off and on D_on of π_u."""
    name, question = "figure-4", "Do the collected steps show the model what it does not know?"
    caption = (
        "Mean distance of the pretrained dynamics on the offline data D, on steps that the pretrained policy "
        "collected (ratio 0), and on steps that an exploration policy collected; means over seeds."
    )
    of_tasks: dict[str, dict[str, list[float]]] = {}
    lacking: list[str] = []
    for members in grouped(runs, lambda run: (run.task, run.provenance)).values():
        useful = [run for run in members if not run.control and {"data", "online"} <= set(run.distances)]
        if not useful:
            lacking += [f"distances on D_on of {members[0].paper_name}"] * any(not run.problem for run in members)
            continue
        of_seeds = {run.seed: float(np.mean(run.distances["data"]["before"]["distance"])) for run in useful}
        bars = {"D": list(of_seeds.values())}  # arms of a seed share it
        for arm, of_arm in grouped(useful, lambda run: run.arm).items():
            label = "D_on (π_off)" if arm == RATIO_0 else f"D_on ({arm})"
            bars[label] = [float(np.mean(run.distances["online"]["before"]["distance"])) for run in of_arm]
        if "D_on (π_off)" not in bars:
            lacking.append(f"{members[0].paper_name} at ratio 0")
        of_tasks[run_label(useful[0])] = bars
    if not of_tasks:
        return nothing_to_draw(name, question, caption, ", ".join(lacking) or "a finished DOOF run")

    def draw(figure: Figure) -> None:
        for axis, (task, bars) in zip(panels(figure, len(of_tasks)), of_tasks.items(), strict=True):
            means = [np.mean(values) for values in bars.values()]
            axis.barh(range(len(bars)), means, color=[CONTROL_COLOUR, *COLOURS[: len(bars) - 1]], alpha=0.8)
            for row, values in enumerate(bars.values()):
                axis.plot(values, [row] * len(values), "o", ms=3, color=axis.xaxis.label.get_color())
            axis.set_yticks(range(len(bars)), list(bars), fontsize=7)
            axis.invert_yaxis()
            axis.set(title=task, xlabel="mean dynamics distance")

    shown = (
        f"{task}: {', '.join(f'{label} {np.mean(values):.3g}' for label, values in bars.items())}"
        for task, bars in of_tasks.items()
    )
    size = grid_size(len(of_tasks), 4, 2.4, 2)
    return Drawing(name, question, caption, f"Mean distances: {'; '.join(shown)}.", size, draw, ", ".join(lacking))


def other_dataset(runs: Sequence[Run]) -> Drawing:
    """Figure 5: the distance on another, better dataset before and after stage 4."""
    name, question = "figure-5", "Is the finetuned model better where a good policy goes?"
    caption = (
        "Distribution of the dynamics distance on the data of another task of the same system "
        "(--distance-task), before and after dynamics finetuning."
    )
    chosen, _ = _with_distances(runs, ["other"], False)
    if not chosen:
        return nothing_to_draw(name, question, caption, "a finished DOOF run with --distance-task TASK")

    def draw(figure: Figure) -> None:
        for axis, run in zip(panels(figure, len(chosen)), chosen, strict=True):
            columns = [run.distances["other"][when]["distance"] for when in ("before", "after")]
            _violins(axis, columns, COLOURS)
            axis.set_xticks([1, 2], ["before", "after"])
            axis.set(title=f"{run_label(run)} on {run.settings.get('distance_task')}", ylabel="dynamics distance")

    medians = (
        f"{run_label(run)} from {np.median(run.distances['other']['before']['distance']):.3g} to "
        f"{np.median(run.distances['other']['after']['distance']):.3g}"
        for run in chosen
    )
    return Drawing(name, question, caption, f"Median distance: {'; '.join(medians)}.", grid_size(len(chosen)), draw)
