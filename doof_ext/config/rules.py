"""What a setting says of itself, and how its values are told and written. Imports neither torch nor a simulator."""

import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

_AFTER_PRETRAINING = ("explore", "collect", "finetune_dynamics", "finetune_policy")


@dataclass(frozen=True)
class Rules:
    """What a field says of itself.

    Attributes:
        help: Its line of help.
        stage: What it belongs to, a key of STAGES.
        choices: The values it may take.
        ge, gt, le, lt: Bounds of the value; of each number, where there are several.
        default_from: Who fills it in where the user leaves it open: "task", "preset" or "method".
        after_pretraining: Whether stage 1 does not depend on it.
        resumable: Whether a run may be resumed with another value, since no result depends on it.
        goes_with: Another setting's name and the values of it beside which this one has an effect; any, where open.
    """

    help: str
    stage: str
    choices: Sequence[str] | None = None
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    default_from: str | None = None
    after_pretraining: bool = False
    resumable: bool = False
    goes_with: tuple[str, tuple[Any, ...]] | None = None

    def violation(self, value: Any) -> str | None:
        """What a value must be, where it is not that; None where it is. None as a value fits."""
        plain = value is None or isinstance(value, bool | str)
        numbers = value if isinstance(value, tuple) else [] if plain else [value]
        bounds = (self.ge, self.gt, self.le, self.lt)
        if bounds == (None,) * 4 or all(self._within(number) for number in numbers):
            return None
        if self.ge is not None and self.le is not None:
            right = f"between {_short(self.ge)} and {_short(self.le)}"
        else:
            words = zip(("at least", "above", "at most", "below"), bounds, strict=True)
            right = " and ".join(f"{word} {_short(bound)}" for word, bound in words if bound is not None)
        return f"numbers {right}" if isinstance(value, tuple) else right

    def _within(self, number: float) -> bool:
        return (
            (self.ge is None or number >= self.ge)
            and (self.gt is None or number > self.gt)
            and (self.le is None or number <= self.le)
            and (self.lt is None or number < self.lt)
        )


def _short(bound: float) -> str:
    power = int(bound).bit_length() - 1
    return f"2**{power}" if power > 16 and bound == 2**power else f"{bound:g}"


def option(default: Any, help: str, *, stage: str = "run", **rules: Any) -> Any:
    """A field with its default, its line of help, and its rules (see :class:`Rules`)."""
    rules.setdefault("after_pretraining", stage in _AFTER_PRETRAINING or rules.get("resumable", False))
    return dataclasses.field(default=default, metadata={"rules": Rules(help, stage, **rules)})


def rules_of(settings: Any) -> dict[str, Rules]:
    """The rules of every setting of a dataclass of settings, by name."""
    return {field.name: field.metadata["rules"] for field in dataclasses.fields(settings)}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; lists of JSON are tuples here, and a whole number is a float, too."""
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(fits(item, typing.get_args(hint)[0]) for item in value)
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if typing.get_args(hint):  # a union
        return any(fits(value, part) for part in typing.get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is hint


def words_of(hint: Any) -> list[str]:
    """The words that a field of this type takes in place of a number."""
    literals = [part for part in typing.get_args(hint) if typing.get_origin(part) is Literal]
    return [word for part in literals for word in typing.get_args(part)]


def flag(name: str) -> str:
    """A setting's flag on the command line."""
    return "--" + name.replace("_", "-")


def text_of(value: Any) -> str:
    """A value in short: 1 for 1.0, 256 256 for (256, 256)."""
    if isinstance(value, tuple):
        return " ".join(map(text_of, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
