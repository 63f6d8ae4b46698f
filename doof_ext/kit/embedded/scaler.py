"""Standardisation of the dynamics' inputs."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch


class StandardScaler:
    """Subtracts a mean and divides by a standard deviation, both [1, D] float32."""

    def __init__(self, mu: np.ndarray | None = None, std: np.ndarray | None = None) -> None:
        self.mu: Any = mu
        self.std: Any = std

    def fit(self, data: np.ndarray) -> None:
        """Computes mean and standard deviation of data [N, D]; a constant column keeps its scale."""
        self.mu = np.mean(data, axis=0, keepdims=True)
        self.std = np.std(data, axis=0, keepdims=True)
        self.std[self.std < 1e-12] = 1.0

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
