"""The kit's own runners, unmodified, with DOOF plugged in: they run stage 1, then stages 2-5 follow.

A runner builds everything from names it imports; in this process those names are bound to DOOF's classes. Its command
line sets stage 1, ``--doof-`` flags set the rest. Torch is imported only once a runner's command line is valid.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from doof_ext.config import Config, OneLineParser, given_flags
from doof_ext.errors import UserError

_ALGOS = {"MOPOPolicy": "mopo", "MOBILEPolicy": "mobile"}


@dataclasses.dataclass
class Runner:
    """What is read from a runner's source before it is run.

    Attributes:
        path: Its path.
        algo: mopo or mobile.
        flags: Its own flags, as attribute names.
    """

    path: str
    algo: str
    flags: set[str]


def read_runner(path: str) -> Runner:
    """Reads a runner without running it; raises UserError unless it is one of the kit's MOPO or MOBILE runners."""
    try:
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read())
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a Python script"
        raise UserError(
            f"no runner at {path} ({reason}); give the path of the kit's run_mopo.py or run_mobile.py"
        ) from error
    imported: set[str] = set()
    modules: set[str] = set()
    flags: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            package = (node.module or "").partition(".")[0]
            modules.add(package)
            if package == "offlinerlkit":
                imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            flags |= {str(name).lstrip("-").replace("-", "_") for name in names}
    algos = [algo for policy, algo in _ALGOS.items() if policy in imported]
    if len(algos) != 1 or "MBPolicyTrainer" not in imported:
        raise UserError(
            f"{path} is not one of the kit's model-based runners that DOOF extends: run_mopo.py, run_mobile.py"
        )
    if "ray" in modules:
        raise UserError(
            f"{path} starts processes of its own with Ray, which DOOF is not plugged into; "
            f"run the kit's run_{algos[0]}.py once for each setting"
        )
    return Runner(path, algos[0], flags)


def split_arguments(argv: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """The runner's path, its own arguments, and DOOF's with the prefix taken off.

    Raises:
        UserError: There is no path.
    """
    own: list[str] = []
    doof: list[str] = []
    to_doof = False
    for argument in argv:
        if argument.startswith("--"):
            to_doof = argument.startswith("--doof-")
        (doof if to_doof else own).append(argument.replace("--doof-", "--", 1) if to_doof else argument)
    if not own or own[0].startswith("-"):
        raise UserError(
            "give a runner: python -m doof_ext PATH/run_mopo.py --task hopper-medium-v2 [--doof-preset smoke]"
        )
    return os.path.expanduser(own[0]), own[1:], doof


_OF_THE_RUNNER = ("algo", "env_id", "env", "action_low", "action_high", "termination", "max_episode_steps")


def doof_settings(runner: Runner, arguments: Sequence[str]) -> dict[str, Any]:
    """The settings of DOOF's flags; raises UserError for unknown flags and for those that the runner has itself."""
    try:
        given = given_flags(arguments)
    except UserError as error:
        raise UserError(str(error).replace("--", "--doof-")) from error
    if "online_data" in given:
        raise UserError("--doof-online-data: a runner's run takes its steps itself, or by doof_ext.OnlineSession")
    for name in given:
        if name in runner.flags or name in _OF_THE_RUNNER:
            flag = name.replace("_", "-")
            raise UserError(f"--doof-{flag}: that is the runner's to say (--{flag}, or its choice of policy and task)")
    return given


def runner_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of Config that a runner's parsed arguments contain, in Config's types."""
    names = {field.name for field in dataclasses.fields(Config)}
    taken = {name: value for name, value in arguments.items() if name in names and value is not None}
    taken.pop("algo", None)
    for name, value in taken.items():
        if isinstance(value, (list, tuple)):
            taken[name] = tuple(value)
    if "auto_alpha" in taken:
        taken["auto_alpha"] = bool(taken["auto_alpha"])  # run_mopo.py leaves a given value a string
    if taken.get("target_entropy") is not None:
        taken["target_entropy"] = float(taken["target_entropy"])
    return taken


def run_kit_script(argv: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Runs a runner with DOOF plugged in; ``argparse`` and ``sys`` are restored afterwards.

    Args:
        argv: The runner's path, its own arguments, and DOOF's with the prefix --doof-.

    Returns:
        The summary and the run directory.

    Raises:
        UserError: The runner or a flag does not fit; nothing is written.
    """
    path, own, doof = split_arguments(argv)
    runner = read_runner(path)
    given = doof_settings(runner, doof)
    from doof_ext.plugin.session import Session  # torch and the simulator are imported only for a run that can start

    session = Session(runner, given)
    session.plug_in()
    parser_class: Any = argparse.ArgumentParser  # its methods are replaced while the runner runs
    parse_args = parser_class.parse_args

    def parse(parser: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        parsed = parse_args(parser, args, namespace)
        if not session.configured:
            session.configure(runner_settings(vars(parsed)))
        return parsed

    saved = sys.argv, sys.path[:], parser_class.error
    sys.argv, sys.path[0:0] = [path, *own], [os.path.dirname(os.path.abspath(path))]
    parser_class.parse_args, parser_class.error = parse, OneLineParser.error
    try:
        runpy.run_path(path, run_name="__main__")
    except ImportError as error:
        if session.started:
            raise
        raise UserError(f"{path} cannot be run: {error}") from error
    finally:
        parser_class.parse_args = parse_args
        sys.argv, sys.path[:], parser_class.error = saved
        session.close()
    if session.summary is None:
        raise UserError(f"{path} ended without training a policy: there is nothing for DOOF to finetune")
    return session.summary, session.experiment.directory
