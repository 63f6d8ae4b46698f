"""What the model says of a policy: its return in the ensemble, each elite by itself. Needs no environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from doof_ext.data import episodes
from doof_ext.data.dataset import LARGEST, Dataset

_STARTS = 20  # start states at most: with the default horizon 1 to 2 % of an epoch


@dataclass(frozen=True)
class ModelReturn:
    """A policy's return over the horizon in each elite, a mean over start states; NaN where an elite diverged.

    Attributes:
        returns: Sums of predicted rewards, [K].
        penalised: Sums of r − λ_off·u, [K].
        uncertainty: Sums of u, [K].
        lengths: Steps, [K].
    """

    returns: np.ndarray
    penalised: np.ndarray
    uncertainty: np.ndarray
    lengths: np.ndarray

    @property
    def lower_bound(self) -> float:
        """The mean over elites less their standard deviation: what they disagree about counts less; NaN as above."""
        return float(self.returns.mean() - self.returns.std())

    @property
    def pessimistic(self) -> float:
        """The return in the elite that predicts the least; NaN where one diverged."""
        return float(self.returns.min())

    @property
    def mean_uncertainty(self) -> float:
        """u of a step, on average."""
        return float(self.uncertainty.sum() / self.lengths.sum())

    @property
    def figures(self) -> dict[str, float]:
        """Over elites, by name: mean, pessimistic (the least), spread (the standard deviation); and penalised ones."""
        return {**_over_elites("", self.returns), **_over_elites("penalised_", self.penalised)}


def _over_elites(prefix: str, returns: np.ndarray) -> dict[str, float]:
    found = {"mean": returns.mean(), "pessimistic": returns.min(), "spread": returns.std()}
    return {f"{prefix}{name}": float(value) for name, value in found.items()}


class ModelReturns:
    """Measures policies by their return in a dynamics, from the same start states.

    The policy takes its mean action, an elite its mean next state and reward: nothing is drawn at random, and what an
    estimator of u draws is drawn from a generator of its own, so that a training is the same with and without. An
    episode ends where the termination rule says so, and the step that ends it counts.

    Args:
        starts: Start states [N, O], float32; see :func:`first_states`.
        horizon: The most steps of an episode.
        penalty_coef: λ_off.
    """

    def __init__(self, starts: np.ndarray, horizon: int, penalty_coef: float) -> None:
        self.starts, self.horizon, self.penalty_coef = starts, horizon, penalty_coef

    def with_starts_of(self, dataset: Dataset) -> ModelReturns:
        """The same, from first states of another dataset, too."""
        starts = np.concatenate([self.starts, first_states(dataset)])
        return ModelReturns(starts, self.horizon, self.penalty_coef)

    @torch.no_grad()
    def __call__(self, policy: Any, dynamics: Any) -> ModelReturn:
        """The return of a policy (the kit's ``select_action``) in a DOOFDynamics."""
        device = torch.device(dynamics.device)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            return self._measure(policy, dynamics, device)

    def _measure(self, policy: Any, dynamics: Any, device: torch.device) -> ModelReturn:
        elites, count = dynamics.model.elites, len(self.starts)
        obs = torch.as_tensor(self.starts, device=device).repeat(len(elites), 1)  # elite after elite
        members = torch.as_tensor(elites, device=device).repeat_interleave(count)
        rows = torch.arange(len(obs), device=device)  # those whose episode has not ended
        sums = torch.zeros(4, len(obs), dtype=torch.float64, device=device)
        returns, penalised, uncertainty, lengths = sums
        for _ in range(self.horizon):
            actions = torch.as_tensor(policy.select_action(obs, deterministic=True), device=device)
            prediction = dynamics.predict(obs, actions)
            mean = prediction.mean[members[rows], torch.arange(len(rows), device=device)]
            next_obs, reward = mean[:, :-1], mean[:, -1]
            u = dynamics.estimator(obs, actions, dynamics, policy, prediction)[:, 0]
            usable = (mean.abs() < LARGEST).all(1)
            reward = reward.double().where(usable, torch.nan)
            returns[rows] += reward
            penalised[rows] += reward - self.penalty_coef * u
            uncertainty[rows] += u
            lengths[rows] += 1
            goes_on = usable & ~dynamics.terminal_fn(obs, actions, next_obs)[:, 0]
            obs, rows = next_obs[goes_on], rows[goes_on]
            if not len(rows):
                break
        return ModelReturn(*sums.view(len(sums), len(elites), count).mean(2).cpu().numpy())


def first_states(dataset: Dataset, count: int = _STARTS) -> np.ndarray:
    """First observations [N, O] of at most ``count`` episodes, spread evenly over a dataset."""
    starts, _ = episodes.bounds(dataset)
    chosen = np.linspace(0, len(starts) - 1, min(count, len(starts))).round().astype(int)
    return dataset.observations[starts[chosen]]
