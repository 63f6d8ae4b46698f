"""A sweep's runs from a command line or a file: every combination of the values listed, each as run_doof.py's flags."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from doof_ext.errors import UserError

Table = dict[str, list[list[str]]]
"""Values by flag, such as ``--task``; a value is the list of its arguments."""

PLURALS = {
    "tasks": "--task",
    "seeds": "--seed",
    "ratios": "--exploration-ratio",
    "algos": "--algo",
    "uncertainties": "--uncertainty",
    "baselines": "--baseline",
}
"""The names under which a sweep lists values of these flags; ``--baseline`` is a sweep's own (see plan.plan_runs)."""

_ARMS = ("--control", "--exploration-ratio", "--baseline")


def expand(table: Table) -> Iterator[list[str]]:
    """The arguments of each run: all combinations, and in each the arms: the controls, the ratios, the baselines."""
    rest = {name: values for name, values in table.items() if name not in _ARMS}
    arms = [["--control", *value] for value in table.get("--control", [])]
    if "--exploration-ratio" in table:
        arms += [["--exploration-ratio", *value] for value in table["--exploration-ratio"]]
    else:
        arms.append([])  # DOOF at the default ratio
    arms += [["--baseline", *value] for value in table.get("--baseline", [])]
    order = sorted(rest, key=lambda name: ("--task", "--seed").index(name) if name in ("--task", "--seed") else 2)
    for chosen in itertools.product(*([[name, *value] for value in rest[name]] for name in order)):
        for arm in arms:
            yield [argument for part in (*chosen, arm) for argument in part]


def from_line(given: Mapping[str, str | Sequence[str] | None]) -> Table:
    """A table from what a command line lists: values separated by commas, or several arguments."""
    table: Table = {}
    for name, listed in given.items():
        if listed is not None:
            values = listed.split(",") if isinstance(listed, str) else listed
            table[_flag(name)] = [[value] for value in values]
    return table


def read_grid(path: str) -> list[Table]:
    """The tables of a TOML file: each ``[[runs]]``, with what the file says before the first of them for all.

    A name is that of a flag, or one of PLURALS; a list holds the values to be combined, of which a flag that takes
    several arguments has lists. ``$NAME`` in a text is that environment variable.

    Raises:
        UserError: The file cannot be read, or holds something else.
    """
    content = read_toml(path)
    tables = content.pop("runs", None)
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise UserError(f"{path} has no [[runs]]; see studies/lite.toml")
    return [_table(f"{path}, table {number}", content | table) for number, table in enumerate(tables, 1)]


def read_toml(path: str) -> dict[str, Any]:
    """A TOML file; raises UserError, one line, where it cannot be read."""
    try:
        import tomllib
    except ImportError:  # before Python 3.11; comes with the extra
        try:
            import tomli as tomllib
        except ImportError:
            raise UserError("reading TOML needs tomli on Python 3.10: pip install 'doof_ext[tune]'") from None
    try:
        with open(os.path.expanduser(path), "rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _table(where: str, content: Mapping[str, Any]) -> Table:
    table: Table = {}
    for name, listed in content.items():
        values = listed if isinstance(listed, list) else [listed]
        if any(isinstance(value, dict) for value in values):
            raise UserError(f"{where}: {name} is a table, not a value or a list of values")
        table[_flag(name)] = [list(map(_argument, value if isinstance(value, list) else [value])) for value in values]
    return table


def _flag(name: str) -> str:
    return PLURALS.get(name, "--" + name.replace("_", "-"))


def _argument(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else os.path.expandvars(str(value))
