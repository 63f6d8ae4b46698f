"""u(s, a): the uncertainty of a state-action pair. One file per family of estimators, and their registry.

Imports no torch: an estimator's module is imported when one is made.
"""

from doof_ext.uncertainty.registry import GROUP, check_estimator, estimator_names, foreign_names, make_estimator

__all__ = ["GROUP", "check_estimator", "estimator_names", "foreign_names", "make_estimator"]
