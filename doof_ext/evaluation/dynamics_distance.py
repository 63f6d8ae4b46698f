"""The dynamics distance: ‖mean of the elites' predicted next state − true next state‖₂.

The paper calls it total variation distance; its values far above 2 say that it is a norm of state differences.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from doof_ext.parallel import cores, in_parallel
from doof_ext.tasks import make_env

_BLOCK = 2_000  # pairs of one job
_WORTH_WORKERS = 20_000  # pairs whose simulation takes longer than starting processes for it
_CLIPPED = 10.0  # from where Hopper's and Walker2d's observations clip velocities


@dataclass
class TruePairs:
    """State-action pairs with what the simulator makes of them."""

    observations: torch.Tensor  # [N, O]
    actions: torch.Tensor  # [N, A]
    next_observations: torch.Tensor  # [N, O], the truth
    inexact: int = 0  # pairs whose state was not recorded, and whose observation clips a velocity

    def __len__(self):
        return len(self.observations)


def simulate_pairs(env, observations, actions, device="cpu", states=None, title=None) -> TruePairs:
    """The true next states of observations [N, O], actions [N, A], tensors or arrays.

    The state is the recorded one (``states``, arrays [N, ·] by name) where there is one. Else it is set from the
    observation (``state_from_observation``, root position 0), and the pair keeps the observation of the state that was
    set: another than was asked where a velocity was clipped, which ``inexact`` counts. Pairs on which the simulator
    itself breaks down are left out; all of them, where the environment has no true dynamics to ask. Many pairs are
    simulated in worker processes, under a bar with ``title``.
    """
    observations, actions = np.asarray(observations, np.float64), np.asarray(actions, np.float64)
    inexact = 0
    if env.has_oracle:
        recorded = states is not None and set(env.state()) <= set(states)
        if recorded:
            states = {name: np.asarray(states[name]) for name in env.state()}
        else:
            inexact = int((abs(observations) >= _CLIPPED).any(1).sum())
            states = env.state_from_observation(observations)
            observations = env.observe(states)
        next_observations = _simulate(env, states, actions, title)
    else:
        next_observations = np.full_like(observations, np.nan)
    whole = np.isfinite(next_observations).all(1) & (abs(next_observations) < 1e6).all(1)
    columns = (observations, actions, next_observations)
    return TruePairs(*(torch.as_tensor(c[whole], dtype=torch.float32, device=device) for c in columns), inexact)


def _simulate(env, states, actions, title):
    blocks = [slice(first, first + _BLOCK) for first in range(0, len(actions), _BLOCK)]
    jobs = [({name: state[block] for name, state in states.items()}, actions[block]) for block in blocks]
    few = len(actions) < _WORTH_WORKERS or cores() == 1
    function = functools.partial(_block, env) if few else functools.partial(_block_elsewhere, env.spec, env.physics)
    results = in_parallel(function, jobs, 1 if few else min(cores(), len(jobs)))
    bar = tqdm(results, total=len(jobs), desc=title, unit="block", disable=None if title and len(jobs) > 1 else True)
    return np.concatenate(list(bar)) if jobs else np.empty((0, env.spec.obs_dim))


def _block(env, job):
    states, actions = job
    return env.simulate(**states, action=actions)[0]


def _block_elsewhere(spec, physics, job):
    return _block(_worker_env(spec, physics), job)


@functools.cache
def _worker_env(spec, physics):
    return make_env(spec, physics=physics)


def uniform_actions(env, count, rng):
    """``count`` actions uniform in the action space."""
    return rng.uniform(env.action_space.low, env.action_space.high, (count, len(env.action_space.low)))


def uniform_pairs(env, observations, count, rng, device="cpu") -> TruePairs:
    """``count`` pairs uniform in the box of the data's range [N, O] and of the action space (the paper's Table 2)."""
    low, high = observations.min(0), observations.max(0)
    actions = uniform_actions(env, count, rng)
    return simulate_pairs(env, rng.uniform(low, high, (count, len(low))), actions, device, title="distance, uniform")


def dataset_pairs(env, dataset, count, rng, device="cpu", actions=None) -> TruePairs:
    """At most ``count`` recorded pairs drawn from a dataset, with other ``actions`` [count, A] where given."""
    rows = rng.permutation(len(dataset))[:count]
    actions = dataset.actions[rows] if actions is None else actions[: len(rows)]
    states = {name: state[rows] for name, state in dataset.states.items()}
    return simulate_pairs(env, dataset.observations[rows], actions, device, states, title="distance, data")


def dynamics_distance(dynamics, pairs: TruePairs):
    """The distance of each pair, an array [N]."""
    predicted = dynamics.mean_next_obs(pairs.observations, pairs.actions)
    return (predicted - pairs.next_observations).norm(dim=-1).cpu().numpy()


def summarise(distances) -> dict:
    """Mean and largest distance, as the paper's tables give them; both None where no pair could be simulated."""
    if not len(distances):
        return {"mean": None, "max": None}
    return {"mean": float(distances.mean()), "max": float(distances.max())}
