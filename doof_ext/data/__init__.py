"""The sources of transitions: D4RL's files, the d4rl package, Minari, or a recipe dataset recorded here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doof_ext.errors import UserError
from doof_ext.tasks.specs import TaskSpec

if TYPE_CHECKING:
    from doof_ext.data.dataset import Dataset  # needs h5py

__all__ = ["FILE_MAKERS", "LoadedDataset", "absolute_source", "check_source", "load", "with_provenance"]

FILE_MAKERS = {"pen-human-v1": "dapg", "pen-cloned-v1": "clone"}
"""By task, the kind of source that make_dataset.py makes its file from: KIND:FILE. No run takes one."""


@dataclass
class LoadedDataset:
    """A dataset with its provenance: ``source`` is d4rl, hdf5, minari or recipe; ``id`` names it within the source."""

    dataset: Dataset
    source: str
    id: str


def check_source(source: str) -> None:
    """Raises UserError unless ``source`` is auto, d4rl, recipe, hdf5:FILE or minari:ID."""
    kind, _, name = source.partition(":")
    if kind in (*FILE_MAKERS.values(), "random"):
        raise UserError(f"--source {source} is make_dataset.py's; run that, then give its file as --source hdf5:FILE")
    if not (source in ("auto", "d4rl", "recipe") or (kind in ("hdf5", "minari") and name)):
        raise UserError(f"unknown source {source!r}; choose auto, d4rl, hdf5:FILE, minari:ID or recipe")


def absolute_source(source: str) -> str:
    """The source with a file's path made absolute and its ``~`` expanded, so that it is the same from any folder."""
    kind, _, name = source.partition(":")
    return f"hdf5:{os.path.abspath(os.path.expanduser(name))}" if kind == "hdf5" and name else source


def load(source: str, spec: TaskSpec, steps: int | None = None, seed: int = 0, download: bool = False) -> LoadedDataset:
    """The task's dataset from ``source``.

    ``auto`` reads D4RL's file ($D4RL_DATASET_DIR or ~/.d4rl/datasets), else the d4rl package, else the recipe.

    Args:
        source: auto, d4rl, recipe, hdf5:FILE or minari:ID.
        spec: The task's spec.
        steps: Number of a recipe's steps; by default as many as D4RL's file has.
        seed: The recipe's seed.
        download: Whether to download D4RL's file where it is not on this machine.

    Raises:
        UserError: The source is unknown or has no dataset of the task, or its file is unusable.
    """
    from doof_ext.data.dataset import dataset_from_columns, read_dataset

    check_source(source)
    kind, _, name = absolute_source(source).partition(":")
    if kind == "hdf5":
        return with_provenance(read_dataset(name, spec), "hdf5", os.path.basename(name))
    if kind == "minari":
        from doof_ext.data.minari_source import read_minari

        return with_provenance(dataset_from_columns(f"minari:{name}", *read_minari(name), spec), "minari", name)
    if source in ("auto", "d4rl"):
        found = _from_d4rl(spec, download)
        if found is not None:
            return found
    from doof_ext.data.recipe import has_recipe, load_recipe

    if source == "d4rl" or not has_recipe(spec):
        raise UserError(_where_from(spec))
    return with_provenance(load_recipe(spec, steps, seed), "recipe", spec.name)


def load_online(source: str, spec: TaskSpec) -> LoadedDataset:
    """Online steps that a user collected.

    Args:
        source: The path of an HDF5 file in D4RL's format, or minari:ID.
        spec: The task's spec, to check the dimensions against.

    Raises:
        UserError: There is no such file or dataset, it is unusable, or it has one transition only.
    """
    return load(source if source.startswith(("minari:", "hdf5:")) else f"hdf5:{source}", spec)


def _from_d4rl(spec: TaskSpec, download: bool) -> LoadedDataset | None:
    """D4RL's file, else what its package loads; None where there is neither."""
    from doof_ext.data import download as d4rl_files
    from doof_ext.data.dataset import dataset_from_columns, read_dataset
    from doof_ext.tasks.d4rl_package import read_d4rl_package

    path = d4rl_files.local_file(spec)
    if path is None and download:
        path = d4rl_files.download(spec)
    if path is not None:
        return with_provenance(read_dataset(path, spec), "d4rl", os.path.basename(path))
    columns = read_d4rl_package(spec.name) if d4rl_files.url(spec) else None
    if columns is None:
        return None
    return with_provenance(
        dataset_from_columns(f"d4rl:{spec.name}", columns, spec=spec), "d4rl", f"package:{spec.name}"
    )


def _where_from(spec: TaskSpec) -> str:
    """Where to get the task's data, for a user who has none."""
    from doof_ext.data import download as d4rl_files
    from doof_ext.data.recipe import has_recipe

    if d4rl_files.url(spec) is None:
        return f"{spec.name} is a task of your own: give its data with --source hdf5:FILE or --source minari:ID"
    if has_recipe(spec):
        other = "or take --source recipe"
    else:
        other = f"or take --source minari:D4RL/{spec.domain}/{spec.quality}-v2"
        if spec.name in FILE_MAKERS:
            other += f", or make a file with make_dataset.py --source {FILE_MAKERS[spec.name]}:FILE"
    return (
        f"no D4RL file for {spec.name}: --download fetches {d4rl_files.url(spec)} into {d4rl_files.folder()}, {other}"
    )


def with_provenance(dataset: Dataset, source: str, name: str) -> LoadedDataset:
    """The dataset with its source and name; a recipe's file is reported as a recipe, whatever it was read from.

    Raises:
        UserError: It has only one transition.
    """
    if len(dataset) < 2:
        raise UserError(f"{name}: one transition only; a dynamics model needs rows to learn from and rows held out")
    recipe = dataset.metadata.get("recipe")
    return LoadedDataset(dataset, "recipe" if recipe else source, str(recipe or name))
