"""The kit's own runners, unmodified, with DOOF plugged in: their pretraining is stage 1, stages 2-5 follow.

A runner builds everything from names it imports; in this process DOOF's classes stand under the same names. Its command
line says what stage 1 is, ``--doof-`` flags say the rest. Imports no torch until a runner's command line is right.
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
    """What a runner's text says of it, before it is run."""

    path: str
    algo: str  # mopo or mobile
    flags: set[str]  # its own flags' names, as the attributes they become


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
    flags: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("offlinerlkit"):
            imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            flags |= {str(name).lstrip("-").replace("-", "_") for name in names}
    algos = [algo for policy, algo in _ALGOS.items() if policy in imported]
    if len(algos) != 1 or "MBPolicyTrainer" not in imported:
        raise UserError(
            f"{path} is not one of the kit's model-based runners that DOOF extends: run_mopo.py, run_mobile.py"
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
    return own[0], own[1:], doof


def doof_settings(runner: Runner, arguments: Sequence[str]) -> dict[str, Any]:
    """The settings that DOOF's flags give; raises UserError for unknown ones and those that the runner has itself."""
    try:
        given = given_flags(arguments)
    except UserError as error:
        raise UserError(str(error).replace("--", "--doof-")) from error
    for name in given:
        if name in runner.flags or name in ("algo", "env_id", "termination", "max_episode_steps"):
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
        taken["auto_alpha"] = bool(taken["auto_alpha"])  # run_mopo.py keeps a given value a string
    if taken.get("target_entropy") is not None:
        taken["target_entropy"] = float(taken["target_entropy"])
    return taken


def run_kit_script(argv: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Runs a runner with DOOF plugged in.

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
    parse_args = argparse.ArgumentParser.parse_args

    def parse(parser: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        parsed = parse_args(parser, args, namespace)
        if not session.configured:
            session.configure(runner_settings(vars(parsed)))
        return parsed

    saved = sys.argv, sys.path[:], argparse.ArgumentParser.error
    sys.argv, sys.path[0:0] = [path, *own], [os.path.dirname(os.path.abspath(path))]
    argparse.ArgumentParser.parse_args = parse  # type: ignore[method-assign, assignment]
    argparse.ArgumentParser.error = OneLineParser.error  # type: ignore[method-assign]
    try:
        runpy.run_path(path, run_name="__main__")
    finally:
        argparse.ArgumentParser.parse_args = parse_args  # type: ignore[method-assign]
        sys.argv, sys.path[:], argparse.ArgumentParser.error = saved  # type: ignore[method-assign]
        session.close()
    if session.summary is None:
        raise UserError(f"{path} ended without training a policy: there is nothing for DOOF to finetune")
    return session.summary, session.experiment.directory
