"""What keeps stage 4 from making things worse: recorded steps that it never sees decide whether P̂* replaces P̂."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from doof_ext.data import episodes
from doof_ext.data.dataset import Dataset
from doof_ext.evaluation.model_error import ModelError
from doof_ext.files import finite

SHARE = 0.1  # of D_on's steps that are held out, at least
TOLERANCE = 0.05  # by which the error on D may grow
_SAME = 1e-3  # of a column's standard deviation: rounding
FEWEST = 2  # steps that stage 4 learns from: one is held out of them, for its stopping rule
_ENOUGH = 5  # episodes of which the first observations can be compared
_UNLIKE = 3.0  # ranges of D's first observations that D_on's may lie beyond them


@dataclass
class Attempt:
    """A finetuned dynamics beside P̂, on steps that neither was trained on.

    Attributes:
        lr: Its learning rate.
        offline: Errors on held-out rows of D, before and after; None where training broke down.
        online: The same on held-out episodes of D_on.
        reasons: What speaks against it; nothing where it is accepted.
    """

    lr: float
    offline: tuple[ModelError, ModelError] | None
    online: tuple[ModelError, ModelError] | None
    reasons: list[str]

    @classmethod
    def judged(
        cls, lr: float, offline: tuple[ModelError, ModelError], online: tuple[ModelError, ModelError]
    ) -> Attempt:
        """With what its errors say against it."""
        return cls(lr, offline, online, objections(offline, online))


@dataclass
class Verdict:
    """What the guard did in a round.

    Attributes:
        reasons: Why the round was refused; nothing where its P̂* is accepted.
        attempts: The dynamics that were tried, with their errors; none where D_on itself was refused.
        held_out: Rows of D_on that were held out.
        fresh: The error of P̂ on the round's own steps, before anything is learned from them; None where D_on was
            refused.
    """

    reasons: list[str]
    attempts: list[Attempt]
    held_out: int
    fresh: ModelError | None = None

    @property
    def accepted(self) -> bool:
        """Whether P̂* replaces P̂."""
        return not self.reasons

    def for_summary(self) -> dict[str, Any]:
        """As result/summary.json has it; None in place of what is not finite."""
        attempts = []
        for attempt in self.attempts:
            pairs = {"offline": attempt.offline, "online": attempt.online}
            errors = {
                name: pair and dict(zip(("before", "after"), (finite(vars(error)) for error in pair), strict=True))
                for name, pair in pairs.items()
            }
            attempts.append({"lr": attempt.lr, **errors, "reasons": attempt.reasons})
        return {
            "accepted": self.accepted,
            "reasons": self.reasons,
            "held_out": self.held_out,
            "fresh": self.fresh and finite(vars(self.fresh)),
            "attempts": attempts,
        }


def against_another_round(verdicts: Sequence[Verdict]) -> str | None:
    """``--rounds auto``: what speaks against a further round; None where nothing does.

    That the last one was refused, or that its new steps, before anything was learned from them, were predicted no
    better than the new steps of the round before; the first round has none to compare with.
    """
    last = verdicts[-1]
    if not last.accepted or last.fresh is None:
        return "the last one was refused"
    before = verdicts[-2].fresh if len(verdicts) > 1 else None
    if before is None or last.fresh.distance < before.distance:
        return None
    return f"distance on new steps {before.distance:.4g} → {last.fresh.distance:.4g}, not lower"


class GuardedData:
    """D_on as stage 4 has it under the guard.

    Args:
        online: D_on, of all rounds so far.
        offline: D.
        steps: Of the round, the last ones of D_on.
    """

    def __init__(self, online: Dataset, offline: Dataset, steps: int) -> None:
        self._online, self._offline = online, offline
        held, transitions = held_out_rows(online), online.transitions()
        self.fresh = {name: column[-steps:] for name, column in transitions.items()}
        self.training = {name: column[~held] for name, column in transitions.items()}
        self.held_out = {name: column[held] for name, column in transitions.items()}

    def verdict(self) -> Verdict:
        """What speaks against D_on itself, before anything is trained on it."""
        reasons = suspicions(self._online, self._offline)
        if len(self.training["rewards"]) < FEWEST:
            reasons.append(f"D_on has {len(self._online)} steps, too few to learn from some and judge by others")
        return Verdict(reasons, [], len(self.held_out["rewards"]))


def held_out_rows(online: Dataset) -> np.ndarray:
    """Which rows [N] stage 4 does not see, at least a tenth of the steps: whole episodes, and the ends of long ones.

    An episode is held out where what is held out before it is less than a tenth of the steps up to its end; of one that
    would bring it above half of them, as the first does, its end alone. So the steps up to the end of an episode alone
    decide on it, and what one round holds out stays held out when the next adds its steps.
    """
    held = np.zeros(len(online), bool)
    rows = 0
    for start, stop in zip(*episodes.bounds(online), strict=True):
        lacking = math.ceil(SHARE * stop) - rows
        if lacking > 0:
            taken = stop - start if rows + stop - start <= stop / 2 else min(lacking, stop - start)
            held[stop - taken : stop] = True
            rows += taken
    return held


def suspicions(online: Dataset, offline: Dataset) -> list[str]:
    """What is wrong with D_on itself, so wrong that nothing should be learned from it; a line each.

    Its steps do not follow one another; a column that moves in D never does; its episodes begin where no episode of D
    begins, as in other units.
    """
    spread = offline.observations.std(0, dtype=np.float64)
    found = []
    starts, _ = episodes.bounds(online)
    broken, count = episodes.breaks(online, spread)
    if broken > 0.01 * count:
        found.append(f"{broken} of {count} steps of D_on do not lead to the observation of the step after them")
    still = np.flatnonzero((online.observations.std(0, dtype=np.float64) == 0) & (spread > 0))
    if len(still) and len(online) > len(starts):
        found.append(f"observation {', '.join(map(str, still))} never changes in D_on: a stuck sensor?")
    first = online.observations[starts]
    known = offline.observations[episodes.bounds(offline)[0]]
    if min(len(first), len(known)) >= _ENOUGH:
        low, high = known.min(0), known.max(0)
        slack = _UNLIKE * (high - low) + _SAME * spread
        strange = np.flatnonzero(np.median(abs(first - (low + high) / 2), 0) > (high - low) / 2 + slack)
        wide = np.flatnonzero(first.max(0) - first.min(0) > high - low + 2 * slack)
        if len(columns := sorted({*strange.tolist(), *wide.tolist()})):
            listed = ", ".join(map(str, columns))
            found.append(f"observation {listed} begins D_on's episodes where none of D begins: other units?")
    return found


def objections(offline: tuple[ModelError, ModelError], online: tuple[ModelError, ModelError]) -> list[str]:
    """What speaks against a finetuned dynamics: errors (before, after) on held-out D and D_on.

    On D_on both measures must fall; on D neither may grow by more than 5 % (the likelihood's: 0.05 nats or 5 %).
    """
    before, after = online
    if not after.finite or not offline[1].finite:
        return ["it predicts numbers that are not finite"]
    found = []
    if after.distance >= before.distance:
        found.append(f"distance on held-out D_on {before.distance:.4g} → {after.distance:.4g}, not lower")
    if after.nll >= before.nll:
        found.append(f"NLL on held-out D_on {before.nll:.4g} → {after.nll:.4g}, not lower")
    before, after = offline
    if after.distance > (1 + TOLERANCE) * before.distance:
        found.append(f"distance on held-out D {before.distance:.4g} → {after.distance:.4g}, more than 5 % higher")
    if after.nll > before.nll + TOLERANCE * max(1.0, abs(before.nll)):
        found.append(f"NLL on held-out D {before.nll:.4g} → {after.nll:.4g}, more than 5 % higher")
    return found
