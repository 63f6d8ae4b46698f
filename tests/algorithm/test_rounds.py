"""--rounds auto: how the online steps are split, when there is a further round, and that a stop changes nothing."""

import pytest
from conftest import assert_same_run, stopped, wrap_stage

from doof_ext import pipeline
from doof_ext.algorithm.guard import Verdict, against_another_round
from doof_ext.cli.exit_code import closing_table
from doof_ext.data.dataset import read_dataset
from doof_ext.evaluation.model_error import ModelError


@pytest.mark.parametrize(
    ("online_steps", "round_steps", "split"),
    [(10_000, None, [2500] * 4), (10_000, 3000, [3000, 3000, 4000]), (10, 10, [10]), (7, None, [2, 2, 3])],
)
def test_the_online_steps_are_split_over_the_rounds(tiny, online_steps, round_steps, split):
    config = tiny(rounds="auto", guard="on", online_steps=online_steps, round_steps=round_steps)
    assert [config.steps_of_round(round) for round in range(1, config.most_rounds + 1)] == split


def _verdict(distance, accepted=True):
    fresh = None if distance is None else ModelError(0.0, distance, 0.9)
    return Verdict([] if accepted else ["worse"], [], 5, fresh)


@pytest.mark.parametrize(
    ("verdicts", "against"),
    [
        ([_verdict(1.0)], None),
        ([_verdict(1.0, accepted=False)], "the last one was refused"),
        ([_verdict(1.0), _verdict(0.9)], None),
        ([_verdict(1.0), _verdict(1.0)], "distance on new steps 1 → 1, not lower"),
        ([_verdict(1.0), _verdict(0.9), _verdict(0.8, accepted=False)], "the last one was refused"),
        ([_verdict(1.0), _verdict(None, accepted=False)], "the last one was refused"),
    ],
)
def test_there_is_another_round_while_new_steps_are_predicted_better_and_the_guard_accepts(verdicts, against):
    assert against_another_round(verdicts) == against


AUTO = dict(
    rounds="auto", guard="on", dataset_steps=2000, dynamics_epochs=8, finetune_dynamics_epochs=4,
    finetune_dynamics_steps=60, dynamics_lr=3e-3, online_steps=400, round_steps=200,
)  # fmt: skip


def _told(monkeypatch, answers):
    given = iter(answers)
    monkeypatch.setattr("doof_ext.algorithm.doof.against_another_round", lambda verdicts: next(given))


def _stages(summary, name):
    return [stage for stage in summary["stages"] if stage["name"] == name]


def test_rounds_go_on_to_the_end_of_the_budget_or_until_they_are_not_worth_it(settings, monkeypatch):
    _told(monkeypatch, [None])
    summary, directory = pipeline.run(settings(**AUTO))
    assert [stage["env_steps"] for stage in _stages(summary, "collect")] == [200, 200]
    assert summary["rounds"] == 2 and summary["online_steps"] == 400
    assert len(read_dataset(f"{directory}/result/online_buffer.hdf5")) == 400  # D_on accumulates
    assert all(verdict["fresh"]["distance"] > 0 for verdict in summary["guard"])
    assert summary["rounds_ended_by"] is None
    _told(monkeypatch, ["no better"])
    summary, _ = pipeline.run(settings(**AUTO))
    assert summary["rounds_ended_by"] == "no better"
    assert "rounds: none after round 1, no better" in closing_table(summary)
    assert summary["rounds"] == len(_stages(summary, "collect")) == 1 and summary["online_steps"] == 200


def test_a_refused_round_is_the_last_one(settings, monkeypatch):
    wrap_stage(monkeypatch, "finetune_dynamics", lambda stage: lambda *inputs: _refusing(stage(*inputs)))
    summary, _ = pipeline.run(settings(**AUTO))
    assert summary["rounds_ended_by"] == "the last one was refused"
    assert summary["rounds"] == 1 and summary["gain"] == 0 and _stages(summary, "keep_policy")


def _refusing(refined):
    refined.verdict.reasons = ["refused here"]
    return refined


def test_a_run_of_automatic_rounds_that_is_stopped_ends_as_if_it_had_not_been(settings, monkeypatch):
    answers = [None]
    _told(monkeypatch, answers)
    summary, whole = pipeline.run(settings(**AUTO))
    todo = settings(**AUTO)
    for stage in ("collect", "finetune_dynamics", "finetune_policy"):
        _told(monkeypatch, answers)
        todo = stopped(monkeypatch, todo, f"{stage}.2")
    _told(monkeypatch, answers)
    again, directory = pipeline.run(todo)
    assert again["guard"] == summary["guard"] and again["rounds"] == 2
    assert_same_run(whole, directory)
