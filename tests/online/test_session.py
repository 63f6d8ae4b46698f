"""OnlineSession: stage 3 in a control loop that is not ours ends where the run's own stage 3 would."""

import dataclasses
import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_same_run, resumed, wrap_stage
from waiting_run import files_of, stop, take

import doof_ext
from doof_ext import pipeline
from doof_ext.data.journal import OnlineJournal
from doof_ext.errors import Interrupted, RunStoppedError, UserError
from doof_ext.learning.acting import StepActor
from doof_ext.learning.factory import build_actor, build_dynamics, build_policy
from doof_ext.tasks import TaskSpec
from doof_ext.tasks.interaction import reset_env


@pytest.fixture
def waiting(settings):
    """A run that waits for its online steps."""
    return stop(settings(stop_after="explore"))


@pytest.mark.parametrize("width", [3, 24])
@pytest.mark.parametrize("high", [1.0, 1.7])
def test_its_actions_are_the_policys_to_the_bit(tiny, width, high):
    config = dataclasses.replace(tiny(), hidden_dims=(256, 256))
    spec = TaskSpec("own", "Own-v0", "never", obs_dim=11, action_dim=width)
    spec = dataclasses.replace(spec, action_low=(-1.0,) * width, action_high=(high,) * width)
    policy = build_policy(config, spec, build_dynamics(config, spec), uncertainty_coef=0.0)
    copy = build_actor(config.hidden_dims, 11, width)
    copy.load_state_dict({name: value.clone() for name, value in policy.actor.state_dict().items()})
    actor = StepActor(copy, np.full(width, -1, np.float32), np.full(width, high, np.float32))
    before = torch.get_rng_state()
    observations = np.random.default_rng(0).normal(size=(100, 11))
    actions = [(actor.act(obs, seed), actor.act(obs, None)) for seed, obs in enumerate(observations)]
    assert torch.equal(before, torch.get_rng_state())  # the user's own generator is left alone
    for seed, (obs, (sampled, mean)) in enumerate(zip(observations, actions, strict=True)):
        torch.manual_seed(seed)
        np.testing.assert_array_equal(sampled, policy.select_action(obs[None])[0])
        np.testing.assert_array_equal(mean, policy.select_action(obs[None], deterministic=True)[0])


@pytest.mark.parametrize("kind", [{}, {"exploration_ratio": 0.0}, {"collect_deterministic": True}], ids=str)
def test_two_halves_end_as_one_piece(settings, kind, env, capsys):
    summary, whole = pipeline.run(settings(**kind))
    run = stop(settings(**kind, stop_after="explore"))
    assert not (run / "record" / "failure.txt").exists()
    with doof_ext.OnlineSession(run, steps=50) as session:
        take(session, env, 50)
    capsys.readouterr()
    halves, _ = pipeline.run(resumed(run))
    assert_same_run(whole, run)
    assert halves["scores"] == summary["scores"] and halves["online_steps"] == summary["online_steps"] == 50
    (record,) = halves["online_data"]
    assert (record["round"], record["source"], record["steps"]) == (1, "session", 50)
    assert "rows outside D's box" in capsys.readouterr().out and summary["online_data"] == []


def test_sessions_go_on_at_the_next_step_in_a_new_episode(waiting, env):
    with doof_ext.OnlineSession(waiting) as session:  # as many as the run's --online-steps
        take(session, env, 3)
        action = session.act(np.zeros(11))  # of a step that was never recorded
        with pytest.raises(UserError, match="another process is at work"):
            doof_ext.OnlineSession(waiting, steps=50)
    with pytest.raises(UserError, match="has 3 of 50 steps"):
        pipeline.run(resumed(waiting))
    with doof_ext.OnlineSession(waiting, steps=7) as session:
        assert (len(session), session.remaining, session.starts_episode) == (3, 4, True)
        np.testing.assert_array_equal(session.act(np.zeros(11)), action)  # of its number and observation alone
        session.end_episode()
        take(session, env, 4)
        session.end_episode()  # a loop may say so at its end, too
        with pytest.raises(UserError, match="all 7 steps are taken"):
            session.act(np.zeros(11))
    rows = OnlineJournal(waiting / "checkpoint" / "online-1.journal").rows
    assert [bool(row["starts"]) for row in rows] == [True, False, False, True, False, False, False]
    assert doof_ext.OnlineSession(waiting).remaining == 0  # of the 7 that were asked for last; the run is free again
    summary, _ = pipeline.run(resumed(waiting))
    assert summary["online_steps"] == 7


def test_an_observation_that_was_not_recorded_is_warned_of(settings, env, recwarn):
    with doof_ext.OnlineSession(stop(settings(stop_after="explore"))) as session:
        observation = reset_env(env)
        for noise in (0, 1e-6, 0.01):
            session.act(observation + noise)
            session.record(observation, 0.0, False, False)
        session.end_episode()
        session.act(observation + 1)
    (warning,) = recwarn
    assert str(warning.message).startswith("act was given another observation than was recorded last, 0.01 away in dim")
    assert warning.filename == __file__


def test_rounds_wait_one_after_another(settings, env):
    run = stop(settings(rounds=2, stop_after="explore"))
    with doof_ext.OnlineSession(run, steps=12) as session:
        take(session, env, 12)
    assert stop(resumed(run, stop_after="explore")) == run
    with doof_ext.OnlineSession(run, steps=9) as session:
        take(session, env, 9)
    with pytest.raises(UserError, match="is past it"):
        pipeline.run(resumed(run, stop_after="explore"))
    summary, _ = pipeline.run(resumed(run))
    assert [stage["env_steps"] for stage in summary["stages"] if stage["name"] == "collect"] == [12, 9]
    assert [record["steps"] for record in summary["online_data"]] == [12, 9]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda session: session.act(np.full(11, np.nan)), "the observation is not finite, or too large, in its dim"),
        (lambda session: session.act(np.zeros(10)), r"the observation has shape \[10\]; it must be \[11\]"),
        (lambda session: session.act(np.zeros((1, 11))), r"has shape \[1, 11\]"),
        (lambda session: session.act(["far"] * 11), "no array of numbers"),
        (lambda session: session.record(np.zeros(11), 0.0, False, False), "record was called without act"),
        (lambda session: [session.act(np.zeros(11)) for _ in range(2)], "act was called twice"),
        (lambda session: _record(session, next_observation=np.full(11, np.inf)), "the next_observation is not finite"),
        (lambda session: _record(session, next_observation=np.zeros(12)), "the next_observation has shape"),
        (lambda session: _record(session, reward=float("nan")), "the reward is nan"),
        (lambda session: _record(session, reward=[0.0, 1.0]), "the reward is"),
        (lambda session: _record(session, reward=None), "the reward is None"),
        (lambda session: _record(session, terminal=0.5), "terminal is 0.5"),
        (lambda session: _record(session, truncated="yes"), "truncated is 'yes'"),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_the_journal(waiting_once, use, message):
    before = files_of(waiting_once)
    with doof_ext.OnlineSession(waiting_once, steps=50) as session:
        with pytest.raises(UserError, match=message) as caught:
            use(session)
        assert "\n" not in str(caught.value) and len(session) == 1
    assert files_of(waiting_once) == before


def _record(session, **wrong):
    session.act(np.zeros(11))
    session.record(**{"next_observation": np.zeros(11), "reward": 0.0, "terminal": False, "truncated": False} | wrong)


@pytest.fixture(scope="module")
def waiting_once(tiny, _own_data_folder, tmp_path_factory):
    """A run whose session of 50 steps has taken the first."""
    logdir = str(tmp_path_factory.mktemp("waiting"))
    run = stop(tiny(source="recipe", dataset_steps=400, logdir=logdir, stop_after="explore"))
    with doof_ext.OnlineSession(run, steps=50) as session:
        _record(session)
    return run


@pytest.mark.parametrize("steps", [1, 0, -5, 2.5, True, "many"])
def test_steps_are_a_whole_number(waiting_once, steps):
    with pytest.raises(UserError, match="steps is"):
        doof_ext.OnlineSession(waiting_once, steps=steps)


def test_a_run_that_does_not_wait_is_one_line(settings, interrupted, tmp_path):
    def refused(run, message, steps=50):
        before = files_of(Path(run))
        with pytest.raises(UserError, match=message) as caught:
            doof_ext.OnlineSession(run, steps=steps)
        assert "\n" not in str(caught.value) and files_of(Path(run)) == before

    refused(tmp_path / "nowhere", "is no run directory")
    refused(interrupted, "has no exploration policy")  # not there yet
    _, complete = pipeline.run(settings())
    refused(complete, "is complete")
    (Path(complete) / "result" / "summary.json").unlink()
    refused(complete, "is past stage 3")


def test_a_run_that_has_begun_stage_3_itself_is_one_line(settings, monkeypatch):
    def stopped(collect):
        def wrapper(ctx, *inputs):
            ctx.state._signals.received = signal.SIGTERM
            return collect(ctx, *inputs)

        return wrapper

    with monkeypatch.context() as patch:
        wrap_stage(patch, "collect", stopped)
        with pytest.raises(Interrupted) as caught:
            pipeline.run(settings())
    with pytest.raises(UserError, match="has begun stage 3 in its own environment"):
        doof_ext.OnlineSession(caught.value.run_directory, steps=50)


def test_a_full_disk_ends_the_session_and_keeps_what_was_recorded(waiting, env, monkeypatch):
    with doof_ext.OnlineSession(waiting, steps=50) as session:
        take(session, env, 2)
        with monkeypatch.context() as patch:
            patch.setattr("doof_ext.data.journal._write_whole", _half)
            with pytest.raises(RunStoppedError, match="No space left on device"):
                _record(session)
        with pytest.raises(UserError, match="the session is closed"):
            session.act(np.zeros(11))
    assert len(doof_ext.OnlineSession(waiting, steps=50)) == 2


def _half(file, content):
    file.write(content[: len(content) // 2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_session_without_steps_is_not_offered_an_end(settings):
    run = stop(settings(stop_after="explore"))
    with doof_ext.OnlineSession(run, steps=9):
        pass
    with pytest.raises(UserError, match=r"has 0 of 9 steps; take the rest$"):
        pipeline.run(resumed(run))
