"""What the guard did: which dynamics and policies it refused, the ratios that were tried, and what it judges by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from doof_ext.evaluation.rank_correlation import rank_correlation
from doof_ext.report.model_returns import ESTIMATES
from doof_ext.report.runs import SCORE, Run
from doof_ext.report.table import Table

_AHEAD = 3  # evaluations that follow an epoch, by which its policy is judged in turn
_TRAILING = 10  # evaluations up to it
_RUN = ("task", "arm", "seed")
_ERRORS = ("distance D_on", "NLL D_on", "distance D", "NLL D")


def guard_tables(runs: Sequence[Run]) -> list[Table]:
    """The dynamics, the policies and the ratios that were judged, and how well the estimates rank policies."""
    return [dynamics_table(runs), policy_table(runs), ratio_table(runs), estimates_table(runs)]


def _of(run: Run) -> list[str]:
    return [run.paper_name, run.arm, str(run.seed)]


def _guarded(runs: Sequence[Run], what: str) -> list[tuple[Run, list[Any]]]:
    return [(run, found) for run in runs if run.summary and (found := run.summary[what])]


def dynamics_table(runs: Sequence[Run]) -> Table:
    """Each attempt at P̂*: its errors on steps that were held out, before and after, and the verdict."""
    rows: list[list[str]] = []
    for run, verdicts in _guarded(runs, "guard"):
        for round, verdict in enumerate(verdicts, start=1):
            fresh = _short(verdict["fresh"] and verdict["fresh"]["distance"])
            for attempt in verdict["attempts"] or [{"lr": None, "online": None, "offline": None, **verdict}]:
                online, offline = attempt["online"], attempt["offline"]
                cells = [_pair(online, "distance"), _pair(online, "nll"), _pair(offline, "distance")]
                cells += [_pair(offline, "nll"), _pair(online, "within_90", lambda x: f"{100 * x:.0f} %")]
                lr = "" if attempt["lr"] is None else f"{attempt['lr']:.2g}"
                told = "accepted" if not attempt["reasons"] else f"refused: {'; '.join(attempt['reasons'])}"
                rows.append([*_of(run), str(round), lr, fresh, *cells, told])
    return Table(
        "table-guard",
        "The dynamics that stage 4 finetuned, on steps that neither it nor P̂ was trained on, before → after: mean "
        "distance of the prediction to the recorded next observation and reward, negative log-likelihood (nats per "
        "coordinate), and the share of recorded next states within the predicted 90 % region. New steps: P̂'s distance "
        "to the round's steps before anything was learned from them.",
        [*_RUN, "round", "lr", "new steps", *_ERRORS, "within 90 %", "dynamics"],
        rows,
        missing="" if rows else "runs with --guard on",
    )


def policy_table(runs: Sequence[Run]) -> Table:
    """Which policy of stage 5 each round returned, by which estimate, and the truth where it is known."""
    rows: list[list[str]] = []
    for run, choices in _guarded(runs, "policy_choice"):
        for number, choice in enumerate(choices):
            other = "the one before the stage" if choice["round"] else "the last"
            which = f"{choice['epoch']} of {choice['epochs']}" if choice["epoch"] else other
            estimates = [_short(choice[name]) for name in ("before", "chosen", "last")]
            if choice["round"] == 0:  # stage 1's
                truth = ["", _final(run, "pretrained", True)]
            else:
                starts_pretrained = not any(earlier["epoch"] for earlier in choices[:number] if earlier["round"])
                truth = [_final(run, "pretrained", starts_pretrained), _final(run, "finetuned", choice is choices[-1])]
            by = (choice["by"] or "nothing").replace("_", " ")
            rows.append([*_of(run), str(choice["round"]), which, by, *estimates, *truth])
    return Table(
        "table-policy",
        "The policy that stage 5 returned, or stage 1 in round 0: the epoch at whose end it was the policy, what it "
        "was chosen by (evaluations: mean score of the last ten; model lower bound: the return that the elites "
        "predict, their mean less their standard deviation; model return, in earlier versions: their mean), that "
        "estimate of the policy before the stage, of the one chosen and of the last epoch's; and, where they were "
        "run, the score of both in the final episodes, which chose nothing.",
        [*_RUN, "round", "epoch", "by", "before", "chosen", "last", "truly before", "truly chosen"],
        rows,
        missing="" if rows else "runs with --guard on or --policy-selection model_return",
    )


def ratio_table(runs: Sequence[Run]) -> Table:
    """The candidates of --exploration-ratio auto."""
    rows: list[list[str]] = []
    best: set[tuple[int, int]] = set()
    for run, choices in _guarded(runs, "ratio_choice"):
        for round, choice in enumerate(choices, start=1):
            for one in choice["candidates"]:
                if one["ratio"] == choice["ratio"]:
                    best.add((len(rows), 4))
                told = "" if one["allowed"] else f"below {_short(choice['floor'])}"
                figures = [_short(one["uncertainty"]), _short(one["pessimistic"]), told]
                rows.append([*_of(run), str(round), f"{one['ratio']:g}", *figures])
    return Table(
        "table-ratio",
        "Ratios λ_on : λ_off that were tried in the model before a real step, the one chosen in bold: u of a step of "
        "the policy's rollouts, and its return in the elite that predicts the least. Ratio 0 is the policy before.",
        [*_RUN, "round", "ratio", "u", "least return", "allowed"],
        rows,
        best,
        missing="" if rows else "runs with --exploration-ratio auto",
    )


def estimates_table(runs: Sequence[Run]) -> Table:
    """How well each estimate ranks the policies of stage 5, by evaluations that come after it."""
    names = {"last evaluation": SCORE, "mean of last ten": SCORE, **ESTIMATES}
    found: list[tuple[list[str], list[float | None]]] = []
    for run in runs:
        epochs = [row for row in run.curve if row["stage"] == 5 and {SCORE, *ESTIMATES.values()} <= set(row)]
        scores = np.array([row[SCORE] for row in epochs])
        if len(epochs) < 2 * _AHEAD:
            continue
        truth = [float(scores[i + 1 : i + 1 + _AHEAD].mean()) for i in range(len(epochs) - _AHEAD)]
        columns = {name: [row[column] for row in epochs] for name, column in names.items()}
        columns["mean of last ten"] = [
            float(scores[max(0, i + 1 - _TRAILING) : i + 1].mean()) for i in range(len(scores))
        ]
        found.append(
            ([*_of(run), str(len(truth))], [rank_correlation(truth, of[: len(truth)]) for of in columns.values()])
        )
    rows = [[*of, *("" if value is None else f"{value:+.2f}" for value in values)] for of, values in found]
    if len(found) > 1:
        means = [[value for _, values in found if (value := values[i]) is not None] for i in range(len(names))]
        rows.append(["all", "", "", str(len(found)), *(f"{np.mean(of):+.2f}" if of else "" for of in means)])
    return Table(
        "table-estimates",
        "What the guard may judge policies by: Spearman's rank correlation, over the epochs of stage 5, of each "
        f"estimate with the mean of the {_AHEAD} evaluations that follow, which it does not contain; last row: the "
        "mean of the runs above. The model's estimates are those of table-model-return.",
        [*_RUN, "epochs", *names],
        rows,
        missing="" if rows else f"runs with scores and model returns of {2 * _AHEAD} epochs of stage 5",
    )


def _final(run: Run, name: str, applies: bool) -> str:
    """A policy's score in the final episodes, where the row is of that policy."""
    final = run.results["scores"][name]["final"] if applies else None
    return f"{final['mean']:.1f}" if final else ""


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _pair(errors: Any, name: str, text: Callable[[float], str] = _short) -> str:
    if errors is None:
        return ""
    before, after = ("-" if errors[when][name] is None else text(errors[when][name]) for when in ("before", "after"))
    return f"{before} → {after}"
