"""Which of the policies that a stage meets it returns: the best, and of stage 5 the one before it where none is better.

It keeps stage 5 from making things worse. The best is that by the mean of the last ten evaluations, or by the return
that the elites predict, their mean less their standard deviation, which needs no environment: by the mean alone, one
elite that a policy has deceived is enough to choose it. Which estimate ranks policies how well, the report's
table-estimates measures.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from doof_ext.evaluation.model_return import ModelReturn
from doof_ext.evaluation.returns import StageScores, mean_of_last_10
from doof_ext.learning.policy import ModelBasedPolicy

MODEL_RETURN = "model_return"
"""``--policy-selection`` by the model."""

EVALUATIONS, MODEL_LOWER_BOUND = "evaluations", "model_lower_bound"
"""What policies are judged by."""

_FEWEST = 10  # evaluations that a score is a mean over


@dataclass(frozen=True)
class PolicyChoice:
    """Which policy a stage returned.

    Attributes:
        by: What it was judged by: ``evaluations``, the mean score of its last ten; ``model_lower_bound``, the return
            that the elites predict, their mean less their standard deviation (``model_return``, in summaries of
            earlier versions, their mean); None where there was neither.
        epoch: The epoch of the stage at whose end it was the policy; 0 for the one before stage 5, and where stage 1
            had nothing to tell its policies apart by.
        epochs: Of the stage.
        before: The estimate of the policy before the stage; None where there is none, or it is no finite number.
        chosen: The estimate of the policy that is returned.
        last: The estimate of the last epoch's policy.
    """

    by: str | None
    epoch: int
    epochs: int
    before: float | None
    chosen: float | None
    last: float | None


class KeptPolicy:
    """The policy of a stage as it was at the end of one of its epochs; a component of the run's state."""

    has_observed = False  # not so of a stage that another version of doof_ext has completed

    def __init__(self) -> None:
        self._epoch = 0  # none yet
        self._policy: Any = None
        self._scores: Any = None

    @property
    def epoch(self) -> int:
        """Which epoch's it is; 0 for none."""
        return self._epoch

    def keep(self, epoch: int, policy: ModelBasedPolicy, scores: StageScores) -> None:
        """Keeps a policy, and its evaluations up to now, in place of the one before."""
        self._epoch = epoch
        self._policy, self._scores = copy.deepcopy((policy.training_state(), scores.state_dict()))

    def restore(self, policy: ModelBasedPolicy, scores: StageScores) -> None:
        """Makes a trained policy the one that is kept, and its scores those up to it."""
        policy.load_training_state(self._policy)
        scores.load_state_dict(self._scores)

    def state_dict(self) -> dict[str, Any]:
        """What is kept."""
        return {name: getattr(self, f"_{name}") for name in ("epoch", "policy", "scores")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""
        self.has_observed = True
        for name, value in state.items():
            setattr(self, f"_{name}", value)


class WithinFloor(KeptPolicy):
    """Keeps of stage 2 the last policy whose return in the least elite is no less than a floor.

    Args:
        floor: The least return that is allowed.
    """

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor

    def consider(self, epoch: int, policy: ModelBasedPolicy, scores: StageScores, estimate: ModelReturn | None) -> None:
        """Takes in the policy at the end of an epoch; NaN, of one that an elite diverges under, is above no floor."""
        self.has_observed = True
        if estimate is not None and estimate.pessimistic >= self.floor:
            self.keep(epoch, policy, scores)


class PolicyGuard(KeptPolicy):
    """Remembers the best policy of a stage while it is trained.

    Args:
        by: What policies are judged by; None for nothing, so that the last one is returned.
        epochs: Of the stage.
        before: The estimate of the policy before the stage, which is to be exceeded; None where there is none.
    """

    def __init__(self, by: str | None, epochs: int, before: float | None = None) -> None:
        super().__init__()
        self._by, self._epochs, self._before = by, epochs, before
        self._chosen = self._last = before

    @classmethod
    def of_stage_5(cls, by: str | None, epochs: int, scores: StageScores, estimate: ModelReturn | None) -> PolicyGuard:
        """With the policy before the stage, its evaluations and its return in P̂*."""
        return cls(by, epochs, scores.last_10 if by == EVALUATIONS else _lower_bound(estimate))

    def consider(self, epoch: int, policy: ModelBasedPolicy, scores: StageScores, estimate: ModelReturn | None) -> None:
        """Takes in the policy at the end of an epoch.

        Args:
            epoch: From 1.
            policy: As it is now.
            scores: Its evaluations in the stage.
            estimate: Its return in P̂*, where that is measured.
        """
        self.has_observed = True
        if self._by is None:
            better = True  # nothing can tell them apart: the last one
        elif self._by == EVALUATIONS:
            self._last = mean_of_last_10(scores.means)
            better = epoch >= min(_FEWEST, self._epochs) and _exceeds(self._last, self._chosen)
        else:
            self._last = _lower_bound(estimate)
            better = _exceeds(self._last, self._chosen)
        if better:
            self._chosen = self._last
            self.keep(epoch, policy, scores)

    def restore(self, policy: ModelBasedPolicy, scores: StageScores) -> None:
        """As of any kept policy; of one that no evaluation chose, its own evaluation is its score."""
        super().restore(policy, scores)
        if self._by == MODEL_LOWER_BOUND:
            scores.keep_last()

    @property
    def choice(self) -> PolicyChoice:
        """Which policy is the best of those that were considered, and the one before."""
        return PolicyChoice(self._by, self._epoch, self._epochs, self._before, self._chosen, self._last)

    def state_dict(self) -> dict[str, Any]:
        """The best policy so far, and the estimates."""
        return super().state_dict() | {"chosen": self._chosen, "last": self._last}


def _lower_bound(estimate: ModelReturn | None) -> float | None:
    value = math.nan if estimate is None else estimate.lower_bound
    return value if math.isfinite(value) else None


def _exceeds(value: float | None, best: float | None) -> bool:
    return value is not None and (best is None or value > best)
