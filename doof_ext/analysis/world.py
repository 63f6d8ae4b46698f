"""Whether data and environment are of one world: D and D_on train one model."""

import numpy as np
import torch

from doof_ext.errors import UserError

TOLERANCE = 1e-3  # largest difference that float32 files and MuJoCo's versions explain


def transition_error(env, dataset, sample=500, seed=0) -> float | None:
    """How far the environment reproduces the dataset's own transitions from the recorded states.

    Returns: the largest difference in any coordinate of the next observation over ``sample`` random rows (infinite
    where the simulator breaks down), or None where states are not recorded or the environment has none.
    Raises: UserError for states of another model.
    """
    state = env.state()
    if not state or not set(state) <= set(dataset.states):
        return None
    for name, value in state.items():
        if dataset.states[name].shape[1:] != value.shape:
            raise UserError(f"infos/{name} has {dataset.states[name].shape[1]} columns, the environment {len(value)}: "
                            "a file of another task?")  # fmt: skip
    rows = np.random.default_rng(seed).permutation(len(dataset))[:sample]
    recorded = {name: dataset.states[name][rows] for name in state}
    next_obs, _, _ = env.simulate(**recorded, action=dataset.actions[rows])
    error = abs(next_obs - dataset.next_observations[rows]).max()
    return float(error) if np.isfinite(error) else float("inf")


def termination_errors(rule, dataset, sample=20_000, seed=0) -> tuple[int, int]:
    """How often a termination rule and the recorded terminals differ: (differing rows, rows looked at).

    Raises: UserError for a rule that fails or whose answer is not a bool [B, 1].
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


def physics_finding(env, dataset) -> str:
    """One line on :func:`transition_error`."""
    error = transition_error(env, dataset)
    if error is None:
        return "physics check: not possible, no simulator states to start from"
    if error > TOLERANCE:
        return (
            f"WARNING: the environment ({env.physics} physics) misses the data's own transitions by up to {error:.2g}: "
            "D and D_on would come from two worlds; see --physics"
        )
    return f"physics check: the environment reproduces the data's transitions within {error:.1g}"


def check_world(env, rule, dataset) -> list[str]:
    """What a user must know before D and D_on are mixed: a line each. Raises UserError as the checks do."""
    findings = [physics_finding(env, dataset)]
    if "reconstructed" in dataset.metadata:
        findings.append(f"data: {dataset.metadata['reconstructed']}")
    differing, looked_at = termination_errors(rule, dataset)
    if differing > 0.001 * looked_at:
        findings.append(
            f"WARNING: the termination rule disagrees with the recorded terminals in {differing} of {looked_at} rows"
        )
    return findings
