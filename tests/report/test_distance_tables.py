"""Tables of distances against numbers worked out by hand."""

import copy

import numpy as np
import pytest

from doof_ext.report.distance_figures import offline_against_online
from doof_ext.report.distance_tables import distance_table, mean_table, tail_table, u_table
from doof_ext.report.runs import find_runs


@pytest.fixture
def runs(runs_folder):
    """HP-m: ratio 1 and the control no-online-data twice, and the control without a stage 4."""
    found = {
        (run.arm, run.seed): copy.deepcopy(run) for run in find_runs([runs_folder]) if run.task == "hopper-medium-v2"
    }
    arms = ("ratio 1", "control no-online-data", "control extra-training")
    return [found[arm, seed] for arm in arms for seed in (1, 2)]


def test_means_before_and_after(runs):
    for run, before, after in zip(runs, (4.0, 2.0, 4.0, 2.0), (1.0, 1.0, 3.0, 2.0), strict=False):
        run.summary["distance"]["uniform"] = {
            "before": {"mean": before, "max": 9.0},
            "after": {"mean": after, "max": 8.0},
        }
    assert distance_table(runs, "uniform", 2).rows == [
        ["HP-m", "recipe data", "ratio 1", "2", "3", "1", "-66.7 %", "8"],
        ["HP-m", "recipe data", "control no-online-data", "2", "3", "2.5", "-16.7 %", "8"],  # it has a stage 4
    ]
    assert distance_table([], "uniform", 2).missing == "no finished DOOF runs"


def _measured(distance, u=None):
    return {"distance": np.asarray(distance, float), "u": np.asarray(distance if u is None else u, float)}


def test_the_tail_is_the_mean_of_the_seeds_percentiles(runs):
    up_to = np.arange(101.0)  # its 99th percentile is 99
    for run, scale in zip(runs, (1, 2, 1, 2), strict=False):
        run.distances = {"online": {"before": _measured(scale * up_to), "after": _measured(scale * up_to / 10)}}
    del runs[2].distances["online"], runs[3].distances["online"]
    runs[2].distances["data"] = {"before": _measured([3, 3]), "after": _measured([2, 2])}
    table = tail_table(runs)
    assert table.headings[4:] == ["recorded", "uniform actions", "uniform", "fake buffer", "D_on", "other data"]
    assert [row[2:] for row in table.rows] == [
        ["ratio 1", "2", "", "", "", "", "148 → 14.9", ""],
        ["control no-online-data", "1", "3 → 2", "", "", "", "", ""],
    ]
    assert [row[4:] for row in mean_table(runs).rows] == [
        ["", "", "", "", "75 → 7.5", ""],
        ["3 → 2", "", "", "", "", ""],
    ]
    assert tail_table([]).missing == "finished runs with distances"


def test_distances_on_different_other_tasks_have_no_mean(runs):
    for run, task in zip(runs[:2], ("hopper-random-v2", "hopper-expert-v2"), strict=True):
        run.distances = {"other": {"before": _measured([1]), "after": _measured([1])}}
        run.settings = run.settings | {"distance_task": task}
    assert mean_table(runs[:2]).rows[0][4:] == [""] * 6
    assert mean_table(runs[:1]).rows[0][-1] == "1 → 1"


def test_figure_4_has_the_steps_of_the_pretrained_policy_apart_from_arms_that_train_otherwise(runs_folder):
    runs = [copy.deepcopy(run) for run in find_runs([runs_folder]) if run.task == "hopper-medium-v2"]
    runs = [run for run in runs if run.arm in ("ratio 0", "ratio 1")]
    unlike = copy.deepcopy(next(run for run in runs if run.arm == "ratio 0"))
    del unlike.arm
    unlike.unlike = {"start_ratio": "start ratio 1"}
    unlike.distances["online"] = {"before": _measured([1000]), "after": _measured([1000])}
    before, after = (offline_against_online(of).alt for of in (runs, [*runs, unlike]))
    assert before.removesuffix(".") in after.replace(", D_on (ratio 0, start ratio 1) 1e+03", "")


def test_how_u_ranks_pairs_beside_the_distance_of_the_pretrained_dynamics(runs):
    rising, falling = [1, 2, 3], [3, 2, 1]
    for run, of_data in zip(runs, (rising, falling), strict=False):
        run.distances = {
            "data": {"before": _measured(rising, of_data), "after": _measured(rising, falling)},
            "random_actions": {"before": _measured([4, 5, 6]), "after": {}},
            "uniform": {"before": _measured([7, 8, 9]), "after": {}},
        }
    runs[1].distances.pop("uniform")
    (row,) = u_table(runs).rows
    assert row[2:4] == ["ratio 1", "2"]
    assert row[4:] == ["+0.00", "+1.00", "+1.00", "", "", "", "+1.00"]  # the last of seed 1 alone
    assert u_table([]).missing == "finished DOOF runs with distances"
