"""result/summary.json (contract 2): how it is put together, and how it is read back."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from doof_ext import kit
from doof_ext.config import Config, RunSettings
from doof_ext.config.baseline_settings import is_method
from doof_ext.data import LoadedDataset
from doof_ext.errors import UserError
from doof_ext.evaluation.dynamics_distance import TruePairs, summarise
from doof_ext.evaluation.measurements import Measurements
from doof_ext.evaluation.returns import Evaluation, StageScores
from doof_ext.experiment.provenance import versions
from doof_ext.files import read_json

_NOT_EVALUATED = "nothing was evaluated in the environment (--eval-episodes 0)"


def describe_dataset(loaded: LoadedDataset) -> dict[str, Any]:
    """Which data a run has: source, id, number of transitions and SHA-256."""
    return {
        "source": loaded.source,
        "id": loaded.id,
        "transitions": len(loaded.dataset),
        "sha256": loaded.dataset.sha256(),
    }


def build_summary(
    config: RunSettings,
    env: Any,
    loaded: LoadedDataset,
    stages: Sequence[Mapping[str, Any]],
    stage_scores: Mapping[str, StageScores],
    final: Mapping[str, Evaluation],
) -> dict[str, Any]:
    """The summary of a run; what only DOOF's have is empty in it, see :func:`doof_results`.

    Args:
        config: The settings.
        env: The environment.
        loaded: D with its provenance.
        stages: The stages' records.
        stage_scores: By policy: pretrained and finetuned, and those between.
        final: The final evaluation, by policy; empty where there was none.
    """
    reason = _NOT_EVALUATED + ("; model_return has the model's estimate" if isinstance(config, Config) else "")
    scores = {name: _score(env, found, final.get(name), reason) for name, found in stage_scores.items()}
    return {
        **{name: getattr(config, name) for name in ("task", "seed", "preset", "algo", "pretrained")},
        "kit": {"name": kit.NAME, "version": kit.VERSION},
        "physics": env.physics,
        "dataset": describe_dataset(loaded),
        "online_steps": sum(stage["env_steps"] for stage in stages),
        "scores": scores,
        "gain": _gain(scores),
        "gain_over": {},
        "rounds": 1,
        "horizon": 0,
        "model_return": {},
        "distance": {},
        "guard": [],
        "policy_choice": [],
        "ratio_choice": [],
        "stages": list(stages),
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "device": config.device,
        "command": shlex.join(sys.argv),
    }


def doof_results(
    config: Config, pairs: Mapping[str, TruePairs], before: Measurements, after: Measurements
) -> dict[str, Any]:
    """What the summary of a DOOF run has besides: its own settings and the dynamics distance.

    Args:
        config: The settings.
        pairs: What the dynamics distance was measured on, by kind.
        before: Distances and u of P̂, by kind.
        after: Those of P̂*.
    """
    own = ("uncertainty", "exploration_ratio", "penalty_coef", "exploration_coef", "control")
    distance = {
        kind: {
            "before": summarise(before[kind]["distance"]),
            "after": summarise(after[kind]["distance"]),
            "pairs": len(pairs[kind]),
            "inexact": pairs[kind].inexact,
        }
        for kind in pairs
    }
    return {name: getattr(config, name) for name in own} | {"distance": distance}


def _gain(scores: Mapping[str, Mapping[str, Any]]) -> float | None:
    """What finetuning gained; None where a policy was not evaluated."""
    before, after = (scores[name]["last_10"] for name in ("pretrained", "finetuned"))
    return None if before is None or after is None else after - before


def _score(env: Any, found: StageScores, final: Evaluation | None, reason: str) -> dict[str, Any]:
    last = found.last
    if last is None:
        numbers = dict.fromkeys(("last_10", "best", "mean", "std", "length", "final"))
        return {**numbers, "episodes": 0, "returns": [], "reason": reason}
    return {
        "last_10": found.last_10,
        "best": found.best,
        "mean": last.mean,
        "std": last.std,
        "episodes": len(last.returns),
        "returns": [100 * env.get_normalized_score(total) for total in last.returns],
        "length": float(np.mean(last.lengths)),
        "final": final and {"mean": final.mean, "std": final.std, "episodes": len(final.returns)},
    }


_NUMBER, _TEXT, _NONE = (int, float), str, type(None)
_SCHEMA: dict[str, Any] = {  # what figures and tables read of a summary
    "task": _TEXT,
    "seed": int,
    "preset": _TEXT,
    "algo": _TEXT,
    "rounds": int,
    "physics": _TEXT,
    "dataset": dict,
    "online_steps": int,
    "scores": dict,
    "gain": (*_NUMBER, _NONE),  # None where nothing was evaluated
    "distance": dict,
    "stages": list,
    "versions": dict,
    "threads": int,
    "command": _TEXT,
}
_OF_DOOF: dict[str, Any] = {
    "uncertainty": _TEXT,
    "exploration_ratio": (*_NUMBER, _NONE),  # None where λ_off is 0
}


def read_summary(path: str) -> dict[str, Any]:
    """A run's summary, with all that is read of it there; raises UserError, one line, for a damaged one.

    Of earlier versions, whose score was that of the last evaluation alone, that is ``last_10``; what they lack is None.
    """
    summary = read_json(path)
    schema = _SCHEMA if is_method(summary.get("algo")) else _SCHEMA | _OF_DOOF
    for name, kind in schema.items():
        if not isinstance(summary.get(name), kind):
            raise UserError(f"{path} is damaged: it has no usable {name!r}")
    for name in ("source", "id", "transitions"):
        if not isinstance(summary["dataset"].get(name), int if name == "transitions" else str):
            raise UserError(f"{path} is damaged: its dataset has no {name!r}")
    for name in ("pretrained", *(["online"] if is_method(summary["algo"]) else []), "finetuned"):
        if name not in summary["scores"]:
            raise UserError(f"{path} is damaged: it has no score {name!r}")
    for name, score in summary["scores"].items():
        if not _complete_score(score):
            raise UserError(f"{path} is damaged: the score {name!r} is {score!r}")
    estimates = summary.setdefault("model_return", {})
    if not isinstance(estimates, dict) or not all(map(_is_estimate, estimates.values())):
        raise UserError(f"{path} is damaged: model_return is {estimates!r}")
    for name, is_whole in (("guard", _is_verdict), ("policy_choice", _is_choice), ("ratio_choice", _is_ratio)):
        found = summary.setdefault(name, [])
        if not isinstance(found, list) or not all(map(is_whole, found)):
            raise UserError(f"{path} is damaged: {name} is {found!r}")
    summary.setdefault("horizon", 0)
    over = summary.setdefault("gain_over", {})
    if not isinstance(over, dict) or not all(map(_is_number, over.values())):
        raise UserError(f"{path} is damaged: gain_over is {over!r}")
    for kind, found in summary["distance"].items():
        halves = [found.get("before"), found.get("after")] if isinstance(found, dict) else [None]
        if not all(_has(half, maybe=("mean", "max") if half else ()) for half in halves):
            raise UserError(f"{path} is damaged: the distance {kind!r} is {found!r}")
    for stage in summary["stages"]:
        numbers = [stage.get(name) for name in ("seconds", "gradient_steps")] if isinstance(stage, dict) else [None]
        if not (all(map(_is_number, numbers)) and isinstance(stage.get("name"), str)):
            raise UserError(f"{path} is damaged: one of its stages is {stage!r}")
    return summary


def _complete_score(score: Any) -> bool:
    """Whether a policy's score is whole; completes one of an earlier version."""
    if not isinstance(score, dict):
        return False
    score.setdefault("last_10", score.get("mean"))
    for name in ("best", "length", "final"):
        score.setdefault(name, None)
    if score.get("episodes") == 0:  # nothing was evaluated
        return isinstance(score.get("reason"), str) and all(score.get(n) is None for n in ("mean", "std", "last_10"))
    optional = [score[name] for name in ("best", "length") if score[name] is not None]
    if isinstance(score["final"], dict):
        optional += [score["final"].get(name) for name in ("mean", "std", "episodes")]
    required = [score.get(name) for name in ("mean", "std", "episodes", "last_10")]
    return isinstance(score["final"], dict | None) and all(map(_is_number, required + optional))


def _is_estimate(figures: Any) -> bool:
    """Whether a policy's return in the model is whole."""
    names = ("mean", "pessimistic", "spread", "penalised_mean")
    halves = (figures, figures.get("before")) if isinstance(figures, dict) else (None,)
    return all(
        isinstance(half, dict) and all(half.get(name, "") is None or _is_number(half.get(name)) for name in names)
        for half in halves
    )


def _has(value: Any, numbers: Sequence[str] = (), maybe: Sequence[str] = ()) -> bool:
    """Whether it is a table of these numbers, and of those that may be None."""
    return (
        isinstance(value, dict)
        and all(_is_number(value.get(name)) for name in numbers)
        and all(name in value and (value[name] is None or _is_number(value[name])) for name in maybe)
    )


def _is_verdict(verdict: Any) -> bool:
    """Whether what the guard did to a round's dynamics is whole."""
    errors = ("nll", "distance", "within_90")
    if not _has(verdict, ["held_out"]) or not _are_texts(verdict.get("reasons")):
        return False
    fresh, attempts = verdict.setdefault("fresh", None), verdict.get("attempts")
    if not (fresh is None or _has(fresh, maybe=errors)) or not isinstance(attempts, list):
        return False
    if not isinstance(verdict.get("accepted"), bool) or (verdict["accepted"] and not attempts):
        return False
    for attempt in attempts:
        if not _has(attempt, ["lr"]) or not _are_texts(attempt.get("reasons")):
            return False
        for pair in (attempt.get("online"), attempt.get("offline")):
            halves = [pair.get("before"), pair.get("after")] if isinstance(pair, dict) else []
            if pair is not None and not (halves and all(_has(half, maybe=errors) for half in halves)):
                return False
    return not verdict["accepted"] or attempts[-1].get("online") is not None


def _are_texts(reasons: Any) -> bool:
    return isinstance(reasons, list) and all(isinstance(reason, str) for reason in reasons)


def _is_choice(choice: Any) -> bool:
    """Whether the choice of a policy is whole."""
    numbers, maybe = ("round", "epoch", "epochs"), ("before", "chosen", "last")
    return _has(choice, numbers, maybe) and isinstance(choice.get("by", 0), str | None)


def _is_ratio(choice: Any) -> bool:
    """Whether the choice of a ratio is whole."""
    if isinstance(choice, dict):
        choice.setdefault("epoch", None)
    candidates = choice.get("candidates") if _has(choice, ["ratio"], ["floor", "epoch"]) else None
    return isinstance(candidates, list) and all(
        _has(one, ["ratio"], ["uncertainty", "pessimistic"]) and isinstance(one.get("allowed"), bool)
        for one in candidates
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBER) and math.isfinite(value)
