"""What D4RL's own v2 files look like in a few figures, the yardstick for recipes; and the same figures of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from doof_ext.data import episodes
from doof_ext.data.dataset import Dataset


@dataclass(frozen=True)
class Statistics:
    """Figures of a dataset's episodes; returns are undiscounted and not normalised."""

    transitions: int
    episodes: int  # a partial one at the end is counted
    return_mean: float
    return_std: float | None  # over episodes; None where no source has it
    return_max: float
    observation_std: np.ndarray | None = None  # of each column [O]; None where no source has it

    @property
    def length_mean(self) -> float:
        """Steps of an episode."""
        return self.transitions / self.episodes

    @property
    def reward_mean(self) -> float:
        """Return per step."""
        return self.return_mean / self.length_mean


def statistics_of(dataset: Dataset) -> Statistics:
    """The figures of a dataset."""
    returns, _ = episodes.returns_and_lengths(dataset)
    mean, std, best = map(float, (np.mean(returns), np.std(returns), np.max(returns)))
    columns = np.std(dataset.observations, axis=0, dtype=np.float64)
    return Statistics(len(dataset), len(returns), mean, std, best, columns)


def spread_ratio(found: Statistics, d4rl: Statistics) -> np.ndarray | None:
    """By which factor each observed number spreads more than in D4RL's file [O]; None where that is not known.

    A factor far below 1 is a number that the recipe's policies hold still and D4RL's do not: a model learns nothing of
    what it does, whatever the returns are.
    """
    if found.observation_std is None or d4rl.observation_std is None:
        return None
    return found.observation_std / d4rl.observation_std


_OBSERVATION_STD = {
    f"{line.split()[0]}-v2": np.array(line.split()[1:], float)
    for line in """
halfcheetah-medium 0.0747 0.302 0.302 0.344 0.176 0.507 0.257 0.329 1.26 0.76 1.98 6.57 7.47 4.47 10.6 5.67 7.5
halfcheetah-medium-replay 0.17 1.28 0.334 0.367 0.261 0.478 0.318 0.336 2.09 0.804 1.9 6.57 7.57 5.07 9.11 6.09 7.25
halfcheetah-medium-expert 0.061 0.361 0.455 0.385 0.222 0.567 0.32 0.285 3.44 0.673 1.86 9.58 10 5.9 12.1 6.48 6.38
hopper-medium 0.178 0.0544 0.213 0.145 0.612 0.852 1.45 0.675 1.54 1.62 5.61
hopper-medium-replay 0.176 0.0637 0.344 0.196 0.555 1.05 1.16 0.796 1.48 1.65 5.11
hopper-medium-expert 0.17 0.0516 0.181 0.164 0.602 0.774 1.5 0.748 1.8 2.05 5.73
walker2d-medium 0.123 0.324 0.115 0.262 0.564 0.227 0.384 0.737 1.24 0.798 1.57 1.81 3.03 4.06 1.46 3.74 5.59
walker2d-medium-replay 0.119 0.356 0.259 0.421 0.52 0.157 0.368 0.716 1.38 0.863 2.64 3.01 3.72 4.87 2.67 3.85 5.48
walker2d-medium-expert 0.0993 0.26 0.151 0.242 0.676 0.165 0.381 0.696 1.35 0.764 1.53 2.18 3.28 4.77 1.17 4.04 5.89
""".strip().splitlines()
}

_RETURNS = {
    "halfcheetah-random-v2": (1_000_000, 1_000, -288.8, 80.4, -85.4),
    "halfcheetah-medium-v2": (1_000_000, 1_000, 4770, 356, 5309),
    "halfcheetah-medium-replay-v2": (202_000, 202, 3093, 1681, 4985),
    "halfcheetah-medium-expert-v2": (2_000_000, 2_000, 7713, None, 11252),
    "hopper-random-v2": (1_000_000, 45_240, 18.40, 17.45, 292.6),
    "hopper-medium-v2": (1_000_000, 2_187, 1422, 379, 3222),
    "hopper-medium-replay-v2": (402_000, 2_041, 467, 511, 3193),
    "hopper-medium-expert-v2": (2_000_000, 3_214, 2090, None, 3759),
    "walker2d-random-v2": (1_000_000, 48_908, 1.87, 5.81, 75.0),
    "walker2d-medium-v2": (1_000_000, 1_191, 2852, 1095, 4227),
    "walker2d-medium-replay-v2": (302_000, 1_093, 683, 896, 4132),
    "walker2d-medium-expert-v2": (2_000_000, 2_191, 3797, None, 5012),
}

STATISTICS = MappingProxyType(
    {task: Statistics(*figures, _OBSERVATION_STD.get(task)) for task, figures in _RETURNS.items()}
)
"""By task. Numbers of episodes are the TensorFlow Datasets catalogue's (d4rl_mujoco_*), which counts a last partial
episode; returns are from the logs that other projects print when they load the files; medium-expert is computed from
medium and expert. Spreads of observations are the constants that published Decision Transformers of these files are
to be used with."""
