"""A search: runs drawn from a space of flags, of which ASHA ends the worse ones early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from doof_ext.errors import UserError
from doof_ext.sweep.grid import read_toml

_DISTRIBUTIONS = ("choice", "uniform", "loguniform", "randint")
_FIELDS: dict[str, Any] = {"samples": int, "seed": int, "grace_epochs": int, "reduction": (int, float), "space": dict}


@dataclass(frozen=True)
class Search:
    """What a search file says.

    Attributes:
        samples: Runs to draw.
        space: Ray Tune's distribution of each flag, (name, arguments).
        seed: Of the draws.
        grace_epochs: Epochs of policy training before ASHA may end a run.
        reduction: Of the runs that reach a rung, ASHA lets one in ``reduction`` go on.
    """

    samples: int
    space: dict[str, tuple[str, Any]]
    seed: int = 0
    grace_epochs: int = 1
    reduction: float = 3.0

    def draw(self) -> list[list[str]]:
        """The flags of each run: the same ones for the same file."""
        import numpy as np
        from ray import tune

        generator = np.random.RandomState(self.seed)
        drawn = []
        for _ in range(self.samples):
            argv: list[str] = []
            for name, (distribution, arguments) in self.space.items():
                if distribution == "choice":
                    value = arguments[generator.randint(len(arguments))]
                else:
                    value = getattr(tune, distribution)(*arguments).sample(random_state=generator)
                argv += [name, f"{value:.4g}" if isinstance(value, float) else str(value)]
            drawn.append(argv)
        return drawn


def read_search(path: str) -> Search:
    """A search file in TOML: ``samples``, ``[space]`` with a distribution per flag, and what else Search has.

    Raises:
        UserError: The file cannot be read, or says something else.
    """
    content = read_toml(path)
    for name, value in content.items():
        if name not in _FIELDS or not isinstance(value, _FIELDS[name]) or isinstance(value, bool):
            raise UserError(f"{path}: {name} = {value!r}; a search has {', '.join(_FIELDS)}; see docs/sweeps.md")
    space = {
        f"--{name.replace('_', '-')}": _distribution(path, name, x) for name, x in content.pop("space", {}).items()
    }
    if not space or content.get("samples", 0) < 1:
        raise UserError(f"{path}: a search needs samples and a [space] of flags; see docs/sweeps.md")
    if content.get("grace_epochs", 1) < 1 or content.get("reduction", 2) <= 1:
        raise UserError(f"{path}: grace_epochs must be at least 1 and reduction above 1")
    return Search(space=space, **content)


def _distribution(path: str, name: str, given: Any) -> tuple[str, Sequence[Any]]:
    if isinstance(given, dict) and len(given) == 1:
        ((distribution, arguments),) = given.items()
        fits = isinstance(arguments, list) and arguments and (distribution == "choice" or _is_range(arguments))
        if distribution in _DISTRIBUTIONS and fits and not (distribution == "loguniform" and arguments[0] <= 0):
            return distribution, arguments
    raise UserError(f"{path}: {name} = {given!r}; give {{ DISTRIBUTION = […] }}, one of {', '.join(_DISTRIBUTIONS)}")


def _is_range(arguments: Sequence[Any]) -> bool:
    numbers = all(isinstance(bound, (int, float)) and not isinstance(bound, bool) for bound in arguments)
    return numbers and len(arguments) == 2 and arguments[0] < arguments[1]
