"""A replay buffer of NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from doof_ext.kit.embedded.scaler import column_statistics

_FIELDS = ("observations", "next_observations", "actions", "rewards", "terminals")


class ReplayBuffer:
    """A ring of the newest ``buffer_size`` transitions; ``sample`` returns tensors on ``device``."""

    observations: Any  # NumPy arrays [capacity, ·]; a subclass may keep tensors
    next_observations: Any
    actions: Any
    rewards: Any
    terminals: Any

    def __init__(
        self,
        buffer_size: int,
        obs_shape: Sequence[int],
        obs_dtype: Any,
        action_dim: int,
        action_dtype: Any,
        device: str | torch.device = "cpu",
    ) -> None:
        self._max_size, self._ptr, self._size = buffer_size, 0, 0
        self.obs_shape, self.action_dim = tuple(obs_shape), action_dim
        self.device = torch.device(device)
        self.observations = np.zeros((buffer_size, *self.obs_shape), dtype=obs_dtype)
        self.next_observations = np.zeros((buffer_size, *self.obs_shape), dtype=obs_dtype)
        self.actions = np.zeros((buffer_size, action_dim), dtype=action_dtype)
        self.rewards = np.zeros((buffer_size, 1), dtype=np.float32)
        self.terminals = np.zeros((buffer_size, 1), dtype=np.float32)

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, terminal: Any) -> None:
        """Adds one transition, over the oldest where the buffer is full."""
        self.add_batch(*(np.asarray(value)[None] for value in (obs, next_obs, action, reward, terminal)))

    def add_batch(self, obss: Any, next_obss: Any, actions: Any, rewards: Any, terminals: Any) -> None:
        """Adds N transitions [N, ·] over the oldest; of more than the capacity, the last ones stay."""
        columns = dict(zip(_FIELDS, (obss, next_obss, actions, rewards, terminals), strict=True))
        count = min(len(obss), self._max_size)
        rows = (self._ptr + np.arange(len(obss) - count, len(obss))) % self._max_size
        for name, column in columns.items():
            store = getattr(self, name)
            store[rows] = np.asarray(column)[len(obss) - count :].reshape(count, *store.shape[1:])
        self._ptr = (self._ptr + len(obss)) % self._max_size
        self._size = min(self._size + len(obss), self._max_size)

    def load_dataset(self, dataset: Mapping[str, Any]) -> None:
        """Replaces the content by a dataset's arrays; the capacity grows where the dataset is larger."""
        count = len(dataset["observations"])
        self.__init__(  # type: ignore[misc]  # allocates anew
            max(self._max_size, count),
            self.obs_shape,
            self.observations.dtype,
            self.action_dim,
            self.actions.dtype,
            self.device,
        )
        self.add_batch(*(dataset[name] for name in _FIELDS))

    def normalize_obs(self, eps: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
        """Standardises the stored observations in place; returns mean and standard deviation, each [1, O]."""
        stored = slice(0, self._size)
        mean, std = column_statistics(self.observations[stored])
        std += eps
        self.observations[stored] = (self.observations[stored] - mean) / std
        self.next_observations[stored] = (self.next_observations[stored] - mean) / std
        return mean, std

    def sample(self, batch_size: int) -> dict[str, torch.Tensor]:
        """A batch drawn uniformly with replacement: tensors [batch_size, ·] by the arrays' names."""
        rows = np.random.randint(0, self._size, size=batch_size)
        return {name: torch.as_tensor(getattr(self, name)[rows], device=self.device) for name in _FIELDS}

    def sample_all(self) -> dict[str, np.ndarray]:
        """All stored transitions: copies of the arrays [N, ·] by name."""
        return {name: getattr(self, name)[: self._size].copy() for name in _FIELDS}
