"""The settings of a run that our estimators read."""

from dataclasses import dataclass
from typing import Protocol


class EstimatorSettings(Protocol):
    """A run's settings that an estimator may read; :class:`doof_ext.config.Config` has them."""

    seed: int
    n_ensemble: int
    num_samples: int
    hash_bits: int
    count_type: str
    count_coef: float


@dataclass
class EstimatorDefaults:
    """Defaults, for an estimator that is made without a run."""

    seed: int = 1
    n_ensemble: int = 7
    num_samples: int = 10
    hash_bits: int = 32
    count_type: str = "AVG"
    count_coef: float = 0.5
