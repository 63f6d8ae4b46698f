"""Estimators by name: ours, and those of other packages.

A package offers one through the entry-point group ``doof_ext.uncertainty``, as a subclass of
:class:`doof_ext.uncertainty.base.UncertaintyEstimator`. Imports no torch.
"""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from doof_ext.errors import UserError
from doof_ext.uncertainty.settings import EstimatorDefaults, EstimatorSettings

if TYPE_CHECKING:
    from doof_ext.uncertainty.base import UncertaintyEstimator

GROUP = "doof_ext.uncertainty"
_OURS = {
    "aleatoric": "ensemble:Aleatoric",
    "pairwise-diff": "ensemble:PairwiseDifference",
    "ensemble-std": "ensemble:EnsembleStd",
    "mobile": "bellman:ModelBellmanInconsistency",
    "count": "count:HashCount",
}


@functools.cache
def _registered() -> dict[str, EntryPoint]:
    """Every estimator by name; a package cannot replace one of ours."""
    ours = [EntryPoint(name, f"{GROUP}.{place}", GROUP) for name, place in _OURS.items()]
    return {entry.name: entry for entry in [*entry_points(group=GROUP), *ours]}


def estimator_names() -> list[str]:
    """The names that ``--uncertainty`` accepts."""
    return [*_OURS, *foreign_names()]


def foreign_names() -> list[str]:
    """The names that other packages offer."""
    return sorted(set(_registered()) - set(_OURS))


def check_estimator(name: str) -> str:
    """The registered name of an estimator (the kit writes ensemble_std); raises UserError for an unknown one."""
    for known in (name, name.replace("_", "-")):
        if known in _registered():
            return known
    raise UserError(f"unknown uncertainty {name!r}; choose {', '.join(estimator_names())}")


def make_estimator(name: str, settings: EstimatorSettings | None = None) -> UncertaintyEstimator:
    """The estimator of that name.

    Args:
        name: A registered name.
        settings: A run's (:class:`doof_ext.config.Config`), or None for the defaults.

    Raises:
        UserError: The name is unknown, its package fails, or it registers something else than an UncertaintyEstimator.
    """
    from doof_ext.uncertainty.base import UncertaintyEstimator

    known = check_estimator(name)
    entry = _registered()[known]
    try:
        estimator = entry.load().from_config(EstimatorDefaults() if settings is None else settings)
    except Exception as error:  # another package's module may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"uncertainty {name!r} ({entry.value}) cannot be made: {reason}") from error
    if not isinstance(estimator, UncertaintyEstimator):
        raise UserError(f"uncertainty {name!r} ({entry.value}) is no UncertaintyEstimator")
    estimator.name = known
    return estimator
