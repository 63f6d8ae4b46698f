"""A policy that doof_ext trained, in NumPy alone. An exported folder has a copy of this file:

from numpy_policy import load

policy = load()
action = policy.act(observation)                     # the mean action
action = policy.act(observation, numpy_generator)    # a sampled one
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np


class NumpyPolicy:
    """A tanh-Gaussian network with ReLU hidden layers: a = middle + half range · tanh(μ(s) + σ(s)·ε).

    Args:
        arrays: Float32 arrays ``hidden.<i>.weight`` [out, in], ``hidden.<i>.bias``, ``mean.weight``, ``mean.bias``,
            ``log_std.weight``, ``log_std.bias``, ``log_std_bounds`` [2], ``action_low`` [A], ``action_high`` [A].

    Attributes:
        obs_dim: O, the numbers of an observation.
        action_low: The least action [A], in the task's units; ``action_high`` is the greatest.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        count = sum(name.startswith("hidden.") and name.endswith(".weight") for name in arrays)
        self._hidden = [(arrays[f"hidden.{i}.weight"], arrays[f"hidden.{i}.bias"]) for i in range(count)]
        self._mean = arrays["mean.weight"], arrays["mean.bias"]
        self._log_std = arrays["log_std.weight"], arrays["log_std.bias"]
        self._log_std_bounds = arrays["log_std_bounds"]
        self.action_low, self.action_high = arrays["action_low"], arrays["action_high"]
        self.obs_dim = (self._hidden[0] if self._hidden else self._mean)[0].shape[1]

    def act(self, observation: Any, rng: int | np.random.Generator | None = None) -> np.ndarray:
        """The action for an observation, both in the task's units.

        Args:
            observation: Array [O], or [B, O] for B of them.
            rng: A NumPy generator, or a seed for one, to sample the action with; without, it is the mean action.

        Returns:
            A float32 array [A] or [B, A], within the action bounds.

        Raises:
            ValueError: The observation has another shape, or a number in it is not finite.
        """
        x = np.asarray(observation, dtype=np.float32)
        if x.ndim not in (1, 2) or x.shape[-1] != self.obs_dim:
            raise ValueError(f"the observation has shape {x.shape}; it must be [{self.obs_dim}] or [B, {self.obs_dim}]")
        if not np.isfinite(x).all():
            raise ValueError(f"the observation is not finite in its dimension {np.argwhere(~np.isfinite(x))[0, -1]}")
        for weight, bias in self._hidden:
            x = np.maximum(x @ weight.T + bias, 0)
        raw = x @ self._mean[0].T + self._mean[1]
        if rng is not None:
            log_std = np.clip(x @ self._log_std[0].T + self._log_std[1], *self._log_std_bounds)
            raw += np.exp(log_std) * np.random.default_rng(rng).standard_normal(raw.shape, np.float32)
        middle, half = (self.action_high + self.action_low) / 2, (self.action_high - self.action_low) / 2
        return np.clip(middle + half * np.tanh(raw), self.action_low, self.action_high)


def load(folder: str = os.path.dirname(os.path.abspath(__file__))) -> NumpyPolicy:
    """The policy of a folder, this file's own by default.

    Its policy.safetensors is the length of a JSON header in 8 bytes, the header, and the arrays' bytes.
    """
    with open(os.path.join(folder, "policy.safetensors"), "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        content = file.read()
    arrays = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        arrays[name] = np.frombuffer(content[start:end], "<f4").reshape(entry["shape"])
    return NumpyPolicy(arrays)
