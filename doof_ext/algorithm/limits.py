"""Not too far: which policy takes a step of stage 3, and within which limits; for a run and for an OnlineSession.

Everything is derived from the journal's rows, so that a collection that is resumed decides as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from doof_ext.config import Config
from doof_ext.errors import RunStoppedError, UserError
from doof_ext.tasks import load_function

Act = Callable[[np.ndarray, int | None], np.ndarray]
"""An observation [O] and a seed, None for the mean action → the action [A]."""

_ROUNDING = 1e-9  # of a share times a number of episodes


@dataclass(frozen=True)
class Limits:
    """The limits of a collection; each is off where it is None.

    Attributes:
        floor: The mean return of π_u's episodes below which π_off takes the rest of the steps.
        explore_share: The part of the episodes that π_u takes; π_off takes the others, and the first.
        max_action_change: How much an action may differ from the one before it in its episode, of each dimension or
            one number for all.
        stop_rule: fn(observation [O], action [A], next_observation [O]) → bool, of arrays: whether the episode ends.
    """

    floor: float | None = None
    explore_share: float | None = None
    max_action_change: tuple[float, ...] | None = None
    stop_rule: Callable[..., Any] | None = None

    @classmethod
    def of(cls, config: Config, base_return: float | None) -> Limits:
        """The limits of a run.

        Args:
            config: The settings.
            base_return: The mean return of π_off's episodes, for ``return_floor``.

        Raises:
            UserError: The stop rule cannot be imported.
        """
        part, floor = config.return_floor, None
        if part is not None and base_return is not None:
            floor = return_floor(base_return, part)
        rule = load_function("--stop-rule", config.stop_rule) if config.stop_rule else None
        return cls(floor, config.explore_share, config.max_action_change, rule)

    @property
    def are_off(self) -> bool:
        """Whether there are none: the paper's collection."""
        return self == Limits()

    def check(self, observation: np.ndarray, action: np.ndarray) -> None:
        """Tries the limits on a recorded step, observation [O] and action [A]; raises UserError where they do not fit.

        Args:
            observation: [O].
            action: [A].
        """
        numbers = len(self.max_action_change or (0,))
        if numbers not in (1, len(action)):
            raise UserError(f"--max-action-change has {numbers} numbers, an action has {len(action)}; give one or all")
        try:
            self.stops(observation, action, observation)
        except RunStoppedError as error:
            raise UserError(f"--stop-rule: {error}") from error

    def stops(self, observation: np.ndarray, action: np.ndarray, next_observation: np.ndarray) -> bool:
        """The stop rule's answer; raises RunStoppedError where it has none."""
        if self.stop_rule is None:
            return False
        try:
            answer = self.stop_rule(observation, action, next_observation)
        except Exception as error:  # a user's function may raise anything
            raise RunStoppedError(f"the stop rule fails ({type(error).__name__}: {error})") from error
        if np.ndim(answer) != 0 or answer not in (False, True):
            raise RunStoppedError(f"the stop rule gives {answer!r} where it must give True or False")
        return bool(answer)


def return_floor(base_return: float, part: float) -> float:
    """The return that π_u's episodes must keep: that part of π_off's, and of a negative one 1/part times as much.

    So ``part`` 0.5 stands for half the reward, or twice the cost.
    """
    return base_return * part if base_return >= 0 else base_return / part


class LimitedCollection:
    """The state of a collection that its limits depend on.

    Without limits π_u acts, and nothing is added to the journal's rows. With any, a row has ``explores`` (whether π_u
    acted), ``limited`` (whether the action was) and ``stopped`` (whether the stop rule ended the episode).

    Args:
        limits: The limits.
        rows: The steps so far, as OnlineJournal has them.
    """

    def __init__(self, limits: Limits, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        self.limits = limits
        self._counts = {"steps": [0, 0], "episodes": [0, 0]}  # π_off's, π_u's
        self._actions_limited = self._stopped = self._taken = 0
        self._explores, self._last_action = True, np.zeros(0)
        self._return = 0.0  # of the episode
        self._returns: list[float] = []  # of π_u's episodes that have ended
        self._fell_at: int | None = None
        self._columns: dict[str, bool] = {}
        for row in rows:
            self.took(row)

    def act(self, exploring: Act, base: Act | None, observation: np.ndarray, starts: bool, seed: int | None) -> Any:
        """The action [A] of the next step.

        Args:
            exploring: π_u.
            base: π_off; None where no limit may call for it.
            observation: [O].
            starts: Whether the step starts an episode.
            seed: Of the action; None for the mean action.
        """
        if self.limits.are_off:
            return exploring(observation, seed)
        explores = self._next_explores() if starts else self._explores
        policy = exploring if explores else base
        assert policy is not None
        wanted, action, change = policy(observation, seed), None, self.limits.max_action_change
        if change is not None and not starts and np.isfinite(wanted).all():  # the others are refused as they are
            most = np.array(change, wanted.dtype)
            action = wanted.clip(self._last_action - most, self._last_action + most)
        limited = action is not None and bool((action != wanted).any())
        self._columns = {"explores": explores, "limited": limited}
        return wanted if action is None else action

    def columns(
        self, observation: np.ndarray, action: np.ndarray, next_observation: np.ndarray, ends: bool
    ) -> dict[str, bool]:
        """What the limits add to the row of the step that was taken with :meth:`act`'s action; {} without limits.

        Args:
            observation: [O].
            action: [A].
            next_observation: [O].
            ends: Whether the episode ends anyway.

        Raises:
            RunStoppedError: The stop rule has no answer.
        """
        if self.limits.are_off:
            return {}
        return self._columns | {"stopped": not ends and self.limits.stops(observation, action, next_observation)}

    def took(self, row: Mapping[str, Any]) -> None:
        """Takes in a step that is in the journal."""
        if "explores" not in row:
            return
        if row["starts"]:
            self._explores, self._return = bool(row["explores"]), 0.0
            self._counts["episodes"][self._explores] += 1
        self._counts["steps"][self._explores] += 1
        self._taken += 1
        self._actions_limited += bool(row["limited"])
        self._stopped += bool(row["stopped"])
        self._last_action = np.asarray(row["actions"])
        self._return += float(row["rewards"])
        if self._explores and (row["terminals"] or row["truncated"]):
            self._returns.append(self._return)
            floor = self.limits.floor
            if self._fell_at is None and floor is not None and np.mean(self._returns) < floor:
                self._fell_at = self._taken

    def _next_explores(self) -> bool:
        """Whether π_u takes the next episode: of any first n episodes, share · n, rounded down."""
        if self._fell_at is not None:
            return False
        share, begun = self.limits.explore_share, sum(self._counts["episodes"])
        if share is None:
            return True
        return math.floor((begun + 1) * share + _ROUNDING) > math.floor(begun * share + _ROUNDING)

    def report(self) -> dict[str, Any] | None:
        """What was limited, and how often, for the summary; None without limits, or where nothing was taken here."""
        if self.limits.are_off or not self._taken:
            return None
        by_policy = {
            what: {"pretrained": base, "exploration": exploring} for what, (base, exploring) in self._counts.items()
        }
        return {
            **by_policy,
            "return_floor": self.limits.floor,
            "exploration_return": float(np.mean(self._returns)) if self._returns else None,
            "fell_below_after": self._fell_at,
            "actions_limited": self._actions_limited,
            "episodes_stopped": self._stopped,
        }


def limits_line(report: Mapping[str, Any]) -> str:
    """A report's line in the log."""
    steps = report["steps"]
    fell = report["fell_below_after"]
    parts = [
        f"{steps['exploration']} steps by the exploration policy, {steps['pretrained']} by the pretrained one",
        f"{report['actions_limited']} actions limited",
        f"{report['episodes_stopped']} episodes stopped by the rule",
        *([f"below the return floor {report['return_floor']:.4g} after step {fell}"] if fell is not None else []),
    ]
    return f"3 collect, limits: {', '.join(parts)}"
