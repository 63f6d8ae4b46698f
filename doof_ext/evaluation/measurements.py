"""A run's dynamics measured before and after stage 4: the data of Figures 1, 2, 4, 5, 7, 8 and Tables 2 and 6."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from doof_ext.data.dataset import Dataset
from doof_ext.errors import UserError
from doof_ext.evaluation.dynamics_distance import (
    TruePairs,
    dataset_pairs,
    dynamics_distance,
    simulate_pairs,
    uniform_actions,
    uniform_pairs,
)
from doof_ext.files import publish

if TYPE_CHECKING:
    from doof_ext.config import Config

Measurements = dict[str, dict[str, np.ndarray]]
"""Distance and u of every pair, {kind: {"distance": [N], "u": [N]}}."""

KINDS = {
    "data": "(s_D, a_D)",
    "random_actions": "(s_D, uniform a)",
    "uniform": "(uniform s, uniform a)",
    "fake_buffer": "the fake buffer of stage 1",
    "online": "D_on",
    "other": "another dataset",
}
"""The kinds of pairs, with a description."""


def draw_pairs(
    config: Config,
    env: Any,
    dataset: Dataset,
    fake: Mapping[str, Any],
    online: Dataset | None = None,
    other: Dataset | None = None,
) -> dict[str, TruePairs]:
    """The pairs that P̂ and P̂* are compared on, ``config.distance_samples`` of each kind.

    Args:
        config: The settings.
        env: The environment.
        dataset: D.
        fake: Observations and actions of stage 1's fake buffer.
        online: D_on, where there is one.
        other: Another task's dataset, where there is one.

    Returns:
        The pairs by kind.
    """
    count, device, seed = config.distance_samples, config.device, config.seed
    rngs = {kind: np.random.default_rng([seed, number]) for number, kind in enumerate(KINDS)}
    actions = uniform_actions(env, count, rngs["random_actions"])
    fake = {name: np.asarray(column.cpu()) for name, column in fake.items()}
    pairs = {
        "data": dataset_pairs(env, dataset, count, rngs["data"], device),
        "random_actions": dataset_pairs(env, dataset, count, rngs["random_actions"], device, actions),
        "uniform": uniform_pairs(env, dataset.observations, count, np.random.default_rng(seed), device),
        "fake_buffer": simulate_pairs(env, fake["observations"], fake["actions"], device),
    }
    for kind, recorded in (("online", online), ("other", other)):
        if recorded is not None:
            pairs[kind] = dataset_pairs(env, recorded, count, rngs[kind], device)
    return pairs


def measure(dynamics: Any, policy: Any, pairs: Mapping[str, TruePairs]) -> Measurements:
    """Distance and u of every pair."""
    return {
        kind: {"distance": dynamics_distance(dynamics, p), "u": _uncertainties(dynamics, policy, p)}
        for kind, p in pairs.items()
    }


def _uncertainties(dynamics: Any, policy: Any, pairs: TruePairs) -> np.ndarray:
    if not len(pairs):
        return np.zeros(0, np.float32)
    return dynamics.uncertainty(pairs.observations, pairs.actions, policy).cpu().numpy()[:, 0]


def write_measurements(path: str, before: Measurements, after: Measurements) -> None:
    """Writes what :func:`measure` returned of P̂ and of P̂* as an NPZ file, arrays named kind/before/distance, …."""
    arrays: dict[str, Any] = {
        f"{kind}/{when}/{name}": column
        for when, measured in (("before", before), ("after", after))
        for kind, columns in measured.items()
        for name, column in columns.items()
    }
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    publish(path, lambda file: file.write(content.getvalue()))


def read_measurements(path: str) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Reads what :func:`write_measurements` wrote.

    Returns:
        {kind: {"before" | "after": {"distance" | "u": [N]}}}.

    Raises:
        UserError: The file is damaged.
    """
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                kind, when, name = key.split("/")
                column = file[key]
                if column.ndim != 1 or column.dtype.kind != "f":
                    raise ValueError(f"{key} is no row of numbers")
                found.setdefault(kind, {}).setdefault(when, {})[name] = column
    except Exception as error:  # zipfile and NumPy raise many kinds for a damaged file
        raise UserError(f"{path} cannot be read ({error})") from error
    return found
