"""The three policies once more at the end: the same starts for all, counted as no online steps, and resumable."""

import signal

import numpy as np
import pytest
from conftest import assert_same_run, resumed

from doof_ext import pipeline
from doof_ext.algorithm import final_evaluation as stage
from doof_ext.algorithm.final_evaluation import final_evaluation
from doof_ext.checkpointing.training_state import TrainingState
from doof_ext.errors import Interrupted
from doof_ext.evaluation.returns import run_episodes


class _Leaning:
    """Mean actions that depend on the observation."""

    def __init__(self, gain):
        self.gain = gain

    def select_action(self, obs, deterministic):
        assert deterministic
        return np.tanh(np.asarray(obs, np.float32)[:, 1:4] * self.gain)


@pytest.fixture
def runs(monkeypatch):
    """(policy, seeds) of every block of episodes."""
    found = []

    def spied(policy, env, seeds):
        found.append((policy, list(seeds)))
        return run_episodes(policy, env, seeds)

    monkeypatch.setattr(stage, "run_episodes", spied)
    return found


def test_all_policies_start_alike_and_one_that_is_there_twice_runs_once(context, env, logger, runs):
    leaning, falling = _Leaning(3.0), _Leaning(-3.0)
    policies = {"pretrained": leaning, "exploration": leaning, "finetuned": falling}
    result = final_evaluation(context(final_episodes=13), policies)
    found = result.evaluations
    assert list(found) == list(policies) and found["exploration"] is found["pretrained"] and result.steps == {}
    blocks = [(policy, len(seeds)) for policy, seeds in runs]
    assert blocks == [(leaning, 10), (leaning, 3), (falling, 10), (falling, 3)]
    seeds = runs[0][1] + runs[1][1]
    assert seeds == runs[2][1] + runs[3][1] and len(set(seeds)) == 13
    for name in ("pretrained", "finetuned"):
        assert (found[name].returns, found[name].lengths) == run_episodes(policies[name], env, seeds)
        score = env.get_normalized_score(np.mean(found[name].returns))
        assert found[name].mean == pytest.approx(100 * score)
    assert found["pretrained"].returns != found["finetuned"].returns
    lines = [line.partition(":")[0] for line in logger.lines]
    assert lines == ["final evaluation, pretrained", "final evaluation, finetuned"]


def test_every_arm_and_round_has_the_starts_of_its_seed(context, runs):
    policies = {"pretrained": _Leaning(3.0)}
    for settings in (dict(), dict(rounds=2), dict(control="extra-training"), dict(seed=2)):
        final_evaluation(context(final_episodes=3, **settings), policies)
    first, *same, other = (seeds for _, seeds in runs)
    assert same == [first, first] and not set(first) & set(other)


def test_it_is_in_the_summary_and_no_step_of_it_is_an_online_step(settings):
    summary, _ = pipeline.run(settings(final_episodes=4))
    assert [stage["name"] for stage in summary["stages"]][-1] == "final_evaluation"
    assert summary["stages"][-1]["gradient_steps"] == summary["stages"][-1]["env_steps"] == 0
    assert summary["online_steps"] == 50
    for score in summary["scores"].values():
        assert set(score["final"]) == {"mean", "std", "episodes"} and score["final"]["episodes"] == 4
    without, _ = pipeline.run(settings(final_episodes=0))
    assert all(score["final"] is None for score in without["scores"].values()) and len(without["stages"]) == 5
    for name, score in without["scores"].items():  # it changes nothing else
        assert score == summary["scores"][name] | {"final": None}


def test_a_run_that_is_stopped_after_each_block_of_it_ends_as_if_it_had_not_been(settings, runs, monkeypatch):
    """15 episodes of each policy are two blocks: a stop is in the middle of a policy's, or at its end."""
    summary, whole = pipeline.run(settings(final_episodes=15))
    assert summary["scores"]["finetuned"]["final"]["episodes"] == 15
    assert [len(seeds) for _, seeds in runs] == [10, 5, 10, 5, 10, 5]
    after_step = TrainingState.after_step

    def stopping(self):
        if self._stage.startswith("final_evaluation"):
            self._signals.received = signal.SIGTERM
        after_step(self)

    todo = settings(final_episodes=15)
    runs.clear()
    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "after_step", stopping)
        for _ in range(6):
            with pytest.raises(Interrupted) as caught:
                pipeline.run(todo)
            todo = resumed(caught.value.run_directory)
    pipeline.run(todo)
    assert [len(seeds) for _, seeds in runs] == [10, 5, 10, 5, 10, 5]  # none twice
    assert_same_run(whole, caught.value.run_directory)
