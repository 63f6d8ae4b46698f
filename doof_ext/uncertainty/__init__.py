"""u(s, a): how little is known of a state-action pair. One file per estimator, their base class, and the registry.

Other packages offer theirs through the entry-point group ``doof_ext.uncertainty``, as subclasses of
:class:`doof_ext.uncertainty.base.UncertaintyEstimator`. Imports no torch.
"""

import functools
from importlib.metadata import EntryPoint, entry_points

from doof_ext.errors import UserError

GROUP = "doof_ext.uncertainty"
_OURS = {
    "aleatoric": "mopo:Aleatoric",
    "pairwise-diff": "mopo:PairwiseDifference",
    "ensemble-std": "mopo:EnsembleStd",
    "mobile": "mobile:ModelBellmanInconsistency",
    "count": "count:HashCount",
}


@functools.cache
def _registered():
    """Every estimator by name, ours among them: no package replaces one of those."""
    ours = [EntryPoint(name, f"{GROUP}.{place}", GROUP) for name, place in _OURS.items()]
    return {entry.name: entry for entry in [*entry_points(group=GROUP), *ours]}


def estimator_names() -> list[str]:
    """The names ``--uncertainty`` takes."""
    return [*_OURS, *sorted(set(_registered()) - set(_OURS))]


def check_estimator(name: str) -> str:
    """The registered name of an estimator (the kit writes ensemble_std); raises UserError for an unknown one."""
    for known in (name, name.replace("_", "-")):
        if known in _registered():
            return known
    raise UserError(f"unknown uncertainty {name!r}; choose {', '.join(estimator_names())}")


def make_estimator(name: str, config=None):
    """The estimator of that name, with the settings of a Config (its defaults where not given).

    Raises: UserError for an unknown name, one whose package fails, or one that is no UncertaintyEstimator.
    """
    from doof_ext.config import Config
    from doof_ext.uncertainty.base import UncertaintyEstimator

    known = check_estimator(name)
    entry = _registered()[known]
    try:
        estimator = entry.load().from_config(Config() if config is None else config)
    except Exception as error:  # another package's module may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"uncertainty {name!r} ({entry.value}) cannot be made: {reason}") from error
    if not isinstance(estimator, UncertaintyEstimator):
        raise UserError(f"uncertainty {name!r} ({entry.value}) is no UncertaintyEstimator")
    estimator.name = known
    return estimator
