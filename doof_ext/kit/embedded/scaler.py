"""Standardisation of the dynamics' inputs."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

_RESOLUTION = 2 * np.finfo(np.float32).eps  # relative spread of a constant that was rounded to float32 now and then
_SMALLEST = 1e-12  # standard deviation, as the kit has it


def column_statistics(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column of data [N, D], computed in float64; both [1, D] float32."""
    columns = (column.astype(np.float64) for column in np.asarray(data).T)  # one at a time
    mean, std = np.array([(column.mean(), column.std()) for column in columns], np.float32).T[:, None]
    return mean, std


def standardisation(data: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What data [N, D] are standardised by; a constant column keeps its scale.

    Returns:
        mean [1, D] float32, scale [1, D] float32 (the standard deviation, 1 for a constant column), and which columns
        are constant, bool [D]: those without a spread beyond float32's resolution at their mean.
    """
    mean, std = column_statistics(data)
    constant = std <= np.maximum(_SMALLEST, _RESOLUTION * abs(mean))
    return mean, np.where(constant, np.float32(1), std), constant[0]


class StandardScaler:
    """Subtracts a mean and divides by a standard deviation, both [1, D] float32."""

    def __init__(self, mu: np.ndarray | None = None, std: np.ndarray | None = None) -> None:
        self.mu: Any = mu
        self.std: Any = std

    def fit(self, data: np.ndarray) -> None:
        """Computes mean and standard deviation of data [N, D]; a constant column keeps its scale."""
        self.mu, self.std, _ = standardisation(data)

    def transform(self, data: np.ndarray) -> np.ndarray:
        """Standardises an array [..., D]."""
        return (data - self.mu) / self.std

    def inverse_transform(self, data: np.ndarray) -> np.ndarray:
        """Undoes :meth:`transform`."""
        return data * self.std + self.mu

    def transform_tensor(self, data: torch.Tensor) -> torch.Tensor:
        """Standardises a tensor [..., D], on its device."""
        mu = torch.as_tensor(self.mu, dtype=data.dtype, device=data.device)
        std = torch.as_tensor(self.std, dtype=data.dtype, device=data.device)
        return (data - mu) / std

    def save_scaler(self, save_path: str) -> None:
        """Writes mu.npy and std.npy into a folder."""
        np.save(os.path.join(save_path, "mu.npy"), self.mu)
        np.save(os.path.join(save_path, "std.npy"), self.std)

    def load_scaler(self, load_path: str) -> None:
        """Reads mu.npy and std.npy from a folder."""
        self.mu = np.load(os.path.join(load_path, "mu.npy"), allow_pickle=False)
        self.std = np.load(os.path.join(load_path, "std.npy"), allow_pickle=False)
