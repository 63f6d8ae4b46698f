"""The dynamics distance: ‖mean of the elites' predicted next state − true next state‖₂.

The paper calls it total variation distance; its values far above 2 say that it is a norm of state differences.
"""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass
class TruePairs:
    """State-action pairs with what the simulator makes of them."""

    observations: torch.Tensor  # [N, O]
    actions: torch.Tensor  # [N, A]
    next_observations: torch.Tensor  # [N, O], the truth


def simulate_pairs(env, observations, actions, device="cpu") -> TruePairs:
    """The true next states of observations [N, O], actions [N, A], tensors or arrays.

    The state is set from the observation (``state_from_observation``), and the pair keeps the observation of the
    state that was set. Pairs on which the simulator itself breaks down are left out; all of them, where the
    environment has no true dynamics to ask.
    """
    observations, actions = np.asarray(observations, np.float64), np.asarray(actions, np.float64)
    if env.has_oracle:
        states = env.state_from_observation(observations)
        next_observations, _, _ = env.simulate(**states, action=actions)
        observations = env.observe(states)
    else:
        next_observations = np.full_like(observations, np.nan)
    whole = np.isfinite(next_observations).all(1) & (abs(next_observations) < 1e6).all(1)
    columns = (observations, actions, next_observations)
    return TruePairs(*(torch.as_tensor(c[whole], dtype=torch.float32, device=device) for c in columns))


def uniform_pairs(env, observations, count, rng, device="cpu") -> TruePairs:
    """``count`` pairs uniform in the box of the data's range [N, O] and of the action space (the paper's Table 2)."""
    low, high = observations.min(0), observations.max(0)
    actions = rng.uniform(env.action_space.low, env.action_space.high, (count, len(env.action_space.low)))
    return simulate_pairs(env, rng.uniform(low, high, (count, len(low))), actions, device)


def dynamics_distance(dynamics, pairs: TruePairs):
    """The distance of each pair, an array [N]."""
    predicted = dynamics.mean_next_obs(pairs.observations, pairs.actions)
    return (predicted - pairs.next_observations).norm(dim=-1).cpu().numpy()


def summarise(distances) -> dict:
    """Mean and largest distance, as the paper's tables give them; both None where no pair could be simulated."""
    if not len(distances):
        return {"mean": None, "max": None}
    return {"mean": float(distances.mean()), "max": float(distances.max())}
