"""The guard: which steps it holds out, what it accepts, and what a refused round leaves."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import assert_same_run, final_weights, stopped, wrap_stage
from hypothesis import example, given
from hypothesis import strategies as st

from doof_ext import pipeline
from doof_ext.algorithm import finetune_dynamics
from doof_ext.algorithm.guard import Attempt, GuardedData, Verdict, held_out_rows, objections, suspicions
from doof_ext.data.dataset import Dataset
from doof_ext.data.recipe import generate
from doof_ext.evaluation.model_error import ModelError
from doof_ext.tasks import get_spec


def _of_lengths(lengths):
    """Steps in episodes of these lengths."""
    total = sum(lengths)
    timeouts = np.zeros(total, bool)
    timeouts[np.cumsum(lengths) - 1] = True
    return Dataset(*(np.zeros((total, 1), np.float32) for _ in range(3)), np.zeros(total), ~timeouts & False, timeouts)


_lengths = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(_lengths)
@example([1, 10])  # as a first step that ends its episode, and one long episode after it
def test_a_tenth_at_least_and_half_at_most_is_held_out_in_whole_episodes_or_their_ends(lengths):
    held = held_out_rows(_of_lengths(lengths))
    assert 0.1 * len(held) <= held.sum() <= max(len(held) / 2, np.ceil(0.1 * len(held)))
    for episode in np.split(held, np.cumsum(lengths)[:-1]):
        assert not (episode[:-1] & ~episode[1:]).any()  # once held out, to the end


def test_of_thirty_episodes_of_ten_steps_every_tenth_is_held_out():
    held = held_out_rows(_of_lengths([10] * 30)).reshape(30, 10).sum(1)
    assert held.tolist() == [1, 1, 10, *[0] * 9, 10, *[0] * 9, 10, *[0] * 7]


@given(_lengths, _lengths)
def test_what_is_held_out_stays_held_out_when_a_round_adds_steps(first, more):
    before, after = held_out_rows(_of_lengths(first)), held_out_rows(_of_lengths(first + more))
    np.testing.assert_array_equal(before, after[: len(before)])


@pytest.fixture(scope="module")
def halves():
    """D and D_on of the hopper: uniform actions from two seeds."""
    return (generate(get_spec("hopper-random-v2"), steps=1500, seed=seed, processes=1) for seed in (1, 2))


@pytest.fixture(scope="module")
def recorded(halves):
    return dict(zip(("offline", "online"), halves, strict=True))


def _with(dataset, **columns):
    return dataclasses.replace(dataset, **columns)


def _stuck(online):
    columns = {name: getattr(online, name).copy() for name in ("observations", "next_observations")}
    for column in columns.values():
        column[:, 3] = 0.25
    return _with(online, **columns)


def _permuted(online):
    return _with(online, next_observations=np.random.default_rng(0).permutation(online.next_observations))


def _scaled(online):
    return _with(online, observations=10 * online.observations, next_observations=10 * online.next_observations)


def test_clean_steps_raise_no_suspicion(recorded):
    assert suspicions(recorded["online"], recorded["offline"]) == []
    behaved = generate(get_spec("hopper-medium-v2"), steps=1500, seed=2, processes=1)  # other actions, longer episodes
    assert suspicions(behaved, recorded["offline"]) == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_permuted, "do not lead to the observation of the step after them"),
        (_scaled, "begins D_on's episodes where none of D begins: other units?"),
        (_stuck, "observation 3 never changes in D_on: a stuck sensor?"),
    ],
)
def test_steps_that_nothing_should_be_learned_from_are_told(recorded, damage, said):
    assert any(said in line for line in suspicions(damage(recorded["online"]), recorded["offline"]))


@pytest.mark.parametrize("steps", [1, 2])
def test_steps_too_few_to_learn_from_and_to_be_judged_by_are_told(recorded, steps):
    columns = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")
    online = _with(recorded["online"], **{name: getattr(recorded["online"], name)[:steps] for name in columns})
    guarded = GuardedData(online, recorded["offline"], steps)
    assert f"D_on has {steps} steps, too few to learn from some and judge by others" in guarded.verdict().reasons


def test_what_counts_against_a_finetuned_dynamics():
    better, worse = ModelError(-2.0, 0.5, 0.9), ModelError(-1.0, 1.0, 0.7)
    slightly = ModelError(-0.96, 1.04, 0.7)
    assert objections((better, better), (worse, better)) == []
    assert objections((worse, slightly), (worse, better)) == []
    assert objections((worse, worse), (worse, worse)) == [
        "distance on held-out D_on 1 → 1, not lower",
        "NLL on held-out D_on -1 → -1, not lower",
    ]
    assert objections((better, worse), (worse, better)) == [
        "distance on held-out D 0.5 → 1, more than 5 % higher",
        "NLL on held-out D -2 → -1, more than 5 % higher",
    ]
    broken = ModelError(float("nan"), 1.0, 0.0)
    assert objections((better, better), (worse, broken)) == ["it predicts numbers that are not finite"]
    assert Attempt.judged(0.1, (better, worse), (worse, better)).reasons


def test_a_verdict_on_numbers_that_are_not_finite_is_json():
    broken = ModelError(float("nan"), float("inf"), 0.0)
    attempt = Attempt.judged(0.1, (broken, broken), (broken, broken))
    told = json.dumps(Verdict(attempt.reasons, [attempt], 5, broken).for_summary(), allow_nan=False)
    assert json.loads(told)["fresh"] == {"nll": None, "distance": None, "within_90": 0.0}


GUARDED = dict(
    guard="on", dataset_steps=2000, dynamics_epochs=8, finetune_dynamics_epochs=4, finetune_dynamics_steps=60,
    dynamics_lr=3e-3, online_steps=600,
)  # fmt: skip


def _summary(directory):
    with open(f"{directory}/result/summary.json") as file:
        return json.load(file)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3, 4, 5))])
def test_clean_online_data_are_accepted(settings, seed):
    summary, directory = pipeline.run(settings(**GUARDED, seed=seed))
    (verdict,) = summary["guard"]
    assert verdict["accepted"] and verdict["reasons"] == [] and _summary(directory)["guard"] == summary["guard"]
    attempt = verdict["attempts"][-1]
    assert attempt["online"]["after"]["nll"] < attempt["online"]["before"]["nll"]
    assert 60 <= verdict["held_out"] < 300
    assert "finetune_policy" in [stage["name"] for stage in summary["stages"]]


def _damaged(damage):
    return lambda collect: lambda *inputs: _replaced(collect(*inputs), damage)


def _replaced(collection, damage):
    return dataclasses.replace(collection, data=damage(collection.data))


def _in_other_unit(online):
    return _with(online, rewards=(1000 * online.rewards).astype(np.float32))


@pytest.mark.parametrize("damage", [_permuted, _scaled, _stuck, _in_other_unit])
def test_a_round_on_damaged_data_is_refused_and_the_pretrained_policy_comes_back(settings, monkeypatch, damage):
    wrap_stage(monkeypatch, "collect", _damaged(damage))
    _refused(*pipeline.run(settings(**GUARDED)))


def test_a_learning_rate_that_destroys_the_model_is_refused(settings, monkeypatch):
    class Destroying(finetune_dynamics.DynamicsFinetuner):
        def __init__(self, dynamics, lr):
            super().__init__(dynamics, 1000 * lr)

    monkeypatch.setattr(finetune_dynamics, "DynamicsFinetuner", Destroying)
    summary = _refused(*pipeline.run(settings(**GUARDED)))
    first, second = summary["guard"][0]["attempts"]
    assert second["lr"] == pytest.approx(first["lr"] / 3)
    for attempt in (first, second):  # the best weights came back: those of before, with other elites
        assert "no member became better: the weights are those of before" in attempt["reasons"]


def test_a_run_that_is_stopped_in_either_attempt_ends_as_if_it_had_not_been(settings, monkeypatch):
    first = GUARDED["dynamics_lr"]
    judged = Attempt.judged

    def only_the_second(lr, *errors):
        attempt = judged(lr, *errors)
        attempt.reasons = ["the first is refused here"] if lr == first else []
        return attempt

    monkeypatch.setattr(Attempt, "judged", only_the_second)
    summary, whole = pipeline.run(settings(**GUARDED))
    assert [attempt["reasons"] for attempt in summary["guard"][0]["attempts"]] == [["the first is refused here"], []]
    todo = settings(**GUARDED)
    for place in ("attempt 1", "attempt 2"):
        todo = stopped(monkeypatch, todo, f"finetune_dynamics.1/{place}", count=3)
    again, directory = pipeline.run(todo)
    assert again["guard"] == summary["guard"]
    assert_same_run(whole, directory)


def _refused(summary, directory):
    (verdict,) = summary["guard"]
    assert not verdict["accepted"] and verdict["reasons"]
    assert summary["gain"] == 0 and summary["scores"]["finetuned"] == summary["scores"]["pretrained"]
    assert [stage["name"] for stage in summary["stages"]][-1] == "keep_policy"
    pretrained = {
        f"{network}.pth": torch.load(f"{directory}/checkpoint/pretrained_{network}.pth", weights_only=True)
        for network in ("policy", "dynamics")
    }
    for network, weights in final_weights(directory).items():
        for name, tensor in weights.items():
            assert tensor.equal(pretrained[network][name]), name
    return summary
