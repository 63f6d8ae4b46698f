"""The yardstick: D4RL's figures, and the same figures of a file beside them."""

import numpy as np
import pytest

from doof_ext.data.d4rl_statistics import STATISTICS, spread_ratio, statistics_of
from doof_ext.data.dataset import Dataset
from doof_ext.data.info import describe
from doof_ext.tasks import get_spec

PRINTED = """
| HC-random | 1e6 | 1000 | -288.8 ± 80.4 | -0.1 | -85.4 (1.6) | 1000 | -0.29 |
| HC-medium | 1e6 | 1000 | 4770 ± 356 | 40.7 | 5309 (45.0) | 1000 | 4.77 |
| HC-medium-replay | 202 000 | 202 | 3093 ± 1681 | 27.2 | 4985 (42.4) | 1000 | 3.09 |
| HC-medium-expert | 2e6 | 2000 | 7713 | 64.4 | 11252 (92.9) | 1000 | 7.71 |
| HP-random | 1e6 | 45 240 | 18.40 ± 17.45 | 1.2 | 292.6 (9.6) | 22.1 | 0.83 |
| HP-medium | 1e6 | 2 187 | 1422 ± 379 | 44.3 | 3222 (99.6) | 457 | 3.11 |
| HP-medium-replay | 402 000 | 2 041 | 467 ± 511 | 15.0 | 3193 (98.7) | 197 | 2.37 |
| HP-medium-expert | 2e6 | 3 214 | 2090 | 64.8 | 3759 (116.1) | 622 | 3.36 |
| WK-random | 1e6 | 48 908 | 1.87 ± 5.81 | 0.0 | 75.0 (1.6) | 20.4 | 0.09 |
| WK-medium | 1e6 | 1 191 | 2852 ± 1095 | 62.1 | 4227 (92.0) | 840 | 3.40 |
| WK-medium-replay | 302 000 | 1 093 | 683 ± 896 | 14.8 | 4132 (90.0) | 276 | 2.47 |
| WK-medium-expert | 2e6 | 2 191 | 3797 | 82.7 | 5012 (109.1) | 913 | 4.16 |
"""
DOMAINS = {"HC": "halfcheetah", "HP": "hopper", "WK": "walker2d"}


def _number(text):
    return float(text.replace(" ", ""))


@pytest.mark.parametrize("line", PRINTED.strip().splitlines(), ids=lambda line: line.split()[1])
def test_the_figures_and_what_follows_from_them_are_as_published(line):
    short, transitions, episodes, returns, normalised, best, length, per_step = (
        cell.strip() for cell in line.strip("|").split("|")
    )
    domain, _, quality = short.partition("-")
    spec = get_spec(f"{DOMAINS[domain]}-{quality}-v2")
    figures = STATISTICS[spec.name]
    assert (figures.transitions, figures.episodes) == (_number(transitions), _number(episodes))
    assert figures.transitions == spec.dataset_steps
    mean, _, std = returns.partition("±")
    assert figures.return_mean == float(mean) and figures.return_std == (float(std) if std else None)
    best, best_normalised = best.rstrip(")").split("(")
    assert figures.return_max == float(best)
    assert 100 * spec.normalized_score(figures.return_mean) == pytest.approx(float(normalised), abs=0.051)
    assert 100 * spec.normalized_score(figures.return_max) == pytest.approx(float(best_normalised), abs=0.051)
    assert figures.length_mean == pytest.approx(float(length), rel=0.003)
    assert figures.reward_mean == pytest.approx(float(per_step), abs=0.0051)


def test_every_line_is_in_the_table():
    assert len(STATISTICS) == len(PRINTED.strip().splitlines())


@pytest.fixture
def three_episodes():
    """Returns 1 + 2 = 3, 4 and 5 + 6 = 11: an episode that terminates, one that is cut, one that has no end."""
    rows = np.zeros((5, 11), np.float32)
    flags = np.zeros((2, 5), bool)
    flags[0, 1] = flags[1, 2] = True
    rewards = np.array([1, 2, 4, 5, 6], np.float32)
    return Dataset(rows, rows[:, :3], rows, rewards, *flags, metadata={"recipe": "hopper-random-v2"})


def test_figures_of_a_file(three_episodes):
    figures = statistics_of(three_episodes)
    assert (figures.transitions, figures.episodes, figures.return_mean, figures.return_max) == (5, 3, 6.0, 11.0)
    assert figures.return_std == pytest.approx(np.sqrt((9 + 4 + 25) / 3))
    assert figures.length_mean == pytest.approx(5 / 3) and figures.reward_mean == pytest.approx(18 / 5)


def test_a_file_is_described_beside_d4rls(three_episodes):
    told = describe(three_episodes, get_spec("hopper-random-v2"))
    table = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in told[:8]]
    assert table == [
        ["this file", "D4RL's file"],
        ["transitions", "5", "1000000"],
        ["episodes", "3", "45240"],
        ["return", "6.00 ± 3.56", "18.40 ± 17.45"],
        ["normalised", "0.8", "1.2"],
        ["best return", "11.00 (1.0)", "292.6 (9.6)"],
        ["mean length", "1.7", "22.1"],
        ["return per step", "3.60", "0.83"],
    ]
    assert "recipe          hopper-random-v2" in told
    assert "2090" in "".join(describe(three_episodes, get_spec("hopper-medium-expert-v2")))


def test_without_figures_of_d4rls_the_files_stand_alone(three_episodes):
    for spec, lines in ((get_spec("pen-human-v1"), 8), (None, 7)):
        told = describe(three_episodes, spec)[:lines]
        assert not any("D4RL" in line for line in told) and told[1].split() == ["transitions", "5"]
        assert any("normalised" in line for line in told) == (spec is not None)
        assert told[-1].split() == ["return", "per", "step", "3.60"]


def test_the_spread_of_each_observed_number_is_compared(three_episodes):
    """A column that varies as D4RL's, one that hardly does, and the others twice as much."""
    task, rng = "hopper-medium-v2", np.random.default_rng(0)
    d4rl = STATISTICS[task].observation_std
    factors = np.full(11, 2.0)
    factors[[0, 3]] = 1.0, 0.1
    columns = np.array([-1.0, 1.0, -1.0, 1.0])[:, None] * d4rl * factors + rng.normal(size=11)
    rows = columns.astype(np.float32)
    flags = np.zeros((2, 4), bool)
    data = Dataset(rows, rows[:, :3], rows, np.ones(4, np.float32), *flags)
    assert spread_ratio(statistics_of(data), STATISTICS[task]) == pytest.approx(factors, rel=1e-3)
    (line,) = (line for line in describe(data, get_spec(task)) if line.startswith("observations"))
    assert "spread 0.1 (column 3) to 2 (column" in line
    assert spread_ratio(statistics_of(three_episodes), STATISTICS["hopper-random-v2"]) is None
    assert not any(line.startswith("observations") for line in describe(three_episodes, get_spec("hopper-random-v2")))


def test_every_file_but_random_has_spreads_of_all_columns():
    for task, figures in STATISTICS.items():
        assert (figures.observation_std is None) == ("random" in task)
        assert "random" in task or len(figures.observation_std) == get_spec(task).obs_dim
