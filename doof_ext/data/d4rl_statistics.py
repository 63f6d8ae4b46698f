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
    return Statistics(len(dataset), len(returns), *map(float, (np.mean(returns), np.std(returns), np.max(returns))))


STATISTICS = MappingProxyType(
    {
        "halfcheetah-random-v2": Statistics(1_000_000, 1_000, -288.8, 80.4, -85.4),
        "halfcheetah-medium-v2": Statistics(1_000_000, 1_000, 4770, 356, 5309),
        "halfcheetah-medium-replay-v2": Statistics(202_000, 202, 3093, 1681, 4985),
        "halfcheetah-medium-expert-v2": Statistics(2_000_000, 2_000, 7713, None, 11252),
        "hopper-random-v2": Statistics(1_000_000, 45_240, 18.40, 17.45, 292.6),
        "hopper-medium-v2": Statistics(1_000_000, 2_187, 1422, 379, 3222),
        "hopper-medium-replay-v2": Statistics(402_000, 2_041, 467, 511, 3193),
        "hopper-medium-expert-v2": Statistics(2_000_000, 3_214, 2090, None, 3759),
        "walker2d-random-v2": Statistics(1_000_000, 48_908, 1.87, 5.81, 75.0),
        "walker2d-medium-v2": Statistics(1_000_000, 1_191, 2852, 1095, 4227),
        "walker2d-medium-replay-v2": Statistics(302_000, 1_093, 683, 896, 4132),
        "walker2d-medium-expert-v2": Statistics(2_000_000, 2_191, 3797, None, 5012),
    }
)
"""By task. Numbers of episodes are the TensorFlow Datasets catalogue's (d4rl_mujoco_*), which counts a last partial
episode; returns are from the logs that other projects print when they load the files; medium-expert is computed from
medium and expert."""
