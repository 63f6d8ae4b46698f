"""Rollout length and λ_off for each (algorithm, estimator, task), and where they come from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from doof_ext.tasks.specs import TaskSpec

_MOBILE = {  # the suggestions in the kit's run_mobile.py (commit e3ce697): rollout length, penalty coefficient
    "halfcheetah-random-v2": (5, 0.5),
    "hopper-random-v2": (5, 5.0),
    "walker2d-random-v2": (5, 2.0),
    "halfcheetah-medium-v2": (5, 0.5),
    "hopper-medium-v2": (5, 1.5),
    "walker2d-medium-v2": (5, 0.5),
    "halfcheetah-medium-replay-v2": (5, 0.1),
    "hopper-medium-replay-v2": (5, 0.1),
    "walker2d-medium-replay-v2": (1, 0.5),
    "halfcheetah-medium-expert-v2": (5, 2.0),
    "hopper-medium-expert-v2": (5, 1.5),
    "walker2d-medium-expert-v2": (1, 1.5),
}
_RUN_MOBILE = (1, 1.5)  # its flags' defaults
_COUNT_MORL = (5, 1.0)  # flags' defaults of oh-lab/Count-MORL's train.py (commit b79f15e); it names no task's own


def task_defaults(spec: TaskSpec, algo: str, uncertainty: str) -> tuple[dict[str, Any], str]:
    """Defaults of the settings that depend on the task, by Config's names, and their source in a few words."""
    if algo == "mobile":
        found = _named(*_MOBILE.get(spec.name, _RUN_MOBILE))
        found |= {"auto_alpha": spec.name != "hopper-medium-v2", "dynamics_epochs": 30}
        if spec.name in _MOBILE:
            return found, "the kit's run_mobile.py, its suggestion for the task"
        return found, "the kit's run_mobile.py, its defaults: no source has this task"
    if uncertainty == "mobile":
        if spec.name in _MOBILE:
            return _named(*_MOBILE[spec.name]), "the kit's run_mobile.py, where u is in the Q target, not the reward"
        return _named(*_RUN_MOBILE), "the kit's run_mobile.py, its defaults: no source has this task"
    if uncertainty == "count":
        return _named(*_COUNT_MORL), "Count-MORL's public code, its defaults: it names no task's own"
    own = _named(spec.rollout_length, spec.penalty_coef)
    if not spec.paper_name:
        return own, "the kit's run_mopo.py" if spec.domain else "the task's own spec, by default the kit's"
    if uncertainty == "aleatoric":
        return own, "DOOF, Table 5"
    return own, f"DOOF, Table 5, which is for aleatoric: no source for {uncertainty}"


def table(specs: Iterable[TaskSpec]) -> str:
    """A Markdown table of rollout length and λ_off by task, algorithm and estimator; * where no source has the task."""
    columns = (("mopo", "aleatoric"), ("mopo", "mobile"), ("mopo", "count"), ("mobile", "mobile"))
    lines = [
        "| task | aleatoric; pairwise-diff*, ensemble-std* | mobile | count* | --algo mobile |",
        "|---|---|---|---|---|",
    ]
    for spec in specs:
        cells = []
        for algo, uncertainty in columns:
            found, source = task_defaults(spec, algo, uncertainty)
            star = "*" if "no source" in source else ""
            fixed = ", fixed alpha" if found.get("auto_alpha") is False else ""
            cells.append(f"{found['rollout_length']}, {found['penalty_coef']:g}{fixed}{star}")
        lines.append(f"| {spec.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _named(rollout_length: int, penalty_coef: float) -> dict[str, Any]:
    return {"rollout_length": rollout_length, "penalty_coef": penalty_coef}
