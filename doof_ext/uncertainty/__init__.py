"""u(s, a): how little the dynamics model knows of a state-action pair. One file per estimator, and the registry.

An estimator is a function of an :class:`EnsemblePrediction` that returns u [B, 1], non-negative. Other packages offer
theirs through the entry-point group ``doof_ext.uncertainty``.
"""

import functools
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from doof_ext.errors import UserError

GROUP = "doof_ext.uncertainty"
_OURS = ("aleatoric", "pairwise-diff", "ensemble-std")


@functools.cache
def _registered():
    """Every estimator by name, ours among them: no package replaces one of those."""
    ours = [EntryPoint(name, f"{GROUP}.{name.replace('-', '_')}:uncertainty", GROUP) for name in _OURS]
    return {entry.name: entry for entry in [*entry_points(group=GROUP), *ours]}


@dataclass
class EnsemblePrediction:
    """What E members predict for B pairs: tensors [E, B, O+1], the last column the reward."""

    mean: "torch.Tensor"  # noqa: F821 - of the next observation and the reward
    std: "torch.Tensor"  # noqa: F821


def estimator_names() -> list[str]:
    """The names ``--uncertainty`` takes."""
    return [*_OURS, *sorted(set(_registered()) - set(_OURS))]


def check_estimator(name: str) -> str:
    """The registered name of an estimator (the kit writes ensemble_std); raises UserError for an unknown one."""
    for known in (name, name.replace("_", "-")):
        if known in _registered():
            return known
    raise UserError(f"unknown uncertainty {name!r}; choose {', '.join(estimator_names())}")


def get_estimator(name: str):
    """The estimator function fn(prediction) → u [B, 1]; raises UserError for an unknown name or one that fails."""
    entry = _registered()[check_estimator(name)]
    try:
        return entry.load()
    except Exception as error:  # another package's module may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"uncertainty {name!r} ({entry.value}) cannot be loaded: {reason}") from error
