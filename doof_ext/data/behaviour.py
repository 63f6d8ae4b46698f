"""The policies that recipe datasets are recorded with: a tanh-Gaussian network in plain NumPy.

Generation steps one environment at a time in worker processes: for one row NumPy is faster than a learning framework,
and the workers need not import one.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from importlib import resources
from typing import Any, Protocol

import numpy as np
from safetensors import safe_open

LOG_STD_BOUNDS = (-5.0, 2.0)


class RecordingPolicy(Protocol):
    """A policy that a dataset can be recorded with."""

    @property
    def metadata(self) -> Mapping[str, Any]: ...

    def act(self, observation: np.ndarray, rng: np.random.Generator) -> np.ndarray: ...


class Behaviour:
    """A policy a = tanh(μ(s) + σ(s)·ε) with ReLU hidden layers; without log_std a = tanh(μ(s)).

    Args:
        weights: Arrays ``hidden.<i>.weight`` [out, in], ``hidden.<i>.bias``, ``mean.weight``, ``mean.bias`` and, of a
            stochastic policy, ``log_std.weight``, ``log_std.bias``.
        metadata: How it was made; ``behaviour`` describes it in a few words.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None = None) -> None:
        count = sum(name.startswith("hidden.") and name.endswith(".weight") for name in weights)
        self._hidden = [(weights[f"hidden.{i}.weight"], weights[f"hidden.{i}.bias"]) for i in range(count)]
        self._mean = weights["mean.weight"], weights["mean.bias"]
        self._log_std = (weights["log_std.weight"], weights["log_std.bias"]) if "log_std.bias" in weights else None
        self.metadata = dict(metadata or {})

    @classmethod
    def shipped(cls, name: str) -> list[Behaviour]:
        """The policies of a file shipped with the package, such as ``hopper-medium``, oldest first.

        The files are made by run_example/train_behaviour.py; arrays with one more dimension hold several policies.
        """
        resource = resources.files("doof_ext.data") / "behaviours" / f"{name}.safetensors"
        with resources.as_file(resource) as path, safe_open(path, framework="numpy") as file:
            metadata = json.loads(file.metadata()["behaviour"])
            weights = {key: file.get_tensor(key).astype(np.float32) for key in list(file.keys())}
        if weights["mean.bias"].ndim == 1:
            return [cls(weights, metadata)]
        several = range(len(weights["mean.bias"]))
        return [cls({key: stack[index] for key, stack in weights.items()}, metadata) for index in several]

    def act(self, observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """observation [O] → an action [A] float32 in (-1, 1), sampled where the policy is stochastic."""
        x = observation.astype(np.float32)
        for weight, bias in self._hidden:
            x = np.maximum(weight @ x + bias, 0.0)
        mean = self._mean[0] @ x + self._mean[1]
        if self._log_std is None:
            return np.tanh(mean).astype(np.float32)
        log_std = np.clip(self._log_std[0] @ x + self._log_std[1], *LOG_STD_BOUNDS)
        noise = rng.standard_normal(len(mean), dtype=np.float32)
        return np.tanh(mean + np.exp(log_std) * noise).astype(np.float32)


class UniformBehaviour:
    """Actions uniform between ``low`` [A] and ``high`` [A], independent of the observation."""

    metadata: Mapping[str, Any] = types.MappingProxyType({"behaviour": "uniform random actions"})

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        self._low, self._high = low, high

    def act(self, observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """observation [O] → an action [A] float32."""
        return rng.uniform(self._low, self._high).astype(np.float32)
