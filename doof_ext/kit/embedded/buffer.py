"""A replay buffer of NumPy arrays."""

import numpy as np
import torch

_FIELDS = ("observations", "next_observations", "actions", "rewards", "terminals")


class ReplayBuffer:
    """A ring of the newest ``buffer_size`` transitions; ``sample`` hands out tensors on ``device``."""

    def __init__(self, buffer_size, obs_shape, obs_dtype, action_dim, action_dtype, device="cpu"):
        self._max_size, self._ptr, self._size = buffer_size, 0, 0
        self.obs_shape, self.action_dim = tuple(obs_shape), action_dim
        self.device = torch.device(device)
        self.observations = np.zeros((buffer_size, *self.obs_shape), dtype=obs_dtype)
        self.next_observations = np.zeros((buffer_size, *self.obs_shape), dtype=obs_dtype)
        self.actions = np.zeros((buffer_size, action_dim), dtype=action_dtype)
        self.rewards = np.zeros((buffer_size, 1), dtype=np.float32)
        self.terminals = np.zeros((buffer_size, 1), dtype=np.float32)

    def add(self, obs, next_obs, action, reward, terminal):
        """Adds one transition, over the oldest where the buffer is full."""
        self.add_batch(*(np.asarray(value)[None] for value in (obs, next_obs, action, reward, terminal)))

    def add_batch(self, obss, next_obss, actions, rewards, terminals):
        """Adds N transitions, over the oldest; of more than the capacity, the last ones stay."""
        columns = dict(zip(_FIELDS, (obss, next_obss, actions, rewards, terminals), strict=True))
        count = min(len(obss), self._max_size)
        rows = (self._ptr + np.arange(len(obss) - count, len(obss))) % self._max_size
        for name, column in columns.items():
            store = getattr(self, name)
            store[rows] = np.asarray(column)[len(obss) - count :].reshape(count, *store.shape[1:])
        self._ptr = (self._ptr + len(obss)) % self._max_size
        self._size = min(self._size + len(obss), self._max_size)

    def load_dataset(self, dataset):
        """Takes a dataset's arrays as the whole content; the capacity grows where the dataset is larger."""
        count = len(dataset["observations"])
        self.__init__(
            max(self._max_size, count),
            self.obs_shape,
            self.observations.dtype,
            self.action_dim,
            self.actions.dtype,
            self.device,
        )
        self.add_batch(*(dataset[name] for name in _FIELDS))

    def normalize_obs(self, eps=1e-3):
        """Standardises the stored observations in place; returns mean and standard deviation, each [1, O]."""
        stored = slice(0, self._size)
        mean = self.observations[stored].mean(0, keepdims=True)
        std = self.observations[stored].std(0, keepdims=True) + eps
        self.observations[stored] = (self.observations[stored] - mean) / std
        self.next_observations[stored] = (self.next_observations[stored] - mean) / std
        return mean, std

    def sample(self, batch_size):
        """A batch drawn uniformly with replacement: a dict of tensors by the arrays' names."""
        rows = np.random.randint(0, self._size, size=batch_size)
        return {name: torch.as_tensor(getattr(self, name)[rows], device=self.device) for name in _FIELDS}

    def sample_all(self):
        """Everything stored: a dict of array copies."""
        return {name: getattr(self, name)[: self._size].copy() for name in _FIELDS}
