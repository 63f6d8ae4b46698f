"""D, and behind it D_on, as the baselines take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from doof_ext.data.dataset import Dataset
from doof_ext.data.episodes import bounds, returns_and_lengths
from doof_ext.errors import UserError
from doof_ext.learning.actor_critic import Batch
from doof_ext.learning.policy import unscale_actions
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.tasks import TaskSpec

_SPAN = 1000.0  # of episode returns, once rewards are scaled


class Replay(TensorReplayBuffer):
    """Transitions in the order in which they were taken, D's first, with actions in [-1, 1].

    Two further columns: ``returns``, the discounted return of the rest of the episode, −∞ of one that still runs, and
    ``ends``, 1 where a row's episode ends or is cut.

    Args:
        dataset: D.
        spec: The task, with its action bounds.
        online_steps: How many steps of D_on there will be.
        gamma: The discount.
        normalize_rewards: Whether rewards are scaled so that D's episode returns span 1 000 (IQL, Appendix C).
        device: Where the rows live.

    Raises:
        UserError: All of D's episodes have the same return, so that there is no span.
    """

    EXTRA = ("returns", "ends")
    returns: torch.Tensor
    ends: torch.Tensor

    def __init__(
        self,
        dataset: Dataset,
        spec: TaskSpec,
        online_steps: int,
        gamma: float,
        normalize_rewards: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        offline, obs_dim = dataset.observations.shape
        action_dim = dataset.actions.shape[1]
        super().__init__(offline + online_steps, (obs_dim,), action_dim=action_dim, device=device)
        self.offline, self.gamma = offline, gamma
        self.reward_scale = reward_scale(dataset, spec.max_episode_steps) if normalize_rewards else 1.0
        self._bounds = np.array([spec.action_low, spec.action_high], np.float32)
        self._starts = offline  # the first row of the episode that runs
        columns = dataset.transitions()
        actions, rewards = unscale_actions(columns["actions"], *self._bounds), columns["rewards"] * self.reward_scale
        self.add_batch(columns["observations"], columns["next_observations"], actions, rewards, columns["terminals"])
        rest = returns_to_go(dataset, rewards[:, 0], gamma)
        self.returns[:offline, 0] = torch.as_tensor(rest, dtype=torch.float32)
        self.ends[:offline, 0] = torch.from_numpy((dataset.terminals | dataset.timeouts).astype(np.float32))
        self.ends[offline - 1] = 1.0

    def add_step(self, row: Mapping[str, Any]) -> None:
        """Adds an online step, a row of the journal: in the environment's units.

        An episode that still runs when another starts was cut: a resumed run could not go on with it.
        """
        if row["starts"]:
            self.end_episode()
        action = unscale_actions(row["actions"], *self._bounds)
        reward = row["rewards"] * self.reward_scale
        self.add(row["observations"], row["next_observations"], action, reward, row["terminals"])
        self.returns[self._size - 1] = -torch.inf
        if row["terminals"] or row["truncated"]:
            self.end_episode()

    def end_episode(self) -> None:
        """The rows since the last end are an episode, where there are any: their returns are known."""
        if self._starts < self._size:
            rewards = self.rewards[self._starts : self._size, 0].cpu().numpy()
            rest = torch.from_numpy(_discounted(rewards, self.gamma))
            self.returns[self._starts : self._size, 0] = rest.to(self.returns)
            self.ends[self._size - 1] = 1.0
            self._starts = self._size

    def draw(self, count: int, online_ratio: float | None = None) -> Batch:
        """``count`` rows with replacement, a dict of tensors [count, ·].

        Args:
            count: How many.
            online_ratio: The part of them, rounded down, that is of D_on, where there is any; None for all alike.
        """
        return self.columns(self._rows.index_select(0, self._indices(count, online_ratio)))

    def draw_sequences(self, count: int, length: int, online_ratio: float | None = None) -> Batch:
        """``count`` times ``length`` rows that follow each other, tensors [length, count, ·]; see ``ends``.

        Args:
            count: How many.
            length: Rows of each.
            online_ratio: As in :meth:`draw`, once D_on has ``length`` rows.
        """
        first = self._indices(count, online_ratio, length)
        rows = (torch.arange(length, device=self.device)[:, None] + first).flatten()
        return self.columns(self._rows.index_select(0, rows).view(length, count, -1))

    def _indices(self, count: int, online_ratio: float | None, length: int = 1) -> torch.Tensor:
        """Where ``count`` sequences of rows start: none goes beyond the end, or with a ratio from D into D_on."""
        has_online = self._size - self.offline >= length
        online = int(count * online_ratio) if online_ratio is not None and has_online else 0
        last = self._size if online_ratio is None else self.offline
        indices = torch.randint(last - length + 1, (count - online,), device=self.device)
        if online:
            stop = self._size - length + 1
            indices = torch.cat([indices, torch.randint(self.offline, stop, (online,), device=self.device)])
        return indices


def returns_to_go(dataset: Dataset, rewards: np.ndarray, gamma: float) -> np.ndarray:
    """The discounted return [N] of what an episode had left at each of its steps, for rewards [N]."""
    starts, stops = bounds(dataset)
    parts = [_discounted(rewards[start:stop], gamma) for start, stop in zip(starts, stops, strict=True)]
    return np.concatenate(parts)


def _discounted(rewards: np.ndarray, gamma: float) -> np.ndarray:
    """Of an episode's rewards [T]: Σ γ^k r_{t+k} at each step t, float32 [T]."""
    rest, out = 0.0, np.empty(len(rewards), np.float32)
    for step in reversed(range(len(rewards))):
        rest = float(rewards[step]) + gamma * rest
        out[step] = rest
    return out


def reward_scale(dataset: Dataset, limit: int | None) -> float:
    """What rewards are multiplied by so that D's episode returns span 1 000 (IQL, Appendix C).

    Episodes count that are whole: that end in a terminal step or at the time limit; where one alone or none is, those
    that are cut, too.

    Args:
        dataset: D.
        limit: The time limit; None where any timeout is one.

    Raises:
        UserError: All of D's episodes have the same return, so that there is no span.
    """
    returns, lengths = returns_and_lengths(dataset)
    _, stops = bounds(dataset)
    is_terminal, is_cut = dataset.terminals[stops - 1], dataset.timeouts[stops - 1]
    is_whole = is_terminal | (is_cut if limit is None else lengths >= limit)
    kinds = (is_whole, is_terminal | is_cut)
    whole = next((returns[kind] for kind in kinds if kind.sum() > 1), returns)
    span = float(whole.max() - whole.min())
    if span == 0:
        raise UserError(
            "all of D's episodes have the same return, or there is one alone, so that their span cannot scale rewards; "
            "give --normalize-rewards false"
        )
    return _SPAN / span
