"""The command line: a flag per setting, under the kit's own flag names, grouped by stage."""

import argparse
import dataclasses
import difflib
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from doof_ext.config.completion import with_expanded_paths
from doof_ext.config.recorded import settings_to_resume
from doof_ext.config.resolution import Settings, resolve
from doof_ext.config.rules import Rules, flag, words_of
from doof_ext.config.run_settings import RunSettings
from doof_ext.config.settings import Config
from doof_ext.errors import UserError


class OneLineParser(argparse.ArgumentParser):
    """Reports a wrong argument as a UserError instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def make_parser(description: str, settings: type[RunSettings] = Config) -> argparse.ArgumentParser:
    """The command line of a dataclass of settings."""
    parser = OneLineParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    groups = {stage: parser.add_argument_group(title) for stage, title in settings.TITLES.items()}
    hints = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        rules: Rules = field.metadata["rules"]
        kind, several = _argument_type(hints[field.name])
        flags = [flag(field.name)]
        if field.name == "eval_episodes":
            flags.append("--eval_episodes")  # as the kit spells it
        arguments: dict[str, Any] = {"nargs": "+"} if several else {}
        if kind is bool:
            arguments = {"nargs": "?", "const": True}
        elif field.name == "resume":
            arguments = {"nargs": "?", "const": ""}
        elif rules.choices:
            kind, arguments = _choice(rules.choices), {"metavar": f"{{{','.join(rules.choices)}}}"}
        default = "" if field.default is None else f" (default: {field.default})"
        groups[rules.stage].add_argument(
            *flags,
            dest=field.name,
            default=argparse.SUPPRESS,
            type=_boolean if kind is bool else kind,
            help=rules.help.replace("%", "%%") + default,
            **arguments,
        )
    return parser


def _argument_type(hint: Any) -> tuple[Any, bool]:
    """The type of one argument of a field, and whether the field takes several."""
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    options = [part for part in typing.get_args(hint) if part is not type(None)]
    if words := words_of(hint):
        return _number_or(words, options[0]), False
    return _argument_type(options[0]) if options else (hint, False)


def _number_or(words: Sequence[str], number: Callable[[str], Any]) -> Callable[[str], Any]:
    """What reads a number or one of these words."""

    def read(text: str) -> Any:
        if text in words:
            return text
        try:
            return number(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor {' or '.join(words)}") from None

    return read


def _choice(choices: Sequence[str]) -> Callable[[str], str]:
    """What reads one of these words, and tells the nearest where it is another."""

    def read(text: str) -> str:
        if text in choices:
            return text
        near = difflib.get_close_matches(text, choices)
        nearest = f"; did you mean {' or '.join(near)}?" if near else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not among {', '.join(choices)}{nearest}")

    return read


def given_flags(
    argv: Sequence[str] | None = None, description: str = "", settings: type[RunSettings] = Config
) -> dict[str, Any]:
    """The settings that a command line gives, and no others; raises UserError for what cannot be read."""
    return _named(make_parser(description, settings).parse_args(argv))


def known_flags(argv: Sequence[str], settings: type[RunSettings]) -> tuple[dict[str, Any], list[str]]:
    """As :func:`given_flags`, and the arguments that are no flags of these settings."""
    given, rest = make_parser("", settings).parse_known_args(argv)
    return _named(given), rest


def _named(given: argparse.Namespace) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in vars(given).items()}


def command_line(given: Mapping[str, Any]) -> list[str]:
    """Settings as the flags that :func:`given_flags` reads them from."""
    argv = []
    for name, value in given.items():
        argv += [flag(name), *map(str, value if isinstance(value, tuple) else [value])]
    return argv


def settings_from(given: dict[str, Any], settings: type[Settings]) -> Settings:
    """The resolved settings of a new run, or (with ``resume`` among those given) of one that is resumed.

    Raises:
        UserError: The settings do not fit, or the run cannot be resumed with them.
    """
    given = with_expanded_paths(given)
    if given.get("resume") is not None:
        given = settings_to_resume(given, settings)
    return resolve(settings(**given), set(given))


def config_from(given: dict[str, Any]) -> Config:
    """As :func:`settings_from`, of a DOOF run."""
    return settings_from(given, Config)


def parse_settings(description: str, argv: Sequence[str] | None, settings: type[Settings]) -> Settings:
    """The resolved settings of a command line; raises UserError for what does not fit."""
    return settings_from(given_flags(argv, description, settings), settings)


def parse_args(description: str, argv: Sequence[str] | None = None) -> Config:
    """As :func:`parse_settings`, of a DOOF run."""
    return parse_settings(description, argv, Config)
