"""Tables against numbers worked out by hand, and against rliable itself."""

import copy

import numpy as np
import pytest
from conftest import needs_report

from doof_ext.report.runs import find_runs
from doof_ext.report.score_tables import aggregate_table, intervals, score_table
from doof_ext.report.table import Table
from doof_ext.tasks import get_spec


def _with(run, scores, gain, stage_4=6):
    run = copy.deepcopy(run)
    for name, value in scores.items():
        run.summary["scores"][name] |= {"last_10": value, "mean": value - 1, "best": value + 5, "final": None}
    run.summary["gain"] = gain
    for stage in run.summary["stages"]:
        if stage["name"] == "finetune_dynamics":
            stage["gradient_steps"] = stage_4
    return run


@pytest.fixture
def found(runs_folder):
    return {(run.arm, run.seed): run for run in find_runs([runs_folder]) if run.task == "hopper-medium-v2"}


@pytest.fixture
def runs(found):
    """HP-m: ratio 1 and each control twice, with known numbers."""
    return [
        _with(found["ratio 1", 1], {"pretrained": 10.0, "finetuned": 30.0}, 20.0),
        _with(found["ratio 1", 2], {"pretrained": 20.0, "finetuned": 30.0}, 10.0),
        _with(found["control no-online-data", 1], {"pretrained": 10.0, "finetuned": 17.0}, 7.0),
        _with(found["control no-online-data", 2], {"pretrained": 20.0, "finetuned": 28.0}, 8.0),
        _with(found["control extra-training", 1], {"pretrained": 10.0, "finetuned": 14.0}, 4.0),
        _with(found["control extra-training", 2], {"pretrained": 20.0, "finetuned": 22.0}, 2.0),
    ]


BEFORE = "15.0 ± 5.0"


def test_scores_gains_and_those_over_each_control_the_strictest_first(runs):
    table = score_table(runs)
    scores = ["pretrained", "finetuned", "last", "best", "final", "gain"]
    assert table.headings[4:] == [*scores, "over no-online-data", "over extra-training", "over ratio 0"]
    assert [row[:4] for row in table.rows] == [
        ["HP-m", "recipe data", arm, "2"] for arm in ("ratio 1", "control no-online-data", "control extra-training")
    ]
    assert [row[4:] for row in table.rows] == [
        [BEFORE, "30.0 ± 0.0", "29.0 ± 0.0", "35.0 ± 0.0", "", "+15.0", "+7.5", "+12.0", ""],
        [BEFORE, "22.5 ± 5.5", "21.5 ± 5.5", "27.5 ± 5.5", "", "+7.5", "", "", ""],
        [BEFORE, "18.0 ± 4.0", "17.0 ± 4.0", "23.0 ± 4.0", "", "+3.0", "", "", ""],
    ]
    assert table.best == {(0, 5)} and not table.missing
    assert "mean of a stage's last ten evaluations" in " ".join(table.caption.split())
    assert "(no-online-data) of HP-m" in score_table(runs[:2]).missing


def test_the_final_evaluation_is_shown_of_the_runs_that_have_one(runs):
    runs[1].summary["scores"]["finetuned"]["final"] = {"mean": 31.5, "std": 1.0, "episodes": 100}
    assert [row[8] for row in score_table(runs).rows] == ["31.5", "", ""]


def test_gains_over_a_control_are_of_the_seeds_that_both_have(runs):
    (first, *_) = score_table([*runs[:2], runs[3]]).rows
    assert first[-3:] == ["+2.0 (1 seed)", "", ""]  # seed 2: 10 less 8


@needs_report
def test_a_gain_of_three_seeds_has_its_interval(runs, found):
    for arm, gain in (("ratio 1", 40.0), ("control no-online-data", 6.0)):
        third = _with(found[arm, 1], {"pretrained": 10.0, "finetuned": 10.0 + gain}, gain)
        third.settings = third.settings | {"seed": 3}
        runs.append(third)
    rows = {row[2]: row[-3:] for row in score_table(runs).rows}
    assert rows["ratio 1"][0] == "+16.3 [-24.1, +56.7]"  # of 13, 2 and 34: 4.303 standard errors of 9.39
    assert rows["ratio 1"][1] == "+12.0 (2 seeds)"


def test_gains_over_ratio_0_are_those_over_the_steps_of_the_pretrained_policy(runs, found):
    zero = _with(found["ratio 0", 1], {"pretrained": 10.0, "finetuned": 24.0}, 14.0)
    rows = {row[2]: row[-1] for row in score_table([*runs, zero]).rows}
    assert rows["ratio 1"] == "+6.0 (1 seed)" and rows["ratio 0"] == rows["control no-online-data"] == ""


def test_a_control_of_other_rounds_or_estimator_is_not_beside_doof(runs, found):
    rounds = _with(found["ratio 1, 2 rounds", 1], {"pretrained": 10.0, "finetuned": 40.0}, 30.0)
    rows = {row[2]: row[-3:-1] for row in score_table([*runs, rounds]).rows}
    assert rows["ratio 1"] == ["+7.5", "+12.0"] and rows["ratio 1, 2 rounds"] == ["", ""]


def test_arms_whose_stage_4_took_other_numbers_of_steps_are_named(runs):
    assert "gradient steps" not in score_table(runs).caption
    runs[2] = _with(runs[2], {}, 7.0, stage_4=3)
    told = "(HP-m, seed 1: ratio 1 6, control no-online-data 3)"
    assert told in " ".join(score_table(runs).caption.split())


def test_runs_of_earlier_versions_are_named(runs):
    for run in runs[:2]:
        run.summary["scores"]["finetuned"]["best"] = None
    table = score_table(runs)
    assert "earlier versions" in table.caption and table.rows[0][7] == "" and table.rows[1][7] == "27.5 ± 5.5"
    assert "earlier versions" not in score_table(runs[2:]).caption


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
        ["medium", "control no-online-data", "1", "2", "+7.5"],
        ["medium", "control extra-training", "1", "2", "+3.0"],
    ]
    assert table.rows[0][8:] == ["+7.5", "+12.0", ""]
    more = [copy.deepcopy(run) for run in runs for _ in range(2)]
    for number, run in enumerate(more):
        run.settings = run.settings | {"seed": 3 + number % 4}
    assert aggregate_table([*runs, *more]).rows[0][8].startswith("+7.5 [")
    assert [row[8:] for row in table.rows[1:]] == [[""] * 3] * 2


@needs_report
def test_averages_over_tasks_of_different_numbers_of_seeds_are_of_all_of_them(runs):
    """The mean of the tasks' means: +15.0 of two seeds, and the gain of one."""
    more = _other_task(runs)
    table = aggregate_table([*runs, *more])
    (row,) = (row for row in table.rows if row[1] == "ratio 1")
    assert row[2:5] == ["2", "1 to 2", f"{(15.0 + more[0].results['gain']) / 2:+.1f}"] and row[5:8] == ["", "", ""]
    assert "medium, ratio 1: IQM and intervals, since its tasks have 1 to 2 seeds" in table.missing
    (row,) = aggregate_table(more).rows
    assert row[3] == "1" and (row[5], row[7]) == ("", "") and row[4] == row[6]


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
