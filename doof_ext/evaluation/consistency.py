"""Whether data and environment are consistent: D and D_on train one model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from doof_ext.data.dataset import Dataset
from doof_ext.data.recipe import VERSION
from doof_ext.errors import UserError

_CLIPPED = 10.0  # Hopper's and Walker2d's observations clip velocities here
TOLERANCE = 1e-3  # the largest difference due to float32 files and MuJoCo's versions


def transition_error(env: Any, dataset: Dataset, sample: int = 500, seed: int = 0) -> float | None:
    """How closely the environment reproduces the dataset's own transitions.

    The simulator starts from the recorded states. Without them it starts from observations, where those determine the
    state: HalfCheetah, and Hopper and Walker2d below the velocity at which they clip.

    Args:
        env: The environment.
        dataset: The recorded transitions.
        sample: How many random rows are simulated.
        seed: Of the rows.

    Returns:
        The largest difference in any coordinate of the next observation, infinite where the simulator breaks down; None
        where there is no state to start from. From observations it is the 99th percentile over rows, since a rare
        contact amplifies float32's rounding.

    Raises:
        UserError: The recorded states are of another model.
    """
    state = env.state()
    if not state or not env.has_oracle:
        return None
    rows = np.random.default_rng(seed).permutation(len(dataset))[:sample]
    if set(state) <= set(dataset.states):
        for name, value in state.items():
            width = dataset.states[name].shape[1]
            if width != len(value):
                here = f"the environment {len(value)}"
                raise UserError(f"infos/{name} has {width} columns, {here}: a file of another task?")
        start, part = {name: dataset.states[name][rows] for name in state}, 1.0
    elif env.observation_is_state:
        rows = rows[(abs(dataset.observations[rows]) < _CLIPPED).all(1)]
        start, part = env.state_from_observation(dataset.observations[rows]), 0.99
    else:
        return None
    if not len(rows):
        return None
    next_obs, _, _ = env.simulate(**start, action=dataset.actions[rows])
    errors = abs(next_obs - dataset.next_observations[rows]).max(1)
    error = np.sort(errors)[int(part * (len(errors) - 1))]  # NaN comes last
    return float(error) if np.isfinite(error) else float("inf")


def termination_errors(
    rule: Callable[..., Any], dataset: Dataset, sample: int = 20_000, seed: int = 0
) -> tuple[int, int]:
    """How often a termination rule and the recorded terminals differ.

    Args:
        rule: fn(obs [B, O], act [B, A], next_obs [B, O]) → bool [B, 1], all tensors.
        dataset: The recorded transitions.
        sample: How many random rows are checked.
        seed: Of the rows.

    Returns:
        The number of differing rows, and of rows checked.

    Raises:
        UserError: The rule fails, or its answer is not a bool [B, 1].
    """
    rows = np.random.default_rng(seed).permutation(len(dataset))[:sample]
    names = ("observations", "actions", "next_observations")
    try:
        terminal = rule(*(torch.as_tensor(getattr(dataset, name)[rows]) for name in names))
    except Exception as error:  # a user's function may raise anything
        raise UserError(f"the termination rule fails on the data ({type(error).__name__}: {error})") from error
    given = (getattr(terminal, "dtype", type(terminal).__name__), tuple(np.shape(terminal)))
    if given != (torch.bool, (len(rows), 1)):
        wanted = f"torch.bool [{len(rows)}, 1]"
        raise UserError(f"the termination rule gives {given[0]} {list(given[1])} where it must give {wanted}")
    return int((terminal.numpy()[:, 0] != dataset.terminals[rows]).sum()), len(rows)


def physics_finding(env: Any, dataset: Dataset) -> str:
    """One line on :func:`transition_error`."""
    error = transition_error(env, dataset)
    if error is None:
        return "physics check: not possible, nothing tells the simulator's states"
    if error > TOLERANCE:
        return (
            f"WARNING: the environment ({env.physics} physics) misses the data's own transitions by up to {error:.2g}: "
            "D and D_on would follow different dynamics; see --physics"
        )
    return f"physics check: the environment reproduces the data's transitions within {error:.1g}"


def check_consistency(env: Any, rule: Callable[..., Any], dataset: Dataset) -> list[str]:
    """What a user must know before D and D_on are mixed.

    Args:
        env: The environment.
        rule: The termination rule, as :func:`termination_errors` takes it.
        dataset: D.

    Returns:
        Findings, a line each.

    Raises:
        UserError: The states are of another model, or the rule fails.
    """
    findings = [physics_finding(env, dataset)]
    named = dataset.metadata.get("task", env.spec.name)
    if named.split("-")[0] != env.spec.name.split("-")[0]:
        findings.append(f"WARNING: the data are of {named}, the task is {env.spec.name}")
    low, high = env.action_space.low - 1e-4, env.action_space.high + 1e-4
    outside = int(((dataset.actions < low) | (dataset.actions > high)).any(1).sum())
    if outside:
        of_all = f"{outside} of {len(dataset)}"
        findings.append(f"WARNING: {of_all} recorded actions lie outside the action space: other units?")
    made_by = dataset.metadata.get("recipe_version", VERSION)
    if made_by != VERSION:
        findings.append(f"WARNING: the data are of version {made_by} of the recipes; {VERSION} makes other data")
    if "reconstructed" in dataset.metadata:
        findings.append(f"data: {dataset.metadata['reconstructed']}")
    differing, looked_at = termination_errors(rule, dataset)
    if differing > 0.001 * looked_at:
        findings.append(
            f"WARNING: the termination rule disagrees with the recorded terminals in {differing} of {looked_at} rows"
        )
    return findings
