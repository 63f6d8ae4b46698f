"""pen-cloned as D4RL makes it: the episodes of a policy cloned from the human demonstrations, then the demonstrations.

Half of the rows are the clone's, half are the human rows, repeated.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from tqdm import tqdm

from doof_ext import kit
from doof_ext.data.behaviour import Behaviour
from doof_ext.data.dataset import Dataset, concatenate, read_dataset, repeated_steps
from doof_ext.data.recipe import VERSION, record
from doof_ext.tasks import TaskSpec

# D4RL's file holds its clone: these layers and a mean without a deviation (fc0, fc1 and last_fc of v1-cloned in the
# TensorFlow Datasets catalogue, d4rl_adroit_pen). How it was fitted is not published.
_HIDDEN_DIMS = (256, 256)
_EPOCHS = 100
_BATCH_SIZE = 256
_LR = 1e-3


def clone(demonstrations: Dataset, seed: int) -> Behaviour:
    """Behaviour cloning: the policy tanh(μ(s)) whose actions are nearest to the recorded ones in the mean square.

    Args:
        demonstrations: The rows to imitate, with actions in [-1, 1].
        seed: Of initial weights and batches.
    """
    scaler = kit.StandardScaler()
    scaler.fit(demonstrations.observations.astype(np.float64))
    observations = torch.from_numpy(scaler.transform(demonstrations.observations).astype(np.float32))
    actions = torch.from_numpy(demonstrations.actions)
    with torch.random.fork_rng(devices=[]), tqdm(total=_EPOCHS, desc="cloning", unit="epoch", disable=None) as bar:
        torch.manual_seed(seed)
        network = kit.MLP(observations.shape[1], _HIDDEN_DIMS, actions.shape[1])
        optim = torch.optim.Adam(network.parameters(), lr=_LR)
        for _ in range(_EPOCHS):
            for rows in torch.randperm(len(actions)).split(_BATCH_SIZE):
                loss = (network(observations[rows]).tanh() - actions[rows]).square().mean()
                optim.zero_grad()
                loss.backward()
                optim.step()
            bar.update()
    return Behaviour(_weights(network, scaler), {"behaviour": "behaviour cloning"})


def _weights(network: kit.MLP, scaler: kit.StandardScaler) -> dict[str, np.ndarray]:
    """The network's weights, with the standardisation of its inputs in the first layer."""
    linears = [layer for layer in network.model if isinstance(layer, torch.nn.Linear)]
    names = [*(f"hidden.{index}" for index in range(len(_HIDDEN_DIMS))), "mean"]
    weights = {}
    for name, layer in zip(names, linears, strict=True):
        weights[f"{name}.weight"] = layer.weight.detach().numpy().copy()
        weights[f"{name}.bias"] = layer.bias.detach().numpy().copy()
    first = weights["hidden.0.weight"] / scaler.std
    weights["hidden.0.weight"] = first.astype(np.float32)
    weights["hidden.0.bias"] = (weights["hidden.0.bias"] - first @ scaler.mu[0]).astype(np.float32)
    return weights


def generate_cloned(path: str, spec: TaskSpec, steps: int, seed: int, processes: int | None = None) -> Dataset:
    """Records ``steps`` rows of pen-cloned from a file of pen-human.

    Args:
        path: A D4RL HDF5 file of demonstrations.
        spec: pen-cloned's spec.
        steps: Number of rows, half of them the clone's.
        seed: Of the clone and of its environments.
        processes: Workers that record; by default one per core.

    Raises:
        UserError: The file is unusable, or gymnasium-robotics is not installed.
    """
    human = read_dataset(path, spec)
    metadata = {
        "recipe": spec.name,
        "task": spec.name,
        "physics": "d4rl",
        "seed": seed,
        "behaviour": "half a clone of the demonstrations, half the demonstrations, repeated",
        "recipe_version": VERSION,
        "demonstrations": os.path.basename(path),
    }
    rollouts = record(spec, [(clone(human, seed), steps // 2)], seed, processes, metadata)
    human.metadata = metadata
    return concatenate(rollouts, repeated_steps(human, steps - steps // 2))
