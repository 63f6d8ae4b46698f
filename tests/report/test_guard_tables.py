"""The page's section on the guard, against numbers put into summaries by hand."""

import copy

import pytest
from conftest import needs_report

from doof_ext.report.guard_tables import dynamics_table, estimates_table, guard_tables, policy_table, ratio_table
from doof_ext.report.page import _page
from doof_ext.report.runs import find_runs


def _error(nll, distance, within):
    return {"nll": nll, "distance": distance, "within_90": within}


@pytest.fixture
def run(runs_folder):
    """A run with two rounds of the guard: the first accepted in a second attempt, the second one's D_on refused."""
    run = copy.deepcopy(next(run for run in find_runs([runs_folder]) if run.rounds == 2))
    online = {"before": _error(1.0, 2.0, 0.5), "after": _error(0.5, 1.25, 0.875)}
    offline = {"before": _error(-1.0, 0.5, 0.9), "after": _error(-0.99, 0.51, 0.9)}
    tried = {"offline": None, "online": None, "lr": 0.001, "reasons": ["diverged"]}
    run.summary["guard"] = [
        {
            "accepted": True,
            "reasons": [],
            "held_out": 50,
            "fresh": _error(1.0, 2.5, 0.4),
            "attempts": [tried, {"offline": offline, "online": online, "lr": 0.001 / 3, "reasons": []}],
        },
        {"accepted": False, "reasons": ["a stuck sensor"], "held_out": 60, "fresh": None, "attempts": []},
    ]
    chosen = {"by": "evaluations", "epochs": 3, "before": 1.5, "last": 0.5}
    run.summary["policy_choice"] = [
        {**chosen, "round": 0, "epoch": 3, "by": "model_return", "before": None, "chosen": 2.5},
        {**chosen, "round": 1, "epoch": 2, "chosen": 4.25},
        {**chosen, "round": 2, "epoch": 0, "by": "model_return", "chosen": 1.5},
    ]
    for name, mean in (("pretrained", 3.0), ("finetuned", 4.0)):
        run.summary["scores"][name]["final"] = {"mean": mean, "std": 1.0, "episodes": 100}
    pi_off = {"ratio": 0.0, "uncertainty": 0.1, "pessimistic": 8.0, "allowed": True}
    lost = {"ratio": 2.0, "uncertainty": 0.1, "pessimistic": None, "allowed": False}
    run.summary["ratio_choice"] = [
        {"ratio": 0.5, "floor": 4.0, "candidates": [pi_off, {**pi_off, "ratio": 0.5, "uncertainty": 0.2}]},
        {"ratio": 0.0, "floor": 4.0, "candidates": [pi_off, lost]},
    ]  # fmt: skip
    return run


def test_every_attempt_and_every_refusal_is_listed(run):
    rows = [row[3:] for row in dynamics_table([run]).rows]
    none = [""] * 5
    assert rows == [
        ["1", "0.001", "2.5", *none, "refused: diverged"],
        ["1", "0.00033", "2.5", "2 → 1.25", "1 → 0.5", "0.5 → 0.51", "-1 → -0.99", "50 % → 88 %", "accepted"],
        ["2", "", "", *none, "refused: a stuck sensor"],
    ]


def test_the_policies_that_came_back_with_the_truth_where_it_is_of_the_same_policy(run):
    assert [row[3:] for row in policy_table([run]).rows] == [
        ["0", "3 of 3", "model return", "", "2.5", "0.5", "", "3.0"],
        ["1", "2 of 3", "evaluations", "1.5", "4.25", "0.5", "3.0", ""],
        ["2", "the one before the stage", "model return", "1.5", "1.5", "0.5", "", "4.0"],
    ]


def test_a_stage_1_whose_estimates_all_diverged_returned_the_last_policy(run):
    run.summary["policy_choice"] = [{**run.summary["policy_choice"][0], "epoch": 0, "chosen": None, "last": None}]
    assert [row[3:] for row in policy_table([run]).rows] == [["0", "the last", "model return", "", "", "", "", "3.0"]]


def test_the_ratios_that_were_tried_with_the_chosen_one_in_bold(run):
    table = ratio_table([run])
    assert [row[3:] for row in table.rows] == [
        ["1", "0", "0.1", "8", ""],
        ["1", "0.5", "0.2", "8", ""],
        ["2", "0", "0.1", "8", ""],
        ["2", "2", "0.1", "", "below 4"],
    ]
    assert table.best == {(1, 4), (2, 4)}


def test_estimates_are_ranked_by_the_evaluations_that_follow(run):
    row = {"stage": 5.0, "round": 1.0, "timestep": 1.0}
    kinds = ("", "_lower_bound", "_pessimistic", "_penalised_mean")
    names = [f"eval/model_return{kind}" for kind in kinds]
    run.curve = [
        row | {"eval/normalized_episode_reward": score, "eval/model_return_penalised_pessimistic": 1.0}
        | dict(zip(names, (score + 9, -score, -score, epoch), strict=True))
        for epoch, score in enumerate([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    ]  # fmt: skip
    one, all_runs = estimates_table([run]).rows[0], estimates_table([run, run]).rows[-1]
    assert one[3:] == ["4", "+1.00", "+1.00", "+1.00", "-1.00", "-1.00", "+1.00", ""]
    assert all_runs == ["all", "", "", "2", "+1.00", "+1.00", "+1.00", "-1.00", "-1.00", "+1.00", ""]
    run.curve = run.curve[:5]
    assert not estimates_table([run]).rows and "6 epochs" in estimates_table([run]).missing


@needs_report
def test_the_page_has_a_section_on_the_guard(run):
    for guarded, shown in ((run, "refused: a stuck sensor"), (None, "Nothing: no run here had")):
        runs = [guarded] if guarded else []
        text = _page(runs, [], [], guard_tables(runs))
        assert shown in text[text.index('id="guard"') : text.index('<section id="figures">')]
