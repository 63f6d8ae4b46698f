"""--exploration-ratio auto: which ratio is chosen in the model, and that nothing real is touched for it."""

import csv
import math

import numpy as np
import pytest
import torch
from conftest import assert_same_run, stopped

from doof_ext import pipeline
from doof_ext.algorithm import choose_ratio as module
from doof_ext.algorithm import doof
from doof_ext.algorithm.policy_guard import WithinFloor
from doof_ext.config.settings import RATIOS
from doof_ext.evaluation.model_return import ModelReturn, ModelReturns
from doof_ext.tasks.interaction import step_env

AUTO = dict(exploration_ratio="auto", exploration_coef=None, explore_epochs=4)


def _returns(uncertainty, least):
    return ModelReturn(*np.array([[least, least + 5.0], [0.0, 0.0], [4 * uncertainty] * 2, [4.0, 4.0]]))


@pytest.fixture
def estimated(monkeypatch):
    """Has the model estimate π_off first and then each ratio's policy as the test says: (u, least return)."""

    def of(*figures):
        found = iter(figures)
        monkeypatch.setattr(ModelReturns, "__call__", lambda self, policy, dynamics: _returns(*next(found)))

    return of


@pytest.fixture
def choose(settings, monkeypatch):
    """Runs until the ratio is chosen."""

    class Chosen(Exception):
        pass

    def run(**overrides):
        found = []

        def kept(self, stage, result):
            if stage == "choose_ratio":
                found.append(result)
                raise Chosen

        monkeypatch.setattr("doof_ext.experiment.experiment.Experiment.keep", kept)
        with pytest.raises(Chosen):
            pipeline.run(settings(**AUTO, **overrides))
        return found[0]

    return run


@pytest.mark.parametrize(
    ("base", "drop", "least", "ratio"),
    [
        (10.0, 0.5, [9.0, 6.0, 5.1, 4.9], 1.0),  # the most u of those that keep half
        (10.0, 0.2, [9.0, 6.0, 5.1, 4.9], 0.25),
        (10.0, 0.5, [4.0, 4.0, 4.0, 4.0], 0.0),  # none: the pretrained policy collects
        (-10.0, 0.5, [-30.0, -19.0, -21.0, -21.0], 0.5),  # half the reward, twice the cost
        (10.0, 0.5, [math.nan, math.nan, 8.0, math.nan], 1.0),  # an elite diverged
    ],
)
def test_the_most_uncertain_policy_of_those_that_lose_little_is_chosen(choose, estimated, base, drop, least, ratio):
    stage_1 = [(0.0, 0.0)] * 2  # its epochs are estimated, too
    estimated(*stage_1, (0.1, base), *((0.2 * (i + 1), value) for i, value in enumerate(least)))
    choice = choose(max_return_drop=drop)
    assert choice.ratio == ratio
    assert [one.ratio for one in choice.candidates] == [0.0, *RATIOS]
    assert [one.uncertainty for one in choice.candidates[1:]] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert choice.gradient_steps == 4 * 1 * 4


def test_it_is_decided_before_a_real_step_and_the_rest_is_the_run_at_that_ratio(settings, monkeypatch):
    """The same weights as with the ratio given; no environment step while candidates are trained, no row of a curve."""
    steps, during = [], []
    choose_ratio = module.choose_ratio

    def counted(*inputs):
        before = len(steps)
        result = choose_ratio(*inputs)
        during.append(len(steps) - before)
        return result

    counted.__name__ = "choose_ratio"
    monkeypatch.setattr("doof_ext.algorithm.doof.choose_ratio", counted)
    for place in ("doof_ext.algorithm.collect.step_env", "doof_ext.evaluation.returns.step_env"):
        monkeypatch.setattr(place, lambda *inputs: (steps.append(1), step_env(*inputs))[1])
    summary, directory = pipeline.run(settings(**AUTO, max_return_drop=0.99))
    (choice,) = summary["ratio_choice"]
    assert during == [0] and len(choice["candidates"]) == 5 and choice["epoch"] == 4
    chosen = [one for one in choice["candidates"] if one["ratio"] == choice["ratio"]]
    allowed = [one for one in choice["candidates"][1:] if one["allowed"]]
    assert chosen[0]["uncertainty"] == max(one["uncertainty"] for one in allowed or chosen)
    assert summary["exploration_ratio"] == choice["ratio"] and "exploration_ratio=auto" in directory
    fixed, other = pipeline.run(settings(exploration_ratio=choice["ratio"], explore_epochs=4))
    assert_same_run(directory, other)
    curves = [_stages(path) for path in (directory, other)]
    assert curves[0] == curves[1] and fixed["ratio_choice"] == []


def _stages(directory):
    with open(f"{directory}/record/policy_training_progress.csv") as file:
        return [(row["stage"], row["timestep"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("least", "epoch"), [([9.0, 3.0, 5.1, 4.9], 3), ([9.0] * 4, 4), ([math.nan, 1.0, 2.0, 4.9], 0)]
)
def test_who_collects_is_above_the_floor_too(settings, monkeypatch, least, epoch):
    """The tries are shorter than stage 2, in which a policy may come to lose more."""
    judged, estimates = [], iter([0.0] * 2 + [10.0] + [9.0] * 4 + least)

    def estimate(self, policy, dynamics):
        judged.append({name: value.clone() for name, value in policy.state_dict().items()})
        return _returns(0.5, next(estimates, 0.0))

    found = []
    collect = doof.collect

    def spied(ctx, policy, *inputs):
        found.append(policy)
        return collect(ctx, policy, *inputs)

    spied.__name__ = "collect"
    monkeypatch.setattr(ModelReturns, "__call__", estimate)
    monkeypatch.setattr(doof, "collect", spied)
    summary, _ = pipeline.run(settings(**AUTO))
    assert summary["ratio_choice"][0]["epoch"] == epoch
    expected = judged[7 + epoch - 1] if epoch else judged[2]
    for name, value in found[0].state_dict().items():
        assert torch.equal(value, expected[name]), name
    (stage,) = (stage for stage in summary["stages"] if stage["name"] == "explore")
    assert stage["gradient_steps"] == 16
    assert (summary["scores"]["exploration"] == summary["scores"]["pretrained"]) == (epoch == 0)


def test_a_run_stopped_in_stage_2_remembers_who_was_above_the_floor(settings, monkeypatch):
    """The first epoch alone is, and the run is stopped in the third."""
    consider = WithinFloor.consider

    def judged(self, epoch, policy, scores, estimate):
        consider(self, epoch, policy, scores, _returns(0.5, self.floor + (1.0 if epoch == 1 else -1.0)))

    monkeypatch.setattr(WithinFloor, "consider", judged)
    todo = settings(**AUTO, max_return_drop=0.99)
    summary, whole = pipeline.run(todo)
    assert summary["ratio_choice"][0]["epoch"] == 1
    again, directory = pipeline.run(stopped(monkeypatch, todo, "explore.1", count=10))
    assert again["ratio_choice"] == summary["ratio_choice"]
    assert_same_run(whole, directory)


def test_a_run_stopped_among_the_candidates_ends_as_if_it_had_not_been(settings, monkeypatch):
    summary, whole = pipeline.run(settings(**AUTO))
    todo = settings(**AUTO)
    for place in ("choose_ratio.1/ratio 0.5", "choose_ratio.1/ratio 2"):
        todo = stopped(monkeypatch, todo, place)
    again, directory = pipeline.run(todo)
    assert again["ratio_choice"] == summary["ratio_choice"]
    assert_same_run(whole, directory)
