"""u(s, a): how little the dynamics model knows of a state-action pair. One file per estimator, and the registry.

An estimator is a function of an :class:`EnsemblePrediction` that returns u [B, 1], non-negative.
"""

import importlib
from dataclasses import dataclass

from doof_ext.errors import UserError

_ESTIMATORS = {name: f"doof_ext.uncertainty.{name.replace('-', '_')}" for name in
               ("aleatoric", "pairwise-diff", "ensemble-std")}  # fmt: skip


@dataclass
class EnsemblePrediction:
    """What E members predict for B pairs: tensors [E, B, O+1], the last column the reward."""

    mean: "torch.Tensor"  # noqa: F821 - of the next observation and the reward
    std: "torch.Tensor"  # noqa: F821


def estimator_names() -> list[str]:
    """The names ``--uncertainty`` takes."""
    return list(_ESTIMATORS)


def check_estimator(name: str) -> str:
    """The registered name of an estimator (the kit writes ensemble_std); raises UserError for an unknown one."""
    known = name.replace("_", "-")
    if known not in _ESTIMATORS:
        raise UserError(f"unknown uncertainty {name!r}; choose {', '.join(_ESTIMATORS)}")
    return known


def get_estimator(name: str):
    """The estimator function fn(prediction) → u [B, 1]; raises UserError for an unknown name."""
    return importlib.import_module(_ESTIMATORS[check_estimator(name)]).uncertainty
