"""Whether online steps that were taken outside the run fit the task and D."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from doof_ext.data import episodes
from doof_ext.data.dataset import Dataset
from doof_ext.evaluation.consistency import TOLERANCE, denied_terminals, replay, unrecorded_terminals

_NAMED = 3  # dimensions that a line names at most
_SPREAD = 20  # times D's standard deviation, or size of rewards, that is no matter of where the policy went
_NARROW = 0.1  # part of D's range of actions, likewise


def check_online_steps(
    env: Any, rule: Callable[..., Any], offline: Dataset, online: Dataset
) -> tuple[dict[str, Any], list[str]]:
    """What a user must know of D_on before P̂ learns from it.

    Args:
        env: The environment; its spec has the dimensions and bounds.
        rule: The termination rule, as consistency.denied_terminals takes it.
        offline: D.
        online: D_on, whose dimensions are the task's and whose numbers are finite (read_dataset checks that).

    Returns:
        The findings by name, for the summary, and reasons not to train on them, a phrase each.

    Raises:
        UserError: The recorded states are of another model, or the rule fails.
    """
    spec, refused = env.spec, []
    starts, _ = episodes.bounds(online)
    found: dict[str, Any] = {
        "steps": len(online),
        "episodes": len(starts),
        "observations": list(online.observations.shape),
        "actions": list(online.actions.shape),
        "nan": 0,
    }
    broken, followed = episodes.breaks(online, offline.observations.std(0, dtype=np.float64))
    found["breaks"], found["followed"] = broken, followed
    if len(starts) == 1 and broken:
        refused.append(f"all steps are one episode, but {broken} do not lead to the next: where do episodes end?")
    elif 2 * broken > followed:
        refused.append(
            f"{broken} of {followed} steps do not lead to the observation of the step after them: are the rows in "
            "order?"
        )
    found["steps_of_offline"] = known_steps(offline, online)
    low, high = np.array(spec.action_low, np.float32), np.array(spec.action_high, np.float32)
    margin = 1e-4 * np.maximum(high - low, 1)
    outside = int(((online.actions < low - margin) | (online.actions > high + margin)).any(1).sum())
    found["action_range"] = [online.actions.min(0).tolist(), online.actions.max(0).tolist()]
    found["action_bounds"] = [low.tolist(), high.tolist()]
    width, moved = np.ptp(online.actions, 0), np.ptp(offline.actions, 0)
    found["actions_narrow"] = bool((moved > 0).any() and (width < _NARROW * moved)[moved > 0].all())
    found["actions_outside"] = outside
    if outside:
        refused.append(f"{outside} of {len(online)} actions lie outside the action space: other units?")
    found |= _rewards(offline, online) | _observations(offline, online)
    far = found["other_units"]
    if far:
        refused.append(f"observations of {_named(far, spec.observation_names)} are far outside D's: other units?")
    found["terminals"], found["rule_differs"], found["terminals_denied"] = _terminals(rule, online)
    denied, differing = found["terminals_denied"], found["rule_differs"]
    if 2 * denied > found["terminals"] or differing > 0.01 * len(online):
        refused.append(
            f"the termination rule disagrees with the recorded terminals in {differing} of {len(online)} rows "
            f"(it denies {denied} of {found['terminals']} terminals)"
        )
    replayed = replay(env, online)
    found["transition_error"] = None if replayed is None else float(np.nan_to_num(replayed.error, posinf=1e30))
    return found, refused


def known_steps(old: Dataset, new: Dataset) -> int:
    """How many transitions of ``new`` are, to the bit, some of ``old``."""
    names = ("observations", "actions", "rewards", "next_observations")
    rows, others = ([row.tobytes() for row in np.hstack([part.transitions()[n] for n in names])] for part in (new, old))
    known = set(rows).intersection(others)
    return sum(row in known for row in rows)


def _rewards(offline: Dataset, online: Dataset) -> dict[str, Any]:
    """Both ranges, and whether sizes differ by what is no matter of the policy; where none is paid yet, they do not."""
    sizes = [float(abs(part.rewards).mean(dtype=np.float64)) for part in (online, offline)]
    return {
        "reward_range": [float(online.rewards.min()), float(online.rewards.max())],
        "offline_reward_range": [float(offline.rewards.min()), float(offline.rewards.max())],
        "rewards_differ": min(sizes) > 0 and max(sizes) > _SPREAD * min(sizes),
    }


def _observations(offline: Dataset, online: Dataset) -> dict[str, Any]:
    low, high = offline.observations.min(0), offline.observations.max(0)
    width = high - low
    outside = (online.observations < low) | (online.observations > high)
    far = (online.observations < low - width) | (online.observations > high + width)
    spread = online.observations.std(0), offline.observations.std(0)
    differs = (spread[0] * _SPREAD < spread[1]) | (spread[0] > _SPREAD * spread[1])
    return {
        "observation_range": [online.observations.min(0).tolist(), online.observations.max(0).tolist()],
        "offline_range": [low.tolist(), high.tolist()],
        "rows_outside": float(outside.any(1).mean()),
        "spread_differs": np.flatnonzero(differs & (width > 0)).tolist(),
        "dimensions_outside": np.flatnonzero(outside.any(0)).tolist(),
        "other_units": np.flatnonzero((far.mean(0) > 0.5) & (width > 0)).tolist(),
    }


def _terminals(rule: Callable[..., Any], online: Dataset) -> tuple[int, int, int]:
    """How many terminals are recorded, in how many rows the rule differs, and how many of the terminals it denies."""
    denied = len(denied_terminals(rule, online))
    missing, _ = unrecorded_terminals(rule, online, sample=len(online))
    return int(online.terminals.sum()), denied + missing, denied


def _named(dimensions: Sequence[int], names: Sequence[str] | None, notes: Sequence[str] = ()) -> str:
    shown = [names[index] if names else f"dimension {index}" for index in dimensions[:_NAMED]]
    if notes:
        shown = [f"{name} ({notes[index]})" for name, index in zip(shown, dimensions, strict=False)]
    return ", ".join(shown) + (f" and {len(dimensions) - _NAMED} more" if len(dimensions) > _NAMED else "")


def online_table(found: dict[str, Any], names: Sequence[str] | None = None) -> list[str]:
    """The findings of :func:`check_online_steps` as lines of a table; ``names`` are the observations'."""
    steps = found["steps"]
    low, high = (np.array(bound) for bound in found["action_range"])
    bounds = f"within {min(found['action_bounds'][0]):g} to {max(found['action_bounds'][1]):g}"
    if found["actions_outside"]:
        bounds = f"WARNING: {found['actions_outside']} outside the action space"
    actions = f"{low.min():.4g} to {high.max():.4g}, {bounds}"
    if found["actions_narrow"]:
        actions = f"WARNING: {actions}; less than a tenth of D's range in every dimension that moves: other units?"
    rewards = "{:.4g} to {:.4g}; D {:.4g} to {:.4g}".format(*found["reward_range"], *found["offline_reward_range"])
    if found["rewards_differ"]:
        rewards = (
            f"WARNING: {rewards}; on average more than {_SPREAD} times D's, or less than a {_SPREAD}th: other units?"
        )
    order = "each leads to the next one's observation"
    if found["breaks"]:
        warning = "WARNING: " if found["breaks"] > 0.01 * found["followed"] else ""
        order = f"{warning}{found['breaks']} of {found['followed']} do not lead to the next one's observation"
    beyond = found["dimensions_outside"]
    bounds_of = zip(*found["observation_range"], *found["offline_range"], strict=True)
    notes = [f"{least:.4g} to {most:.4g}; D {a:.4g} to {b:.4g}" for least, most, a, b in bounds_of]
    ranges = f"beyond D's range in {_named(beyond, names, notes)}" if beyond else "within D's range in every dimension"
    agrees = f"{found['terminals']}; the rule agrees in every row"
    if found["rule_differs"]:
        agrees = f"WARNING: {found['terminals']}; the rule disagrees in {found['rule_differs']} of {steps} rows"
    rows = {
        "shapes": f"observations {found['observations']}, actions {found['actions']}",
        "episodes": str(found["episodes"]) if found["episodes"] > 1 else "WARNING: all steps are one episode",
        "order of steps": order,
        "NaN, infinity": "none",
        "actions": actions,
        "rewards": rewards,
        "observations": ranges,
        "rows outside D's box": f"{100 * found['rows_outside']:.1f} %",
        "terminals": agrees,
    }
    if found["steps_of_offline"]:
        rows["steps of D"] = f"WARNING: {found['steps_of_offline']}; D_on is for new ones"
    if found["spread_differs"]:
        times = f"more than {_SPREAD} times D's, or less than a {_SPREAD}th"
        rows["spread"] = f"WARNING: {times}, in {_named(found['spread_differs'], names)}: other units?"
    error = found["transition_error"]
    if error is not None:
        warning = "WARNING: " if error > TOLERANCE else ""
        rows["physics"] = f"{warning}the environment is within {error:.1g} of their transitions"
    return [f"{'online data':<24}{steps} steps", *(f"  {check:<22}{text}" for check, text in rows.items())]
