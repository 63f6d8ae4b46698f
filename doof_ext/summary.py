"""result/summary.json (contract 2) as it is read back."""

import math

from doof_ext.errors import UserError
from doof_ext.files import read_json

_NUMBER, _TEXT = (int, float), str
_SCHEMA = {  # what figures and tables read of a summary
    "task": _TEXT, "seed": int, "preset": _TEXT, "algo": _TEXT, "uncertainty": _TEXT, "exploration_ratio": _NUMBER,
    "rounds": int, "physics": _TEXT, "dataset": dict, "online_steps": int, "scores": dict, "gain": _NUMBER,
    "distance": dict, "stages": list, "versions": dict, "command": _TEXT,
}  # fmt: skip


def read_summary(path) -> dict:
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
        if not (isinstance(stage, dict) and isinstance(stage.get("name"), str)
                and isinstance(stage.get("seconds"), _NUMBER)):  # fmt: skip
            raise UserError(f"{path} is damaged: one of its stages is {stage!r}")
    return summary
