"""What D4RL's own v2 files look like: the yardstick for recipes."""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple


class Statistics(NamedTuple):
    """Of a file: returns and lengths are over its episodes; None where no source has the number."""

    transitions: int
    episodes: int
    return_mean: float
    return_std: float | None
    return_max: float
    length_mean: float
    reward_mean: float


STATISTICS = MappingProxyType(
    {
        "halfcheetah-random-v2": Statistics(1_000_000, 1000, -288.8, 80.4, -85.4, 1000, -0.29),
        "halfcheetah-medium-v2": Statistics(1_000_000, 1000, 4770, 356, 5309, 1000, 4.77),
        "halfcheetah-medium-replay-v2": Statistics(202_000, 202, 3093, 1681, 4985, 1000, 3.09),
        "halfcheetah-medium-expert-v2": Statistics(2_000_000, 2000, 7713, None, 11252, 1000, 7.71),
        "hopper-random-v2": Statistics(1_000_000, 45_240, 18.40, 17.45, 292.6, 22.1, 0.83),
        "hopper-medium-v2": Statistics(1_000_000, 2187, 1422, 379, 3222, 457, 3.11),
        "hopper-medium-replay-v2": Statistics(402_000, 2041, 467, 511, 3193, 197, 2.37),
        "hopper-medium-expert-v2": Statistics(2_000_000, 3214, 2090, None, 3759, 622, 3.36),
        "walker2d-random-v2": Statistics(1_000_000, 48_908, 1.87, 5.81, 75.0, 20.4, 0.09),
        "walker2d-medium-v2": Statistics(1_000_000, 1191, 2852, 1095, 4227, 840, 3.40),
        "walker2d-medium-replay-v2": Statistics(302_000, 1093, 683, 896, 4132, 276, 2.47),
        "walker2d-medium-expert-v2": Statistics(2_000_000, 2191, 3797, None, 5012, 913, 4.16),
    }
)
"""By task. Episode counts are the TensorFlow Datasets catalogue's (d4rl_mujoco_*; a last partial episode is counted);
returns are from logs of projects that print them when they load the files; lengths are transitions / episodes;
medium-expert is computed from medium and expert."""
