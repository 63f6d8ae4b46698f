"""Where transitions come from: D4RL's files, the d4rl package, or a recipe dataset made here."""

import os
from dataclasses import dataclass

from doof_ext.errors import UserError

__all__ = ["LoadedDataset", "check_source", "load"]


@dataclass
class LoadedDataset:
    """A dataset with its provenance: ``source`` is d4rl, hdf5 or recipe; ``id`` names it within the source."""

    dataset: "Dataset"  # noqa: F821 - doof_ext.data.dataset.Dataset, imported where h5py is needed
    source: str
    id: str


def check_source(source: str) -> None:
    """Raises UserError unless ``source`` is auto, d4rl, recipe or hdf5:FILE."""
    if source not in ("auto", "d4rl", "recipe") and not source.startswith("hdf5:"):
        raise UserError(f"unknown source {source!r}; choose auto, d4rl, hdf5:FILE or recipe")


def _d4rl_file(task):
    """Where D4RL's file of the task is, or None. The package caches it as hopper_medium-v2.hdf5."""
    folder = os.environ.get("D4RL_DATASET_DIR") or os.path.join(os.path.expanduser("~"), ".d4rl", "datasets")
    stem, version = task.rsplit("-", 1)
    for name in (f"{stem.replace('-', '_')}-{version}.hdf5", f"{task}.hdf5"):
        if os.path.isfile(os.path.join(folder, name)):
            return os.path.join(folder, name)
    return None


def _from_package(task):
    """The dataset as the d4rl package gives it, or None where it or its environment cannot be had."""
    from doof_ext.tasks.d4rl_package import read_d4rl_package

    columns = read_d4rl_package(task)
    if columns is None:
        return None
    from doof_ext.data.dataset import dataset_from_columns
    from doof_ext.tasks import get_spec

    return dataset_from_columns(f"d4rl:{task}", columns, spec=get_spec(task))


def load(source: str, task: str, steps: int | None = None, seed: int = 0) -> LoadedDataset:
    """The task's dataset from ``source``.

    ``auto`` takes D4RL's file ($D4RL_DATASET_DIR or ~/.d4rl/datasets), else the d4rl package, else the recipe.
    ``steps`` shortens a recipe. Raises UserError where the source has none.
    """
    from doof_ext.data.dataset import read_dataset
    from doof_ext.tasks import get_spec

    check_source(source)
    spec = get_spec(task)
    if source.startswith("hdf5:"):
        path = source.removeprefix("hdf5:")
        dataset = read_dataset(path, spec)
        return _labelled(dataset, "hdf5", os.path.basename(path))
    if source in ("auto", "d4rl"):
        path = _d4rl_file(task)
        if path is not None:
            return _labelled(read_dataset(path, spec), "d4rl", os.path.basename(path))
        packaged = _from_package(task)
        if packaged is not None:
            return _labelled(packaged, "d4rl", f"package:{task}")
        if source == "d4rl":
            raise UserError(
                f"no D4RL file for {task} in $D4RL_DATASET_DIR or ~/.d4rl/datasets, and no d4rl package; "
                "put the file there or use --source recipe"
            )
    from doof_ext.data.recipe import load_recipe

    return LoadedDataset(load_recipe(task, steps, seed), "recipe", task)


def _labelled(dataset, source, name):
    """A recipe's file stays a recipe, by whatever way it comes."""
    if len(dataset) < 2:
        raise UserError(f"{name}: one transition only; a dynamics model needs rows to learn from and rows held out")
    recipe = dataset.metadata.get("recipe")
    return LoadedDataset(dataset, "recipe" if recipe else source, str(recipe or name))
