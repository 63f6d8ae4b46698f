"""The guard of the policy: which of stage 5's policies comes back, by which estimate, and with which weights."""

import json

import pytest
import torch
from conftest import assert_same_run, final_weights, stopped

from doof_ext import pipeline
from doof_ext.algorithm.policy_guard import PolicyGuard
from doof_ext.evaluation.returns import Evaluation, StageScores, mean_of_last_10
from doof_ext.learning.policy_trainer import DOOFTrainer


class _Policy:
    """Whose state is the epoch."""

    state = 0

    def training_state(self):
        return {"epoch": self.state}

    def load_training_state(self, state):
        self.state = state["epoch"]


class _Estimate:
    def __init__(self, least):
        self.pessimistic = least


def _scores(means):
    scores = StageScores()
    for mean in means:
        scores.add(Evaluation([mean], [1], mean, 0.0))
    return scores


def _watched(before, means, epochs, estimates=None):
    """A guard that has seen a stage's epochs, the policy and the scores at their end."""
    guard = PolicyGuard(_scores(before), None if estimates is None else _Estimate(estimates[0]), epochs)
    policy, scores = _Policy(), StageScores()
    for epoch in range(1, epochs + 1):
        policy.state = epoch
        if means:
            scores.add(Evaluation([means[epoch - 1]], [1], means[epoch - 1], 0.0))
        guard.consider(epoch, policy, scores, None if estimates is None else _Estimate(estimates[epoch]))
    return guard, policy, scores


def test_by_evaluations_the_best_mean_of_ten_is_returned_and_not_the_best_single_one():
    means = [0.0, 30.0, *[5.0] * 10, *[12.0] * 10, *[1.0] * 5]
    guard, policy, scores = _watched([4.0] * 12, means, len(means))
    best = max(range(10, len(means) + 1), key=lambda epoch: mean_of_last_10(means[:epoch]))
    assert (guard.choice.epoch, guard.choice.chosen) == (best, mean_of_last_10(means[:best])) == (22, 12.0)
    assert (guard.choice.before, guard.choice.last, guard.choice.by) == (4.0, 6.5, "evaluations")
    guard.restore(policy, scores)
    assert policy.state == 22 and scores.means == means[:22] and scores.last.mean == 12.0


def test_a_stage_of_less_than_ten_epochs_is_judged_at_its_end():
    assert _watched([4.0], [9.0, 1.0, 1.0], 3)[0].choice.epoch == 0
    assert _watched([4.0], [1.0, 9.0, 9.0], 3)[0].choice.epoch == 3


def test_where_none_is_better_it_is_the_policy_before():
    guard, _, _ = _watched([4.0] * 10, [4.0] * 20, 20)
    assert guard.choice.epoch == 0 and guard.choice.chosen == guard.choice.before == 4.0


def test_without_evaluations_the_least_elites_return_decides_and_what_diverges_never_does():
    nan = float("nan")
    guard, policy, scores = _watched([], [], 4, [3.0, 2.0, nan, 7.0, 5.0])
    assert (guard.choice.by, guard.choice.epoch, guard.choice.chosen) == ("model_return", 3, 7.0)
    assert _watched([], [], 2, [nan, nan, nan])[0].choice.epoch == 0
    assert _watched([], [], 2, [nan, 1.0, nan])[0].choice.epoch == 1
    guard.restore(policy, scores)
    assert policy.state == 3


def test_with_nothing_to_judge_by_it_is_the_last_one():
    assert (choice := _watched([], [], 4)[0].choice).epoch == 4 and choice.by is None


def test_of_a_stage_that_a_version_without_the_guard_has_completed_it_knows_nothing():
    guard = PolicyGuard(_scores([4.0]), None, 3)
    assert not guard.has_observed
    guard.load_state_dict(_watched([4.0], [1.0, 1.0, 9.0], 3)[0].state_dict())
    assert guard.has_observed and guard.choice.epoch == 0


SHORT = dict(guard="on", epoch=3, finetune_epochs=12, dynamics_lr=3e-3, finetune_dynamics_epochs=4, dynamics_epochs=8,
             finetune_dynamics_steps=60, dataset_steps=2000, online_steps=300)  # fmt: skip


@pytest.fixture
def evaluated(monkeypatch):
    """Evaluations that come to what the test says, epoch by epoch of stage 5; 10 in the other stages."""
    means = {}
    consider = PolicyGuard.consider

    def told(self, epoch, policy, scores, estimate):
        scores.means[-1] = scores.last.mean = means[epoch]
        seen[epoch] = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
        consider(self, epoch, policy, scores, estimate)

    seen = {}
    monkeypatch.setattr(PolicyGuard, "consider", told)
    return means, seen


@pytest.mark.parametrize("control", [None, "no-online-data", "extra-training"])
def test_the_weights_of_the_chosen_epoch_are_the_runs_in_every_arm(settings, evaluated, control):
    means, seen = evaluated
    means |= {epoch: 500.0 if 2 <= epoch <= 11 else -500.0 for epoch in range(1, 13)}
    summary, directory = pipeline.run(settings(**SHORT, control=control))
    (choice,) = summary["policy_choice"]
    assert (choice["round"], choice["epoch"], choice["epochs"], choice["by"]) == (1, 11, 12, "evaluations")
    assert choice["chosen"] == 500.0 == summary["scores"]["finetuned"]["last_10"]
    for name, tensor in final_weights(directory)["policy.pth"].items():
        assert tensor.equal(seen[11][name]), name
    assert any(not tensor.equal(seen[12][name]) for name, tensor in seen[11].items())


def test_a_policy_that_got_worse_gives_way_to_the_very_pretrained_one(settings, evaluated):
    evaluated[0].update(dict.fromkeys(range(1, 13), -500.0))
    summary, directory = pipeline.run(settings(**SHORT))
    assert summary["policy_choice"][0]["epoch"] == 0 and summary["guard"][0]["accepted"]
    assert summary["gain"] == 0 and summary["scores"]["finetuned"] == summary["scores"]["pretrained"]
    pretrained = torch.load(f"{directory}/checkpoint/pretrained_policy.pth", weights_only=True)
    for name, tensor in final_weights(directory)["policy.pth"].items():
        assert tensor.equal(pretrained[name]), name


@pytest.mark.parametrize("eval_episodes", [1, 0])
def test_a_run_stopped_in_the_guarded_stage_chooses_as_if_it_had_not_been(settings, monkeypatch, eval_episodes):
    """Stopped after the epoch that is chosen, so that the choice itself comes out of the checkpoint."""
    guarded = dict(SHORT, eval_episodes=eval_episodes)
    summary, whole = pipeline.run(settings(**guarded))
    (choice,) = summary["policy_choice"]
    assert choice["by"] == ("evaluations" if eval_episodes else "model_return")
    todo = settings(**guarded)
    for count in (11, 1):  # in two epochs, one after the other
        todo = stopped(monkeypatch, todo, "finetune_policy.1", count, after="after_epoch")
    again, directory = pipeline.run(todo)
    assert again["policy_choice"] == summary["policy_choice"]
    assert_same_run(whole, directory)
    with open(f"{directory}/result/summary.json") as file:
        assert json.load(file)["policy_choice"] == summary["policy_choice"]


def test_without_the_guard_the_last_policy_comes_back(settings, monkeypatch):
    trained = []
    train = DOOFTrainer.train
    monkeypatch.setattr(DOOFTrainer, "train", lambda self: (train(self), trained.append(self.policy))[0])
    summary, directory = pipeline.run(settings())
    assert summary["policy_choice"] == []
    for name, tensor in final_weights(directory)["policy.pth"].items():
        assert tensor.equal(trained[-1].state_dict()[name])
