"""result/summary.json (contract 2): how it is put together, and how it is read back."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from doof_ext import kit
from doof_ext.config import Config
from doof_ext.data import LoadedDataset
from doof_ext.errors import UserError
from doof_ext.evaluation.dynamics_distance import TruePairs, summarise
from doof_ext.evaluation.measurements import Measurements
from doof_ext.evaluation.returns import Evaluation
from doof_ext.experiment.provenance import versions
from doof_ext.files import read_json


def build_summary(
    config: Config,
    env: Any,
    loaded: LoadedDataset,
    stages: Sequence[Mapping[str, Any]],
    evaluations: Mapping[str, Evaluation],
    pairs: Mapping[str, TruePairs],
    before: Measurements,
    after: Measurements,
) -> dict[str, Any]:
    """The summary of a run.

    Args:
        config: The settings.
        env: The environment.
        loaded: D with its provenance.
        stages: The stages' records.
        evaluations: By policy: pretrained, exploration, finetuned.
        pairs: What the dynamics distance was measured on, by kind.
        before: Distances and u of P̂, by kind.
        after: Those of P̂*.
    """
    scores: dict[str, dict[str, Any]] = {
        name: {
            "mean": result.mean,
            "std": result.std,
            "episodes": len(result.returns),
            "returns": [100 * env.get_normalized_score(total) for total in result.returns],
        }
        for name, result in evaluations.items()
    }
    same = ("task", "seed", "preset", "algo", "uncertainty", "exploration_ratio", "penalty_coef", "exploration_coef")
    distance = {
        kind: {
            "before": summarise(before[kind]["distance"]),
            "after": summarise(after[kind]["distance"]),
            "pairs": len(pairs[kind]),
            "inexact": pairs[kind].inexact,
        }
        for kind in pairs
    }
    return {
        **{name: getattr(config, name) for name in same},
        "rounds": config.rounds,
        "control": config.control,
        "pretrained": config.pretrained,
        "kit": {"name": kit.NAME, "version": kit.VERSION},
        "physics": env.physics,
        "dataset": {
            "source": loaded.source,
            "id": loaded.id,
            "transitions": len(loaded.dataset),
            "sha256": loaded.dataset.sha256(),
        },
        "online_steps": sum(stage["env_steps"] for stage in stages),
        "scores": scores,
        "gain": scores["finetuned"]["mean"] - scores["pretrained"]["mean"],
        "distance": distance,
        "stages": list(stages),
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "device": config.device,
        "command": shlex.join(sys.argv),
    }


_NUMBER, _TEXT, _NONE = (int, float), str, type(None)
_SCHEMA: dict[str, Any] = {  # what figures and tables read of a summary
    "task": _TEXT,
    "seed": int,
    "preset": _TEXT,
    "algo": _TEXT,
    "uncertainty": _TEXT,
    "exploration_ratio": (*_NUMBER, _NONE),  # None where λ_off is 0
    "rounds": int,
    "physics": _TEXT,
    "dataset": dict,
    "online_steps": int,
    "scores": dict,
    "gain": _NUMBER,
    "distance": dict,
    "stages": list,
    "versions": dict,
    "command": _TEXT,
}


def read_summary(path: str) -> dict[str, Any]:
    """A run's summary, with all that is read of it there; raises UserError, one line, for a damaged one."""
    summary = read_json(path)
    for name, kind in _SCHEMA.items():
        if not isinstance(summary.get(name), kind):
            raise UserError(f"{path} is damaged: it has no usable {name!r}")
    for name in ("source", "id", "transitions"):
        if name not in summary["dataset"]:
            raise UserError(f"{path} is damaged: its dataset has no {name!r}")
    for name in ("pretrained", "finetuned"):
        if name not in summary["scores"]:
            raise UserError(f"{path} is damaged: it has no score {name!r}")
    for name, score in summary["scores"].items():
        numbers = [score.get("mean"), score.get("std")] if isinstance(score, dict) else [None]
        if not all(isinstance(number, _NUMBER) and math.isfinite(number) for number in numbers):
            raise UserError(f"{path} is damaged: the score {name!r} is {score!r}")
    for kind, found in summary["distance"].items():
        if not (isinstance(found, dict) and all(isinstance(found.get(when), dict) for when in ("before", "after"))):
            raise UserError(f"{path} is damaged: the distance {kind!r} is {found!r}")
    for stage in summary["stages"]:
        if not (
            isinstance(stage, dict) and isinstance(stage.get("name"), str) and isinstance(stage.get("seconds"), _NUMBER)
        ):
            raise UserError(f"{path} is damaged: one of its stages is {stage!r}")
    return summary
