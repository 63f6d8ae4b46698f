"""Whether data and environment are consistent: D and D_on train one model."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from doof_ext import kit
from doof_ext.data import episodes
from doof_ext.data.dataset import Dataset
from doof_ext.data.recipe import VERSION
from doof_ext.errors import UserError
from doof_ext.tasks import TaskSpec, name_of_env
from doof_ext.tasks.oracle import clipped_rows

TOLERANCE = 1e-3  # the largest difference due to float32 files and MuJoCo's versions
_MUCH = 0.1  # part of the rewards, or of the episodes
_STILL = 1e-3  # standard deviation of an action relative to its range: noise of an actuator that is not used
_LARGE, _SMALL = 100.0, 1e-4  # an observation's root mean square, its standard deviation: networks learn badly from it
_ROUNDED = 0.1  # of an observation's change in a step: float32's rounding
_OTHER_PHYSICS = 0.5  # the same for rewards, relative, where the physics differ anyway


@dataclass
class Replay:
    """Transitions of the data beside the environment's own from the same states."""

    error: float  # the largest difference in any coordinate of the next observation
    rewards: np.ndarray  # recorded, [B]
    env_rewards: np.ndarray  # the environment's, [B]


def replay(env: Any, dataset: Dataset, sample: int = 500, seed: int = 0) -> Replay | None:
    """How closely the environment reproduces the dataset's own transitions.

    The simulator starts from the recorded states. Without them it starts from observations, where those determine the
    state: HalfCheetah, and Hopper and Walker2d below the velocity at which they clip.

    Args:
        env: The environment.
        dataset: The recorded transitions.
        sample: How many random rows are simulated.
        seed: Of the rows.

    Returns:
        None where there is no state to start from. The error is infinite where the simulator breaks down; from
        observations it is that of the best 99 % of the rows, whose rewards are returned, since a rare contact amplifies
        float32's rounding.

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
        rows = rows[~clipped_rows(dataset.observations[rows])]
        start, part = env.state_from_observation(dataset.observations[rows]), 0.99
    else:
        return None
    if not len(rows):
        return None
    next_obs, env_rewards, _ = env.simulate(**start, action=dataset.actions[rows])
    errors = abs(next_obs - dataset.next_observations[rows]).max(1)
    best = np.argsort(errors)[: int(part * (len(errors) - 1)) + 1]  # NaN comes last
    error = float(errors[best[-1]])
    return Replay(error if np.isfinite(error) else float("inf"), dataset.rewards[rows[best]], env_rewards[best])


def physics_findings(env: Any, dataset: Dataset) -> list[str]:
    """A line on :func:`replay`'s transitions, and one on its rewards where they are not the environment's."""
    found = replay(env, dataset)
    if found is None:
        return ["physics check: not possible, nothing tells the simulator's states"]
    if found.error > TOLERANCE:
        physics = (
            f"WARNING: the environment ({env.physics} physics) misses the data's own transitions by up to "
            f"{found.error:.2g}: D and D_on would follow different dynamics; see --physics"
        )
        rewards = _reward_finding(found, _OTHER_PHYSICS)
    else:
        physics = f"physics check: the environment reproduces the data's transitions within {found.error:.1g}"
        rewards = _reward_finding(found, TOLERANCE)
    return [physics, *rewards]


def _reward_finding(found: Replay, tolerance: float) -> list[str]:
    """A warning where recorded and simulated rewards differ by more than ``tolerance``, relative to the largest."""
    usable = np.isfinite(found.env_rewards)
    recorded, simulated = found.rewards[usable].astype(np.float64), found.env_rewards[usable]
    largest = max(abs(recorded).max(initial=0), abs(simulated).max(initial=0))
    error = abs(recorded - simulated).max(initial=0)
    if error <= tolerance * largest:
        return []
    relation = _relation(simulated, recorded, tolerance) or f"differ from the environment's by up to {error:.2g}"
    return [f"WARNING: the data's rewards {relation}: D and D_on would be rewarded differently"]


def _relation(x: np.ndarray, y: np.ndarray, tolerance: float) -> str | None:
    """Rewards y as a multiple of the environment's x, or that and an offset; None where neither fits."""
    within = tolerance * abs(y).max()
    ratio = (x @ y) / (x @ x) if x.any() else 0.0
    if abs(ratio * x - y).max() <= within:
        return f"are {ratio:.3g} times the environment's"
    if np.ptp(x) > 0:
        ratio, offset = np.polyfit(x, y, 1)
        if abs(ratio * x + offset - y).max() <= within:
            return f"are {ratio:.3g} times the environment's, {offset:+.3g}"
    return None


def denied_terminals(rule: Callable[..., Any], dataset: Dataset) -> np.ndarray:
    """The rows of all recorded terminals that a termination rule does not confirm.

    Args:
        rule: fn(obs [B, O], act [B, A], next_obs [B, O]) → bool [B, 1], all tensors.
        dataset: The recorded transitions.

    Raises:
        UserError: The rule fails, or its answer is not a bool [B, 1].
    """
    rows = np.flatnonzero(dataset.terminals)
    return rows[~_ends(rule, dataset, rows)]


def unrecorded_terminals(
    rule: Callable[..., Any], dataset: Dataset, sample: int = 20_000, seed: int = 0
) -> tuple[int, int]:
    """How often a termination rule ends a step that is no recorded terminal.

    Args:
        rule: As :func:`denied_terminals` takes it.
        dataset: The recorded transitions.
        sample: How many random rows are checked.
        seed: Of the rows.

    Returns:
        The number of such rows, and of rows checked.

    Raises:
        UserError: As :func:`denied_terminals`.
    """
    rows = np.random.default_rng(seed).permutation(len(dataset))[:sample]
    return int((_ends(rule, dataset, rows) & ~dataset.terminals[rows]).sum()), len(rows)


def _ends(rule: Callable[..., Any], dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """The rule's answer for rows of the data, bool [B]; raises UserError where it has none of the right kind."""
    names = ("observations", "actions", "next_observations")
    try:
        terminal = rule(*(torch.as_tensor(getattr(dataset, name)[rows]) for name in names))
    except Exception as error:  # a user's function may raise anything
        raise UserError(f"the termination rule fails on the data ({type(error).__name__}: {error})") from error
    given = (getattr(terminal, "dtype", type(terminal).__name__), tuple(np.shape(terminal)))
    if given != (torch.bool, (len(rows), 1)):
        wanted = f"torch.bool [{len(rows)}, 1]"
        raise UserError(f"the termination rule gives {given[0]} {list(given[1])} where it must give {wanted}")
    return terminal.numpy()[:, 0]


def terminal_findings(rule: Callable[..., Any], dataset: Dataset, time_limit: int | None) -> list[str]:
    """Lines on recorded terminals that the rule denies, those of a time limit by that name, and on missing ones."""
    findings, recorded, denied = [], int(dataset.terminals.sum()), denied_terminals(rule, dataset)
    if len(denied):
        starts, stops = episodes.bounds(dataset)
        lengths = stops - starts
        ended = lengths[np.searchsorted(stops, denied, side="right")]  # lengths of the episodes that they end
        longest = lengths.max()
        if (ended == longest).all() and (longest == time_limit or len(denied) > 1):
            findings.append(
                f"WARNING: {len(denied)} of {recorded} recorded terminals only end the longest episodes, of {longest} "
                "steps, where the termination rule sees no end: is that a time limit? Record those as timeouts"
            )
        elif len(denied) > 0.01 * recorded:
            findings.append(f"WARNING: the termination rule denies {len(denied)} of {recorded} recorded terminals")
    missing, looked_at = unrecorded_terminals(rule, dataset)
    if missing > 0.001 * looked_at:
        findings.append(f"WARNING: the termination rule ends {missing} of {looked_at} steps that are no terminals")
    return findings


def _still_actions(env: Any, dataset: Dataset) -> list[str]:
    """A warning of actions that hardly move; those that never do, training warns of."""
    _, std, constant = kit.standardisation(dataset.actions)
    still = ~constant & (std[0] < _STILL * (env.action_space.high - env.action_space.low))
    if not still.any():
        return []
    numbers = ", ".join(map(str, np.flatnonzero(still)))
    return [
        f"WARNING: recorded actions {numbers} (from 0) vary by less than {_STILL:g} of their range: the policy may "
        "move them hundreds of deviations away from the data, where the model can only guess"
    ]


def _normalised_actions(env: Any, dataset: Dataset) -> list[str]:
    """A warning of actions that fill -1 to 1, and go no further, where the action space is at least twice as wide."""
    reach = np.maximum(abs(env.action_space.low), abs(env.action_space.high))
    largest = abs(dataset.actions).max(0)
    if (largest > 1 + 1e-4).any() or not ((reach >= 2) & (largest > 0.9)).any():
        return []
    return [
        f"WARNING: recorded actions lie within -1 and 1, where the action space goes to {reach.max():g}: were they "
        "normalised? Record them as the system takes them"
    ]


def _unit_findings(dataset: Dataset) -> list[str]:
    """Warnings of observations whose units or offsets networks learn badly from: no task of D4RL has such."""
    observations = dataset.observations
    mean, std, constant = kit.standardisation(observations)
    size = np.hypot(mean, np.where(constant, 0, std))[0]
    change = np.sqrt(np.square(dataset.next_observations - observations).mean(0, dtype=np.float64))
    rounding = np.spacing(abs(observations).max(0))
    found = {
        f"are of the order of {size.max():.0e}, which networks learn badly from: record them in units, and from an "
        "origin, that bring them near 1": size > _LARGE,
        f"vary by less than {_SMALL:g}, which networks learn badly from: record them in units in which they vary by "
        "about 1": ~constant & (std[0] < _SMALL),
        "change in a step by hardly more than float32 rounds them by: subtract their offset before they are recorded": (
            (change > 0) & (rounding > _ROUNDED * change)
        ),
    }
    return [
        f"WARNING: observations {', '.join(map(str, np.flatnonzero(which)))} (from 0) {what}"
        for what, which in found.items()
        if which.any()
    ]


def _order_findings(dataset: Dataset) -> list[str]:
    """A warning of steps that lead elsewhere than to the next row, where no episode is said to end."""
    broken, count = episodes.breaks(dataset, dataset.observations.std(0, dtype=np.float64))
    starts, _ = episodes.bounds(dataset)
    if broken <= _MUCH * len(starts):
        return []
    return [
        f"WARNING: {broken} of {count} steps that end no episode do not lead to the next row's observation: where do "
        "episodes end? Record timeouts there, and keep the rows' order"
    ]


def reconstruction_findings(dataset: Dataset, name: str = "data") -> list[str]:
    """Lines on columns that the data, whose ``name`` they begin with, lacked, and on what went with them."""
    if "reconstructed" not in dataset.metadata:
        return []
    findings = [f"{name}: {dataset.metadata['reconstructed']}"]
    lost = dataset.metadata.get("rewards_left_out", 0.0)
    if lost > _MUCH:
        part = f"{100 * lost:.0f} % of the rewards' magnitude was" if dataset.rewards.any() else "all rewards were"
        findings.append(f"WARNING: {part} on the steps that are left out; record next_observations to keep them")
    if dataset.metadata.get("terminals_left_out"):
        findings.append(
            f"WARNING: all {dataset.metadata['terminals_left_out']} terminals were on the steps that are left out, so "
            "that nothing tells whether the termination rule is right; record next_observations to keep them"
        )
    starts, _ = episodes.bounds(dataset)
    if len(starts) > len(dataset) / 2:
        findings.append(
            f"WARNING: hardly any row follows the one before it ({len(starts)} episodes of {len(dataset)} steps): are "
            "the rows shuffled? Record timeouts, or keep the order"
        )
    return findings


def origin_findings(spec: TaskSpec, dataset: Dataset) -> list[str]:
    """Warnings where the data name another task, or another environment, than the spec does."""
    findings = []
    task, env_id = str(dataset.metadata.get("task", spec.name)), str(dataset.metadata.get("env_id", ""))
    own = {spec.name, name_of_env(spec.env_id)} if isinstance(spec.env_id, str) else {spec.name}
    if spec.env_id is not None and task.split("-")[0] not in {name.split("-")[0] for name in own}:
        findings.append(f"WARNING: the data are of {task}, the task is {spec.name}")
    if env_id and isinstance(spec.env_id, str) and _system(env_id) != _system(spec.env_id):
        findings.append(f"WARNING: the data were recorded in {env_id}, the environment is {spec.env_id}")
    return findings


def _system(env_id: str) -> str:
    """What an id names, without module, namespace and version: ``halfcheetah`` of ``HalfCheetah-v4``."""
    return re.sub(r"-v\d+$", "", re.split("[:/]", env_id)[-1]).lower()


def check_consistency(env: Any, rule: Callable[..., Any] | None, dataset: Dataset) -> list[str]:
    """What a user must know before D and D_on are mixed.

    Args:
        env: The environment.
        rule: The termination rule, as :func:`denied_terminals` takes it; None where no model asks for one.
        dataset: D.

    Returns:
        Findings, a line each.

    Raises:
        UserError: The states are of another model, or the rule fails.
    """
    findings = [*physics_findings(env, dataset), *origin_findings(env.spec, dataset)]
    low, high = env.action_space.low - 1e-4, env.action_space.high + 1e-4
    outside = int(((dataset.actions < low) | (dataset.actions > high)).any(1).sum())
    if outside:
        of_all = f"{outside} of {len(dataset)}"
        findings.append(f"WARNING: {of_all} recorded actions lie outside the action space: other units?")
    made_by = dataset.metadata.get("recipe_version", VERSION)
    if made_by != VERSION:
        findings.append(f"WARNING: the data are of version {made_by} of the recipes; {VERSION} makes other data")
    findings += [*_still_actions(env, dataset), *_normalised_actions(env, dataset)]
    findings += [*_unit_findings(dataset), *_order_findings(dataset)]
    findings += reconstruction_findings(dataset)
    if not dataset.rewards.any():
        findings.append("WARNING: every reward in the data is 0: there is nothing to be good at")
    if rule is None:
        return findings
    return findings + terminal_findings(rule, dataset, env.spec.max_episode_steps)
