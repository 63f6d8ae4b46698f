"""Makes, converts and describes datasets in D4RL's HDF5 format.

python run_example/make_dataset.py --task walker2d-medium-v2 --source recipe --steps 20000 --out walker2d.hdf5
python run_example/make_dataset.py --task pen-human-v1 --source dapg:pen-v0_demos.pickle --out pen-human.hdf5
python run_example/make_dataset.py --task pen-cloned-v1 --source clone:pen-human.hdf5 --out pen-cloned.hdf5
python run_example/make_dataset.py --info walker2d.hdf5
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from doof_ext.cli.exit_code import exit_code_of
from doof_ext.config import OneLineParser
from doof_ext.data import FILE_MAKERS
from doof_ext.errors import UserError
from doof_ext.tasks import TaskSpec

if TYPE_CHECKING:
    from doof_ext.data.dataset import Dataset


def _make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", help="the task; of --info, by default the one that the file names")
    parser.add_argument("--env-id", help="a Gymnasium environment of your own instead of a task's")
    parser.add_argument("--max-episode-steps", type=int, help="time limit of --env-id, where it is registered without")
    parser.add_argument(
        "--source",
        default="recipe",
        help="recipe, random (uniform actions in the task's environment), d4rl, hdf5:FILE, minari:ID; of the pen's "
        "tasks also dapg:FILE (hand_dapg's demonstrations, replayed: pen-human) and clone:FILE (a clone of pen-human's "
        "FILE, and its rows: pen-cloned) (default: recipe)",
    )
    parser.add_argument("--steps", type=int, help="how many steps; all, or as many as D4RL's file, by default")
    parser.add_argument("--seed", type=int, default=1, help="of data that are made here (default: 1)")
    parser.add_argument("--download", action="store_true", help="fetch D4RL's file where it is not on this machine")
    parser.add_argument("--out", type=os.path.expanduser, help="the HDF5 file to write")
    parser.add_argument(
        "--info", metavar="FILE", type=os.path.expanduser, help="describe a file instead, and check its physics"
    )
    return parser


def _task(args: argparse.Namespace, named: str | None = None) -> TaskSpec | None:
    """The spec of the task asked for, or of the one that a file names; None for neither."""
    from doof_ext.tasks import get_spec, name_of_env, spec_of_env, task_names

    if args.env_id:
        return spec_of_env(args.task or name_of_env(args.env_id), args.env_id, "never", args.max_episode_steps)
    if args.max_episode_steps is not None:
        raise UserError("--max-episode-steps goes with --env-id; a task has its own")
    if args.task:
        return get_spec(args.task)
    return get_spec(named) if named is not None and named in task_names() else None


def _describe(args: argparse.Namespace) -> None:
    from doof_ext.data.dataset import read_dataset
    from doof_ext.data.info import describe
    from doof_ext.evaluation.consistency import physics_findings
    from doof_ext.tasks import make_env

    dataset = read_dataset(args.info, _task(args))
    spec = _task(args, dataset.metadata.get("task"))
    widths = dataset.observations.shape[1], dataset.actions.shape[1]
    if spec is not None and spec.obs_dim is not None and (spec.obs_dim, spec.action_dim) != widths:
        has = f"observes {widths[0]} and acts {widths[1]} numbers, {spec.name} {spec.obs_dim} and {spec.action_dim}"
        raise UserError(f"{args.info}: it says that it is of {spec.name}, but it {has}; give --task or --env-id")
    print(args.info, *describe(dataset, spec), sep="\n")
    if spec is None:
        print("physics check: which task is it? give --task or --env-id")
    else:
        print(*physics_findings(make_env(spec), dataset), sep="\n")


def _of_demonstrations(kind: str, path: str, spec: TaskSpec, steps: int, args: argparse.Namespace) -> Dataset:
    """A dataset of the pen's human demonstrations, from hand_dapg's pickle or a file of pen-human."""
    if not path:
        raise UserError(f"--source {kind}: which file? give --source {kind}:FILE")
    if FILE_MAKERS.get(spec.name) != kind:
        known = ", ".join(f"{task} from {maker}:FILE" for task, maker in FILE_MAKERS.items())
        raise UserError(f"{spec.name} cannot be made from --source {kind}:FILE; what can: {known}")
    if kind == "clone":
        from doof_ext.data.cloning import generate_cloned

        return generate_cloned(path, spec, steps, args.seed)
    from doof_ext.data.dataset import first_steps
    from doof_ext.data.demonstrations import replay

    return first_steps(replay(path, spec), args.steps)


def _make(args: argparse.Namespace) -> None:
    spec = _task(args)
    kind, _, name = args.source.partition(":")
    if (spec is None and kind != "hdf5") or not args.out:
        raise UserError("give --task (or --env-id) and --out, or --info FILE; see --help")
    if args.steps is not None and args.steps < 2:
        raise UserError(f"--steps is {args.steps}; it must be at least 2")
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}; it must be at least 0")
    from doof_ext import data
    from doof_ext.data.dataset import check_writable, first_steps, read_dataset
    from doof_ext.data.recipe import generate, has_recipe, record_uniform
    from doof_ext.tasks import make_env

    check_writable(args.out)
    if spec is None:  # of a system without a simulator, too
        _write(args.out, first_steps(read_dataset(os.path.expanduser(name)), args.steps))
        return
    spec = spec if spec.obs_dim else make_env(spec).spec
    steps: int = args.steps or spec.dataset_steps or 10_000
    if args.source == "random":
        dataset = record_uniform(spec, steps, args.seed)
    elif kind in FILE_MAKERS.values():
        dataset = _of_demonstrations(kind, os.path.expanduser(name), spec, steps, args)
    elif args.source == "recipe" and has_recipe(spec):
        dataset = generate(spec, steps, args.seed)
    else:
        from doof_ext.evaluation.consistency import origin_findings  # imports torch

        loaded = data.load(args.source, spec, args.steps, args.seed, args.download)
        dataset = first_steps(loaded.dataset, args.steps)
        for finding in origin_findings(spec, dataset):
            print(finding)
        dataset.metadata.setdefault("source", f"{loaded.source} {loaded.id}")
        dataset.metadata["task"] = spec.name
    _write(args.out, dataset)


def _write(path: str, dataset: Dataset) -> None:
    from doof_ext.data.dataset import write_dataset

    write_dataset(path, dataset)
    print(f"{path}: {len(dataset)} steps, {os.path.getsize(path) / 2**20:.1f} MiB")


def main(argv: Sequence[str] | None = None, command: str = "make_dataset.py") -> int:
    """Makes or describes a dataset from a command line; returns the exit code."""

    def make_or_describe() -> None:
        args = _make_parser().parse_args(argv)
        if args.info:
            _describe(args)
        else:
            _make(args)

    return exit_code_of(command, make_or_describe)
