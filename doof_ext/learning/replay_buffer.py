"""Replay on tensors, and batches mixed from several buffers in exact counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from doof_ext import kit

FIELDS = ("observations", "actions", "next_observations", "rewards", "terminals")


class TensorReplayBuffer(kit.ReplayBuffer):
    """The kit's buffer with its rows in one tensor [capacity, 2·O + A + 2] on the device.

    A transition is one row, so that drawing a batch is one gather. ``observations`` and the other columns are
    views of it. A full buffer overwrites its oldest rows.

    Attributes:
        EXTRA: Further columns of one number, which a subclass fills in itself.
    """

    EXTRA: tuple[str, ...] = ()
    observations: torch.Tensor
    actions: torch.Tensor
    next_observations: torch.Tensor
    rewards: torch.Tensor
    terminals: torch.Tensor

    def __init__(
        self,
        buffer_size: int,
        obs_shape: tuple[int, ...],
        obs_dtype: Any = np.float32,
        action_dim: int = 1,
        action_dtype: Any = np.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        # Not the base's __init__: it would allocate the same rows again as NumPy arrays.
        (obs_dim,) = obs_shape
        self.obs_shape, self.action_dim = tuple(obs_shape), action_dim
        self.device = torch.device(device)
        self._widths = dict(zip(FIELDS, (obs_dim, action_dim, obs_dim, 1, 1), strict=True))
        self._widths |= dict.fromkeys(self.EXTRA, 1)
        self._allocate(buffer_size)

    @classmethod
    def from_dataset(cls, dataset: Mapping[str, Any], device: str | torch.device = "cpu") -> TensorReplayBuffer:
        """A buffer that holds just the dataset's transitions, a dict of arrays [N, ·] by the kit's names."""
        observations, actions = dataset["observations"], dataset["actions"]
        buffer = cls(len(observations), observations.shape[1:], action_dim=actions.shape[1], device=device)
        buffer.load_dataset(dataset)
        return buffer

    def _allocate(self, buffer_size: int) -> None:
        self._max_size, self._ptr, self._size = buffer_size, 0, 0
        self._rows = torch.zeros(buffer_size, sum(self._widths.values()), device=self.device)
        for name, column in self.columns(self._rows).items():
            setattr(self, name, column)

    def columns(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Rows of :meth:`sample_rows` as a dict of views [B, ·]."""
        return dict(zip(self._widths, rows.split(list(self._widths.values()), dim=-1), strict=True))

    def __len__(self) -> int:
        return self._size

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, terminal: Any) -> None:
        """Adds one transition: obs [O], next_obs [O], action [A], reward, terminal."""
        columns = (obs, next_obs, action, np.reshape(reward, 1), np.reshape(terminal, 1))
        self.add_batch(*(np.asarray(column)[None] for column in columns))

    def add_batch(self, obss: Any, next_obss: Any, actions: Any, rewards: Any, terminals: Any) -> None:
        """Adds N transitions, arrays or tensors [N, ·]; of more than the capacity, the last ones stay."""
        added = dict(zip(FIELDS, (obss, actions, next_obss, rewards, terminals), strict=True))
        total = len(obss)
        skipped = max(0, total - self._max_size)
        self._ptr = (self._ptr + skipped) % self._max_size
        while skipped < total:  # at most two runs: up to the end of the ring, and on from its start
            count = min(total - skipped, self._max_size - self._ptr)
            for name, column in added.items():
                part = torch.as_tensor(column[skipped : skipped + count])
                getattr(self, name)[self._ptr : self._ptr + count] = part.reshape(count, -1)
            self._ptr = (self._ptr + count) % self._max_size
            self._size = min(self._size + count, self._max_size)
            skipped += count

    def load_dataset(self, dataset: Mapping[str, Any]) -> None:
        """Replaces the content by a dataset, arrays by the kit's names; the capacity is kept or grows."""
        self._allocate(max(self._max_size, len(dataset["observations"])))
        self.add_batch(*(dataset[n] for n in ("observations", "next_observations", "actions", "rewards", "terminals")))

    def normalize_obs(self, eps: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
        """Standardises the stored observations in place; returns mean and standard deviation, arrays [1, O]."""
        stored = self.observations[: self._size]
        mean, std = kit.column_statistics(stored.cpu().numpy())
        std += eps
        for column in (stored, self.next_observations[: self._size]):
            column.sub_(torch.as_tensor(mean, device=self.device)).div_(torch.as_tensor(std, device=self.device))
        return mean, std

    def sample(self, batch_size: int, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
        """batch_size transitions drawn uniformly with replacement, a dict of tensors [batch_size, ·]."""
        return self.columns(self.sample_rows(batch_size, generator))

    def sample_rows(
        self, count: int, generator: torch.Generator | None = None, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As :meth:`sample`, as rows of all columns side by side; into ``out`` where given."""
        indices = torch.randint(self._size, (count,), generator=generator, device=self.device)
        return torch.index_select(self._rows, 0, indices, out=out)

    def empty_rows(self, count: int) -> torch.Tensor:
        """Room for ``count`` rows of :meth:`sample_rows`."""
        return self._rows.new_empty(count, self._rows.shape[1])

    def state_dict(self) -> dict[str, Any]:
        """The rows stored and where the next one goes."""
        return {"rows": self._rows[: self._size], "next": self._ptr}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` of a buffer of the same capacity returned."""
        self._size, self._ptr = len(state["rows"]), state["next"]
        self._rows[: self._size] = state["rows"]

    def sample_all(self) -> dict[str, np.ndarray]:
        """Everything stored, oldest index first: a dict of array copies [size, ·]."""
        return {name: column.cpu().numpy().copy() for name, column in self.columns(self._rows[: self._size]).items()}


class Mixture:
    """Batches made of a fixed number of rows from each of several buffers, in the order given.

    Args:
        sources: (buffer, rows per batch) pairs; a source of zero rows is not sampled, unless there is no other.
    """

    def __init__(self, sources: Sequence[tuple[TensorReplayBuffer, int]]) -> None:
        self.sources = [(buffer, count) for buffer, count in sources if count > 0] or list(sources[:1])
        self._reused: tuple[int, Sequence[torch.Tensor], dict[str, dict[str, torch.Tensor]]] | None = None

    def sample(self, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
        """One batch: a dict of tensors whose first rows are the first buffer's, and so on."""
        rows = self._empty_rows()
        self._fill(self._split(rows), generator)
        return self.sources[0][0].columns(rows)

    def sample_split(self, first: int, generator: torch.Generator | None = None) -> dict[str, dict[str, torch.Tensor]]:
        """One batch as the kit's policies take it, {"real": its first rows, "fake": the rest}, and "all" of it.

        It is valid until the next call, which fills the same tensors.
        """
        if self._reused is None or self._reused[0] != first:
            rows, columns = self._empty_rows(), self.sources[0][0].columns
            batch = {"real": columns(rows[:first]), "fake": columns(rows[first:]), "all": columns(rows)}
            self._reused = first, self._split(rows), batch
        _, parts, batch = self._reused
        self._fill(parts, generator)
        return batch

    def _empty_rows(self) -> torch.Tensor:
        return self.sources[0][0].empty_rows(sum(count for _, count in self.sources))

    def _split(self, rows: torch.Tensor) -> Sequence[torch.Tensor]:
        return rows.split([count for _, count in self.sources])

    def _fill(self, parts: Sequence[torch.Tensor], generator: torch.Generator | None) -> None:
        for (buffer, count), part in zip(self.sources, parts, strict=True):
            buffer.sample_rows(count, generator, out=part)


def split_counts(total: int, fractions: Sequence[float]) -> list[int]:
    """Rows from each source of a batch: each fraction of ``total`` rounded down, as the kit does, and the rest.

    Returns:
        len(fractions) + 1 counts that add up to ``total``; the last is what the fractions leave.

    Raises:
        ValueError: The fractions are negative or more than a whole.
    """
    counts = [int(total * fraction) for fraction in fractions]
    rest = total - sum(counts)
    if rest < 0 or min(counts, default=0) < 0:
        raise ValueError(f"fractions {fractions} do not fit in a whole")
    return [*counts, rest]
