"""Limits in collection: what each does, alone, in a run and in a session; and that there are none by default."""

import itertools
import random

import numpy as np
import pytest
from conftest import assert_same_run, resumed

import doof_ext
from doof_ext import data, pipeline
from doof_ext.algorithm.collect import OnlineCollector
from doof_ext.algorithm.limits import LimitedCollection, Limits, return_floor
from doof_ext.data.journal import OnlineJournal
from doof_ext.errors import RunStoppedError, StoppedAfter, UserError
from doof_ext.tasks.interaction import reset_env


class Leaning:
    """A policy that depends on the observation alone."""

    def __init__(self, gain):
        self.gain = np.float32(gain)

    def select_action(self, obs, deterministic):
        return np.tanh(np.asarray(obs, np.float32)[:, 5:8] * self.gain + np.float32(0.1))


def _falls(observation, action, next_observation):
    """A stop rule: whether the torso or a joint has turned a little."""
    return abs(next_observation[1:5]).max() > 0.1


def _many(observation, action, next_observation):
    """No stop rule."""
    return next_observation > 0


def _constant(value):
    return lambda observation, seed: np.array([value], np.float32)


def _play(limits, returns, steps=2):
    """(Which policy takes each episode, the report), where the episodes have these returns."""
    collection, who = LimitedCollection(limits), []
    for total in returns:
        for step in range(steps):
            action = collection.act(_constant(1), _constant(0), np.zeros(1), step == 0, None)
            last = step == steps - 1
            row = {"rewards": total / steps, "terminals": False, "truncated": last, "starts": step == 0}
            collection.took(row | collection.columns(np.zeros(1), action, np.zeros(1), last) | {"actions": action})
        who.append(int(action[0]))
    return who, collection.report()


@pytest.mark.parametrize(
    ("share", "who"),
    [
        (0.0, [0] * 10),
        (1.0, [1] * 10),
        (0.5, [0, 1] * 5),
        (0.25, [0, 0, 0, 1, 0, 0, 0, 1, 0, 0]),
        (0.7, [0, 1, 1, 0, 1, 1, 0, 1, 1, 1]),
    ],
)
def test_a_share_of_the_episodes_is_the_exploration_policys(share, who):
    found, report = _play(Limits(explore_share=share), [1.0] * 10)
    assert found == who
    assert report["episodes"] == {"pretrained": 10 - sum(who), "exploration": sum(who)}
    assert report["steps"] == {"pretrained": 20 - 2 * sum(who), "exploration": 2 * sum(who)}


def test_below_the_floor_the_pretrained_policy_takes_the_rest():
    found, report = _play(Limits(floor=5.0), [8, 4, 2, 100, 100])  # means 8, 6, 4.67
    assert found == [1, 1, 1, 0, 0]
    assert report["fell_below_after"] == 6 and report["return_floor"] == 5
    assert report["exploration_return"] == pytest.approx(14 / 3)
    assert _play(Limits(floor=5.0), [8, 4, 3, 100])[0] == [1, 1, 1, 1]  # a mean of 5 is not below it


def test_the_pretrained_policys_episodes_do_not_count_against_the_floor():
    assert _play(Limits(floor=5.0, explore_share=0.5), [-9, 6, -9, 4, 6, 6, -9, 6])[0] == [0, 1] * 4


@pytest.mark.parametrize(
    ("base", "part", "floor"), [(100, 0.5, 50), (-100, 0.5, -200), (-100, 1, -100), (100, 1, 100), (0, 0.5, 0)]
)
def test_a_part_of_a_negative_return_is_that_many_times_the_cost(base, part, floor):
    assert return_floor(base, part) == floor


def test_an_action_changes_by_no_more_than_the_limit():
    collection, taken = LimitedCollection(Limits(max_action_change=(0.5, 0.1))), []
    for step, wanted in enumerate(np.array([[1, -1], [-1, 1], [-1, -1], [0.2, 0]], np.float32)):
        starts = step in (0, 3)
        action = collection.act(lambda obs, seed, wanted=wanted: wanted, None, np.zeros(1), starts, None)
        row = {"rewards": 0.0, "terminals": False, "truncated": False, "starts": starts, "actions": action}
        collection.took(row | collection.columns(np.zeros(1), action, np.zeros(1), False))
        taken.append(action)
    np.testing.assert_allclose(taken, [[1, -1], [0.5, -0.9], [0.0, -1.0], [0.2, 0]], atol=1e-7)
    assert collection.report()["actions_limited"] == 2


def test_an_action_that_is_not_finite_is_not_made_finite():
    collection = LimitedCollection(Limits(max_action_change=(0.5,)))
    assert np.isinf(collection.act(_constant(np.inf), None, np.zeros(1), False, None))


def test_nothing_is_added_to_the_journal_by_default(env):
    journal = OnlineJournal()
    OnlineCollector(Leaning(3), env).collect(5, journal=journal, seed=[1])
    assert not {"explores", "limited", "stopped"} & set(journal.rows[0])


def test_collecting_within_limits_goes_on_to_the_bit_wherever_the_journal_ends(tmp_path, env):
    limits = Limits(floor=30.0, explore_share=0.6, max_action_change=(0.05,), stop_rule=_falls)
    collector = OnlineCollector(Leaning(3), env, limits=limits, base=Leaning(-3))
    whole = collector.collect(60, journal=OnlineJournal(tmp_path / "whole"), seed=[1])
    rows = OnlineJournal(tmp_path / "whole").rows
    report = LimitedCollection(limits, rows).report()
    assert 0 < report["actions_limited"] < 60 and report["episodes_stopped"] > 1 and report["steps"]["pretrained"] > 5
    assert report["fell_below_after"] is not None
    for before, row in itertools.pairwise(rows):
        if row["starts"]:
            assert before["terminals"] or before["truncated"]
        else:
            assert abs(row["actions"] - before["actions"]).max() <= 0.05 + 1e-6
        assert not before["stopped"] or (before["truncated"] and not before["terminals"])
    content = (tmp_path / "whole").read_bytes()
    for place in random.Random(2).sample(range(len(content)), 8):
        (tmp_path / "cut").write_bytes(content[:place])
        found = collector.collect(60, journal=OnlineJournal(tmp_path / "cut", lambda line: None), seed=[1])
        assert (tmp_path / "cut").read_bytes() == content
        assert found.sha256() == whole.sha256() and (found.timeouts == whole.timeouts).all()


def _take(session, env, count):
    for _ in range(count):
        if session.starts_episode:
            env.seed(session.reset_seed)
            observation = reset_env(env)
        observation, reward, done, info = env.step(session.act(observation))
        truncated = info["TimeLimit.truncated"] if done else False
        session.record(observation, reward, done and not truncated, truncated)


def test_a_session_is_limited_as_the_run_itself_is(settings, env):
    limits = dict(
        return_floor=0.9, explore_share=0.5, max_action_change=(0.3, 0.3, 0.1), stop_rule="test_limits:_falls"
    )
    summary, whole = pipeline.run(settings(**limits))
    (report,) = summary["limits"]
    assert report["round"] == 1 and sum(report["steps"].values()) == 50 and report["actions_limited"] > 0
    assert report["episodes_stopped"] > 0 and report["episodes"]["exploration"] > 0
    with pytest.raises(StoppedAfter) as caught:
        pipeline.run(settings(**limits, stop_after="explore"))
    run = caught.value.run_directory
    with doof_ext.OnlineSession(run, steps=50) as session:
        _take(session, env, 50)
    halves, _ = pipeline.run(resumed(run))
    assert_same_run(whole, run)
    assert halves["limits"] == summary["limits"]


@pytest.mark.parametrize("episodes", [2, 0])
def test_the_floor_is_a_part_of_the_evaluated_return_or_of_the_datas(settings, episodes):
    config = settings(return_floor=0.5, eval_episodes=episodes)
    summary, _ = pipeline.run(config)
    (report,) = summary["limits"]
    if episodes:
        scores, spec = np.array(summary["scores"]["pretrained"]["returns"]) / 100, config.spec
        expected = (scores * (spec.ref_max_score - spec.ref_min_score) + spec.ref_min_score).mean()
    else:
        recorded = data.load("recipe", config.spec, 400, config.seed).dataset
        ends = np.flatnonzero(recorded.terminals | recorded.timeouts) + 1
        expected = np.mean([rewards.sum() for rewards in np.split(recorded.rewards, ends)[: len(ends)]])
    assert expected > 0 and report["return_floor"] == pytest.approx(expected / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_action_change": (0.1, 0.1)}, "--max-action-change has 2 numbers, an action has 3; give one or all"),
        ({"stop_rule": "never"}, "--stop-rule 'never' is neither a module nor a function: give module:function"),
        (
            {"stop_rule": "no_such_module:rule"},
            "--stop-rule 'no_such_module:rule': No module named 'no_such_module'; run this in",
        ),
        ({"stop_rule": "test_limits:__name__"}, "is not a function"),
        ({"stop_rule": "test_limits:Leaning"}, "--stop-rule: the stop rule fails"),
        ({"stop_rule": "test_limits:_many"}, "where it must give True or False"),
    ],
)
def test_limits_that_do_not_fit_are_refused_before_a_run_begins(settings, tmp_path, given, message):
    with pytest.raises(UserError, match=message) as caught:
        pipeline.run(settings(**given))
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"return_floor": 0.0}, "--return-floor is 0.0; it must be"),
        ({"return_floor": 1.5}, "--return-floor is 1.5; it must be"),
        ({"explore_share": 1.2}, "--explore-share is 1.2; it must be between 0 and 1"),
        ({"max_action_change": (0.0,)}, r"--max-action-change is \(0.0,\); it must be numbers above 0"),
    ],
)
def test_limits_have_their_range(tiny, given, message):
    with pytest.raises(UserError, match=message):
        tiny(**given)


def test_a_stop_rule_that_fails_ends_the_run_and_the_step_is_not_recorded(env):
    def fails_later(observation, action, next_observation):
        if len(journal) == 3:
            raise ZeroDivisionError("of my own")
        return False

    journal = OnlineJournal()
    collector = OnlineCollector(Leaning(3), env, limits=Limits(stop_rule=fails_later))
    with pytest.raises(RunStoppedError, match=r"the stop rule fails \(ZeroDivisionError: of my own\)"):
        collector.collect(9, journal=journal, seed=[1])
    assert len(journal) == 3
