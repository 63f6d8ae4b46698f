"""Tables against numbers worked out by hand, and against rliable itself."""

import copy

import numpy as np
import pytest
from conftest import needs_report

from doof_ext.report.runs import find_runs
from doof_ext.report.tables import Table, aggregate_table, distance_table, intervals, score_table
from doof_ext.tasks import get_spec


def _with(run, scores, gain, distance=None):
    run = copy.deepcopy(run)
    for name, value in scores.items():
        run.summary["scores"][name]["mean"] = value
    run.summary["gain"] = gain
    if distance:
        run.summary["distance"]["uniform"] = {
            "before": {"mean": distance[0], "max": 9.0},
            "after": {"mean": distance[1], "max": 8.0},
        }
    return run


@pytest.fixture
def runs(runs_folder):
    """HP-m: ratio 1 twice and the control twice, with known numbers."""
    found = {(run.arm, run.seed): run for run in find_runs([runs_folder]) if run.task == "hopper-medium-v2"}
    return [
        _with(found["ratio 1", 1], {"pretrained": 10.0, "finetuned": 30.0}, 20.0, (4.0, 1.0)),
        _with(found["ratio 1", 2], {"pretrained": 20.0, "finetuned": 30.0}, 10.0, (2.0, 1.0)),
        _with(found["control", 1], {"pretrained": 10.0, "finetuned": 14.0}, 4.0),
        _with(found["control", 2], {"pretrained": 20.0, "finetuned": 22.0}, 2.0),
    ]


def test_scores_gains_and_the_controls_beside_them(runs):
    table = score_table(runs)
    assert table.rows == [
        ["HP-m", "recipe data", "ratio 1", "2", "15.0 ± 5.0", "30.0 ± 0.0", "+15.0", "+12.0"],
        ["HP-m", "recipe data", "control", "2", "15.0 ± 5.0", "18.0 ± 4.0", "+3.0", ""],
    ]
    assert table.best == {(0, 5)} and not table.missing
    assert "HP-m" in score_table(runs[:2]).missing


def test_distances_before_and_after(runs):
    table = distance_table(runs, "uniform", 2)
    assert table.rows == [["HP-m", "recipe data", "ratio 1", "2", "3", "1", "-66.7 %", "8"]]
    assert distance_table([], "uniform", 2).missing == "no finished DOOF runs"


@needs_report
def test_intervals_are_rliables_own():
    from rliable import library, metrics

    scores = np.random.default_rng(0).normal(20, 5, size=(5, 3))
    (mean, low, high), (iqm, iqm_low, iqm_high) = intervals(scores, repetitions=500, seed=3)
    np.random.seed(3)
    points, bounds = library.get_interval_estimates(
        {"doof": scores}, lambda x: np.array([metrics.aggregate_mean(x), metrics.aggregate_iqm(x)]), reps=500
    )
    assert (mean, iqm) == tuple(points["doof"]) and mean == pytest.approx(scores.mean())
    np.testing.assert_array_equal([[low, iqm_low], [high, iqm_high]], bounds["doof"])
    assert low < mean < high and iqm_low < iqm < iqm_high


@needs_report
def test_intervals_resample_seeds_within_tasks():
    """Stratified: two tasks whose scores differ, but not over seeds, leave nothing to resample."""
    (mean, low, high), _ = intervals(np.tile([0.0, 100.0], (4, 1)), repetitions=200)
    assert mean == low == high == 50.0


@needs_report
def test_averages_per_kind_of_dataset(runs):
    table = aggregate_table(runs)
    assert [row[:5] for row in table.rows] == [
        ["medium", "ratio 1", "1", "2", "+15.0"],
        ["medium", "control", "1", "2", "+3.0"],
    ]
    assert "first 1 seeds" in aggregate_table([*runs, *_other_task(runs)]).missing


def _other_task(runs):
    run = copy.deepcopy(runs[0])
    run.settings = run.settings | {"task": "walker2d-medium-v2"}
    return [run]


def test_normalised_scores_are_d4rls_and_spreads_have_no_offset():
    spec = get_spec("halfcheetah-medium-v2")
    assert 100 * spec.normalized_score(4770.3) == pytest.approx(100 * (4770.3 + 280.178953) / (12135 + 280.178953))
    assert spec.normalized_std(0.0) == 0.0  # the kit reports 2.26 here
    assert 100 * spec.normalized_std(124.15178953) == pytest.approx(1.0)


def test_the_three_formats_say_the_same():
    table = Table("t", "c", ["task", "gain − x"], [["a_b & c", "50 %"], ["d|e", "λ ± 1"]], {(1, 1)})
    assert table.csv() == "task,gain − x\na_b & c,50 %\nd|e,λ ± 1\n"
    assert table.markdown() == "| task | gain − x |\n|---|---|\n| a_b & c | 50 % |\n| d&#124;e | **λ ± 1** |\n"
    assert table.latex().splitlines()[4:6] == [r"a\_b \& c & 50 \% \\", r"d|e & \textbf{$\lambda$ $\pm$ 1} \\"]
