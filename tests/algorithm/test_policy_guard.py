"""Which of a stage's policies comes back, by which estimate, and with which weights: stage 5's guard, and stage 1."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import assert_same_run, final_weights, stopped

from doof_ext import pipeline
from doof_ext.algorithm.policy_guard import PolicyChoice, PolicyGuard
from doof_ext.algorithm.pretrain import make_selection, select_policy
from doof_ext.cli.exit_code import closing_table
from doof_ext.evaluation.model_return import ModelReturn
from doof_ext.evaluation.returns import Evaluation, StageScores, mean_of_last_10
from doof_ext.learning.policy_trainer import DOOFTrainer


class _Policy:
    """Whose state is the epoch."""

    state = 0

    def training_state(self):
        return {"epoch": self.state}

    def load_training_state(self, state):
        self.state = state["epoch"]


def _estimate(lower_bound):
    """Of elites whose mean and whose least are the other way round: the higher their lower bound, the lower both."""
    nothing = np.zeros(4)
    away = 1000.0 - 100.0 * lower_bound  # of the first elite from three that agree
    mean, spread = away / 4, away * 3**0.5 / 4
    return ModelReturn(np.array([away, 0.0, 0.0, 0.0]) + lower_bound - mean + spread, nothing, nothing, nothing)


def _scores(means):
    scores = StageScores()
    for mean in means:
        scores.add(Evaluation([mean], [1], mean, 0.0))
    return scores


def _watched(before, means, epochs, estimates=None):
    """A guard that has seen a stage's epochs, the policy and the scores at their end."""
    by = "evaluations" if before else None if estimates is None else "model_lower_bound"
    estimate = None if estimates is None else _estimate(estimates[0])
    guard = PolicyGuard.of_stage_5(by, epochs, _scores(before), estimate)
    policy, scores = _Policy(), StageScores()
    for epoch in range(1, epochs + 1):
        policy.state = epoch
        if means:
            scores.add(Evaluation([means[epoch - 1]], [1], means[epoch - 1], 0.0))
        guard.consider(epoch, policy, scores, None if estimates is None else _estimate(estimates[epoch]))
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


def test_without_evaluations_the_lower_bound_of_the_elites_decides_and_what_diverges_never_does():
    nan = float("nan")
    guard, policy, scores = _watched([], [], 4, [3.0, 2.0, nan, 7.0, 5.0])
    assert (guard.choice.by, guard.choice.epoch) == ("model_lower_bound", 3)
    assert guard.choice.chosen == pytest.approx(7.0) and _estimate(7.0).returns.mean() < _estimate(3.0).returns.mean()
    assert _watched([], [], 2, [nan, nan, nan])[0].choice.epoch == 0
    assert _watched([], [], 2, [nan, 1.0, nan])[0].choice.epoch == 1
    guard.restore(policy, scores)
    assert policy.state == 3


def test_with_nothing_to_judge_by_it_is_the_last_one():
    assert (choice := _watched([], [], 4)[0].choice).epoch == 4 and choice.by is None


def test_of_a_stage_that_a_version_without_the_guard_has_completed_it_knows_nothing():
    guard = PolicyGuard("evaluations", 3, 4.0)
    assert not guard.has_observed
    guard.load_state_dict(_watched([4.0], [1.0, 1.0, 9.0], 3)[0].state_dict())
    assert guard.has_observed and guard.choice.epoch == 0


def test_stage_1_has_no_policy_before_it_and_what_the_model_chose_is_scored_by_its_own_evaluation():
    nan = float("nan")
    guard, policy, scores = _watched_in_stage_1([30.0, 50.0, 10.0, 20.0], [nan, 7.0, 9.0, 8.0])
    assert guard.choice == PolicyChoice("model_lower_bound", 3, 4, None, pytest.approx(9.0), pytest.approx(8.0))
    assert select_policy(guard, policy, scores) == guard.choice
    assert policy.state == 3 and scores.means == [10.0] and scores.last_10 == scores.last.mean == scores.best == 10.0
    guard, policy, scores = _watched_in_stage_1([30.0, 50.0], [nan, nan])
    assert select_policy(guard, policy, scores).epoch == 0
    assert policy.state == 2 and scores.means == [30.0, 50.0]


def _watched_in_stage_1(means, estimates):
    guard = make_selection("model_return", len(means))
    policy, scores = _Policy(), StageScores()
    for epoch, (mean, estimate) in enumerate(zip(means, estimates, strict=True), start=1):
        policy.state = epoch
        scores.add(Evaluation([mean], [1], mean, 0.0))
        guard.consider(epoch, policy, scores, _estimate(estimate))
    return guard, policy, scores


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
    assert choice["by"] == ("evaluations" if eval_episodes else "model_lower_bound")
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


SELECTED = dict(policy_selection="model_return", epoch=6, finetune_epochs=3, eval_episodes=2, final_episodes=1)


def test_stage_1_returns_the_policy_that_is_worth_most_in_the_model_whole_or_resumed(settings, monkeypatch):
    seen = {}
    consider = PolicyGuard.consider

    def told(self, epoch, policy, scores, estimate):
        """In stage 1 the third epoch's return is the highest; those of stage 5 are what they are."""
        if not seen or self._before is None:
            estimate = dataclasses.replace(estimate, returns=np.full(2, 100.0 if epoch == 3 else epoch / 10))
            seen[epoch] = {name: tensor.clone() for name, tensor in policy.state_dict().items()}, scores.last.mean
        consider(self, epoch, policy, scores, estimate)

    monkeypatch.setattr(PolicyGuard, "consider", told)
    summary, whole = pipeline.run(settings(**SELECTED))
    weights, score = seen[3]
    assert summary["policy_choice"] == [
        dict(round=0, by="model_lower_bound", epoch=3, epochs=6, before=None, chosen=100.0, last=0.6)
    ]
    for name, tensor in torch.load(f"{whole}/checkpoint/pretrained_policy.pth", weights_only=True).items():
        assert tensor.equal(weights[name]), name
    pretrained = summary["scores"]["pretrained"]
    assert pretrained["last_10"] == pretrained["best"] == score
    todo = settings(**SELECTED)
    for count in (4, 1):  # after the epoch that is chosen, and in the one after that
        todo = stopped(monkeypatch, todo, "pretrain.1/policy", count, after="after_epoch")
    again, directory = pipeline.run(todo)
    assert again["policy_choice"] == summary["policy_choice"]
    assert_same_run(whole, directory)


def test_where_the_model_selects_it_selects_stage_5s_policy_too_whatever_was_evaluated(settings):
    summary, _ = pipeline.run(settings(**SELECTED, control="extra-training", guard="on"))
    first, second = summary["policy_choice"]
    assert (first["round"], second["round"]) == (0, 1) and first["by"] == second["by"] == "model_lower_bound"
    assert second["before"] == first["chosen"]  # in the same dynamics, from the same states
    assert summary["horizon"] == 1000
    by = "return in the model, elites' mean less their spread"
    assert f"stage 1 returns the policy of epoch {first['epoch']} of 6 ({by}: " in closing_table(summary)
    diverged = {**first, "epoch": 0, "chosen": None, "last": None}
    told = closing_table(summary | {"policy_choice": [diverged]})
    assert f"stage 1 returns the last policy ({by}: - chosen, - at the end)" in told
