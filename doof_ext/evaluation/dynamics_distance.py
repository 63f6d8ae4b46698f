"""The dynamics distance: ‖mean of the elites' predicted next state − true next state‖₂.

The paper calls it total variation distance; its values far above 2 show that it is a norm of state differences.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from doof_ext.data.dataset import Dataset
from doof_ext.parallel import cores, in_parallel
from doof_ext.tasks import TaskSpec, make_env
from doof_ext.tasks.oracle import clipped_rows

_BLOCK = 2_000  # pairs of one job
_WORTH_WORKERS = 20_000  # so many pairs take longer to simulate than worker processes to start

_Job = tuple[dict[str, np.ndarray], np.ndarray]
"""States by name and actions of one block."""


@dataclass
class TruePairs:
    """State-action pairs with their true next states.

    Attributes:
        observations: [N, O].
        actions: [N, A].
        next_observations: [N, O], simulated.
        inexact: How many pairs have a state that was not recorded and an observation that clips a velocity.
    """

    observations: torch.Tensor
    actions: torch.Tensor
    next_observations: torch.Tensor
    inexact: int = 0

    def __len__(self) -> int:
        return len(self.observations)


def simulate_pairs(
    env: Any,
    observations: Any,
    actions: Any,
    device: str = "cpu",
    states: Mapping[str, Any] | None = None,
    title: str | None = None,
) -> TruePairs:
    """Simulates the true next states of state-action pairs, many of them in worker processes.

    Without recorded states, the simulator's state is set from the observation (``state_from_observation``, root
    position 0), and the pair has that state's observation. The two observations differ where a velocity was clipped;
    ``inexact`` counts such pairs.

    Args:
        env: The environment.
        observations: [N, O], tensor or array.
        actions: [N, A], tensor or array.
        device: Of the result's tensors.
        states: Recorded states, arrays [N, ·] by name.
        title: Of the progress bar; None for no bar.

    Returns:
        The pairs without those on which the simulator breaks down; none, where the environment has no true dynamics.
    """
    observations, actions = np.asarray(observations, np.float64), np.asarray(actions, np.float64)
    inexact = 0
    if env.has_oracle:
        if states is not None and set(env.state()) <= set(states):
            states = {name: np.asarray(states[name]) for name in env.state()}
        else:
            inexact = int(clipped_rows(observations).sum())
            states = env.state_from_observation(observations)
            observations = env.observe(states)
        next_observations = _simulate(env, states, actions, title)
    else:
        next_observations = np.full_like(observations, np.nan)
    whole = np.isfinite(next_observations).all(1) & (abs(next_observations) < 1e6).all(1)

    def kept(column: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(column[whole], dtype=torch.float32, device=device)

    return TruePairs(kept(observations), kept(actions), kept(next_observations), inexact)


def _simulate(env: Any, states: Mapping[str, np.ndarray], actions: np.ndarray, title: str | None) -> np.ndarray:
    blocks = [slice(first, first + _BLOCK) for first in range(0, len(actions), _BLOCK)]
    jobs = [({name: state[block] for name, state in states.items()}, actions[block]) for block in blocks]
    few = len(actions) < _WORTH_WORKERS or cores() == 1
    function = functools.partial(_block, env) if few else functools.partial(_block_elsewhere, env.spec, env.physics)
    results = in_parallel(function, jobs, 1 if few else min(cores(), len(jobs)))
    bar = tqdm(results, total=len(jobs), desc=title, unit="block", disable=None if title and len(jobs) > 1 else True)
    return np.concatenate(list(bar)) if jobs else np.empty((0, env.spec.obs_dim))


def _block(env: Any, job: _Job) -> np.ndarray:
    states, actions = job
    return env.simulate(**states, action=actions)[0]


def _block_elsewhere(spec: TaskSpec, physics: str, job: _Job) -> np.ndarray:
    return _block(_worker_env(spec, physics), job)


@functools.cache
def _worker_env(spec: TaskSpec, physics: str) -> Any:
    return make_env(spec, physics=physics)


def uniform_actions(env: Any, count: int, rng: np.random.Generator) -> np.ndarray:
    """Actions [count, A] uniform in the action space."""
    return rng.uniform(env.action_space.low, env.action_space.high, (count, len(env.action_space.low)))


def uniform_pairs(
    env: Any, observations: np.ndarray, count: int, rng: np.random.Generator, device: str = "cpu"
) -> TruePairs:
    """Pairs uniform in the box of the data's range and of the action space (the paper's Table 2).

    Args:
        env: The environment.
        observations: The data's, [N, O].
        count: How many pairs.
        rng: Draws them.
        device: Of the result's tensors.
    """
    low, high = observations.min(0), observations.max(0)
    actions = uniform_actions(env, count, rng)
    return simulate_pairs(env, rng.uniform(low, high, (count, len(low))), actions, device, title="distance, uniform")


def dataset_pairs(
    env: Any,
    dataset: Dataset,
    count: int,
    rng: np.random.Generator,
    device: str = "cpu",
    actions: np.ndarray | None = None,
) -> TruePairs:
    """Pairs drawn from a dataset without replacement.

    Args:
        env: The environment.
        dataset: The recorded transitions.
        count: How many pairs at most.
        rng: Draws them.
        device: Of the result's tensors.
        actions: [count, A], instead of the recorded ones.
    """
    rows = rng.permutation(len(dataset))[:count]
    actions = dataset.actions[rows] if actions is None else actions[: len(rows)]
    states = {name: state[rows] for name, state in dataset.states.items()}
    return simulate_pairs(env, dataset.observations[rows], actions, device, states, title="distance, data")


def dynamics_distance(dynamics: Any, pairs: TruePairs) -> np.ndarray:
    """The distance of each pair, [N], in the observations' units."""
    predicted = dynamics.mean_next_obs(pairs.observations, pairs.actions)
    return (predicted - pairs.next_observations).norm(dim=-1).cpu().numpy()


def summarise(distances: np.ndarray) -> dict[str, float | None]:
    """Mean and largest distance, as in the paper's tables; both None where no pair could be simulated."""
    if not len(distances):
        return {"mean": None, "max": None}
    return {"mean": float(distances.mean()), "max": float(distances.max())}
