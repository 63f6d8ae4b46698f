"""What the model said of the policies, and how well its order of the epochs agrees with the environment's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from doof_ext.evaluation.rank_correlation import rank_correlation
from doof_ext.report.drawing import Drawing, arm_colour, arm_line, grid_size, nothing_to_draw, panels, run_label
from doof_ext.report.grouping import grouped
from doof_ext.report.runs import MODEL_LOWER_BOUND, MODEL_RETURN, SCORE, Run
from doof_ext.report.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ESTIMATES = {
    "mean": MODEL_RETURN,
    "lower bound": MODEL_LOWER_BOUND,
    "least elite": f"{MODEL_RETURN}_pessimistic",
    "penalised": f"{MODEL_RETURN}_penalised_mean",
    "penalised, least": f"{MODEL_RETURN}_penalised_pessimistic",
}
"""The model's estimates of a policy's return, by name: columns of the curve."""

_STAGES = {1: "1 pretrain", 5: "5 finetune"}
_FEWEST = 3  # epochs that can be ranked


def model_return_table(runs: Sequence[Run]) -> Table:
    """Of each run and stage: the rank correlation over epochs between the score and the model's estimates."""
    rows: list[list[str]] = []
    for run in runs:
        for stage, title in _STAGES.items():
            epochs = [row for row in run.curve if row["stage"] == stage and {SCORE, *ESTIMATES.values()} <= set(row)]
            if len(epochs) < _FEWEST:
                continue
            scores = [row[SCORE] for row in epochs]
            found = [rank_correlation(scores, [row[name] for row in epochs]) for name in ESTIMATES.values()]
            cells = ["" if value is None else f"{value:+.2f}" for value in found]
            rows.append([run.paper_name, run.arm, str(run.seed), title, str(len(epochs)), *cells])
    return Table(
        "table-model-return",
        "How the model ranks a run's epochs: Spearman's rank correlation over the epochs of a stage between the true "
        "score and the policy's return in the dynamics (eval/model_return): the mean of the elites, that less their "
        "standard deviation (lower bound), and the least of them; and the mean and the least of "
        "penalised returns, less λ_off·u. 1: the same order; 0: none.",
        ["task", "arm", "seed", "stage", "epochs", *ESTIMATES],
        rows,
        missing="" if rows else "runs with scores and model returns of three epochs",
    )


def model_return_curves(runs: Sequence[Run]) -> Drawing:
    """The model's estimate while the policy is finetuned."""
    name, question = "figure-model-return", "What does the model say of the policy?"
    caption = (
        "The policy's return in the finetuned dynamics during stage 5 (eval/model_return, its horizon is in the "
        "settings), mean of the elites and over seeds; the band reaches down to the least elite. It is an estimate: "
        "the table of rank correlations says how far it agrees with the environment."
    )
    tasks: dict[str, dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for (task, arm), members in grouped(runs, lambda run: (run_label(run), run.arm)).items():
        found = [(run.finetuning(MODEL_RETURN), run.finetuning(ESTIMATES["least elite"])) for run in members]
        found = [both for both in found if both[0]]
        if found:
            length = min(len(mean) for mean, _ in found)
            steps = np.array([step for _, step, _ in found[0][0][:length]])
            mean, least = (np.mean([[y for *_, y in both[i][:length]] for both in found], axis=0) for i in range(2))
            tasks.setdefault(task, {})[arm] = steps, mean, least
    if not tasks:
        return nothing_to_draw(name, question, caption, "a run with --horizon above 0 that has reached stage 5")

    def draw(figure: Figure) -> None:
        for axis, (task, arms) in zip(panels(figure, len(tasks), columns=2), tasks.items(), strict=True):
            for arm, (steps, mean, least) in arms.items():
                colour = arm_colour(arm, list(arms))
                axis.plot(steps / 1000, mean, color=colour, ls=arm_line(arm, list(arms)), label=arm, marker=".")
                axis.fill_between(steps / 1000, least, mean, color=colour, alpha=0.2, lw=0)
            axis.set(title=task, xlabel="gradient steps of stage 5, thousands", ylabel="model return")
            axis.legend(fontsize=7)

    ends = []
    for task, arms in tasks.items():
        of_arms = (f"{arm} {mean[-1]:.4g}, least elite {least[-1]:.4g}" for arm, (_, mean, least) in arms.items())
        ends.append(f"{task}: {', '.join(of_arms)}")
    alt = f"Model returns at the end: {'; '.join(ends)}."
    return Drawing(name, question, caption, alt, grid_size(len(tasks), 4.6, 3.2, 2), draw)
