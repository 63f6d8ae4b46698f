"""--online-data: steps that a user collected, checked against the task and D, become a run's D_on."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
from conftest import assert_same_run, needs, resumed, wrap_stage
from waiting_run import files_of, stop, take

import doof_ext
from doof_ext import pipeline
from doof_ext.data import episodes
from doof_ext.data.dataset import Dataset, read_dataset, write_dataset
from doof_ext.data.recipe import generate
from doof_ext.errors import RunStoppedError, UserError
from doof_ext.evaluation.online_checks import check_online_steps, online_table
from doof_ext.learning.factory import build_termination_fn
from doof_ext.tasks import get_spec


@pytest.fixture(scope="module")
def waiting(tiny, _own_data_folder, tmp_path_factory):
    """A run that waits for its online steps; refusals leave it as it is."""
    logdir = str(tmp_path_factory.mktemp("waiting"))
    return stop(tiny(source="recipe", dataset_steps=400, logdir=logdir, stop_after="explore"))


@pytest.fixture(scope="module")
def collected():
    """Steps of the task as a user may have collected them: without the simulator's states."""
    steps = generate(get_spec("hopper-random-v2"), steps=130, seed=7, processes=1)
    return dataclasses.replace(steps, states={}, metadata={})


def _part(steps, rows):
    columns = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")
    return Dataset(**{name: getattr(steps, name)[rows].copy() for name in columns})


def test_a_runs_own_steps_given_as_a_file_end_as_one_piece(settings):
    _, whole = pipeline.run(settings())
    run = stop(settings(stop_after="explore"))
    summary, _ = pipeline.run(resumed(run, online_data=(f"{whole}/result/online_buffer.hdf5",)))
    assert_same_run(whole, run)
    assert summary["online_data"][0]["checks"]["transition_error"] < 1e-6  # the states are in the file


def test_steps_of_d_itself_are_told(env, collected):
    half = _part(collected, np.arange(130) % 2 == 0)
    found, refused = check_online_steps(env, build_termination_fn(env.spec), half, collected)
    assert refused == [] and found["steps_of_offline"] == 65
    assert "WARNING: 65; D_on is for new ones" in "\n".join(online_table(found))
    elsewhere = dataclasses.replace(half, next_observations=half.next_observations + np.float32(0.1))
    found, refused = check_online_steps(env, build_termination_fn(env.spec), elsewhere, collected)
    assert found["steps_of_offline"] == 0  # the same pairs may lead to other states in a coarse system


def test_a_file_that_is_given_twice_is_refused(waiting, collected, tmp_path):
    paths = str(tmp_path / "a.hdf5"), str(tmp_path / "b.hdf5")
    for path in paths:
        write_dataset(path, collected)
    with pytest.raises(UserError, match="the same steps are given twice"):
        pipeline.run(resumed(waiting, online_data=paths))


def test_a_file_that_has_another_ones_steps_is_refused(waiting, collected, tmp_path):
    """As a log that goes on from day to day, given with the first day's."""
    monday, both = str(tmp_path / "monday.hdf5"), str(tmp_path / "both.hdf5")
    write_dataset(monday, _part(collected, slice(0, 60)))
    write_dataset(both, collected)
    before = files_of(waiting)
    for paths in ((monday, both), (both, monday)):
        with pytest.raises(UserError, match=r"60 steps of .* are in .* as well; give each step once"):
            pipeline.run(resumed(waiting, online_data=paths))
    assert files_of(waiting) == before


def test_the_steps_of_an_earlier_round_are_refused(settings, collected, tmp_path):
    first, both = str(tmp_path / "first.hdf5"), str(tmp_path / "both.hdf5")
    write_dataset(first, _part(collected, slice(0, 60)))
    write_dataset(both, collected)
    run = stop(settings(rounds=2, stop_after="explore"))
    stop(resumed(run, online_data=(first,), stop_after="explore"))
    with pytest.raises(UserError, match=r"60 steps of .* are in round 1's as well; give each step once"):
        pipeline.run(resumed(run, online_data=(both,)))


def test_two_steps_are_too_few_for_the_guard_before_anything_is_trained(settings, collected, tmp_path):
    write_dataset(tmp_path / "two.hdf5", _part(collected, slice(0, 2)))
    run = stop(settings(guard="on", stop_after="explore"))
    with pytest.raises(UserError, match="2 steps are too few for --guard on"):
        pipeline.run(resumed(run, online_data=(str(tmp_path / "two.hdf5"),)))


def test_several_files_of_any_length_are_the_online_steps(settings, collected, tmp_path, capsys, monkeypatch):
    run = stop(settings(stop_after="explore"))
    paths = str(tmp_path / "a.hdf5"), str(tmp_path / "b.hdf5")
    for path, rows in zip(paths, (slice(0, 23), slice(23, None)), strict=True):
        write_dataset(path, _part(collected, rows))

    def fails(finetune_dynamics):
        def wrapper(*inputs):
            raise RunStoppedError("in stage 4")

        return wrapper

    with monkeypatch.context() as patch:
        wrap_stage(patch, "finetune_dynamics", fails)
        for _ in range(2):  # the same command again is no other
            with pytest.raises(RunStoppedError):
                pipeline.run(resumed(run, online_data=paths))
    with pytest.raises(UserError, match="has other online data already"):
        pipeline.run(resumed(run, online_data=paths[:1]))
    with pytest.raises(UserError, match="has its online steps already"):
        doof_ext.OnlineSession(run)
    told = capsys.readouterr().out
    assert "130 steps" in told and "rows outside D's box" in told and "the rule agrees in every row" in told
    summary, _ = pipeline.run(resumed(run))  # which keeps them
    assert summary["online_steps"] == 130
    (record,) = summary["online_data"]
    assert [(file["id"], file["steps"]) for file in record["files"]] == [("a.hdf5", 23), ("b.hdf5", 107)]
    assert record["checks"]["observations"] == [130, 11] and record["checks"]["terminals_denied"] == 0
    kept = read_dataset(run / "result" / "online_buffer.hdf5")
    assert kept.sha256() == collected.sha256() == record["sha256"]
    assert kept.timeouts[22] != kept.terminals[22]  # the first file's last episode ends with it


def test_what_one_file_lacks_is_said(settings, collected, tmp_path, capsys, monkeypatch):
    """The reward is on each episode's last step, which goes where next observations are missing."""
    steps, path = _part(collected, slice(None)), tmp_path / "a.hdf5"
    steps.timeouts[19::20], steps.terminals[:] = True, False
    steps.rewards = steps.timeouts.astype(np.float32)
    write_dataset(path, steps)
    with h5py.File(path, "r+") as file:
        del file["next_observations"]
    with monkeypatch.context() as patch:
        wrap_stage(patch, "collect", lambda collect: _fails)
        with pytest.raises(RunStoppedError):
            pipeline.run(resumed(stop(settings(stop_after="explore")), online_data=(str(path),)))
    told = capsys.readouterr().out
    assert "a.hdf5: next_observations are the following rows' observations" in told
    assert "all rewards were on the steps that are left out" in told


def test_a_file_that_could_not_be_kept_leaves_the_run_waiting(settings, collected, tmp_path):
    run, path = stop(settings(stop_after="explore")), tmp_path / "a.hdf5"
    write_dataset(path, collected)
    blocked = run / "checkpoint" / "online-1.hdf5"
    blocked.mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        pipeline.run(resumed(run, online_data=(str(path),)))
    blocked.rmdir()
    write_dataset(path, _part(collected, slice(0, 60)))
    summary, _ = pipeline.run(resumed(run, online_data=(str(path),)))
    assert summary["online_steps"] == 60


def test_a_run_whose_checkpoints_cannot_be_read_is_refused_in_one_line(settings, collected, tmp_path):
    run, path = stop(settings(stop_after="explore")), tmp_path / "a.hdf5"
    write_dataset(path, collected)
    (run / "checkpoint").rename(tmp_path / "aside")
    (run / "checkpoint").write_text("")
    with pytest.raises(UserError, match=r"cannot be read \(Not a directory\)"):
        pipeline.run(resumed(run, online_data=(str(path),)))


def test_online_steps_that_changed_on_the_disk_are_refused(settings, collected, tmp_path, monkeypatch):
    run, path = stop(settings(stop_after="explore")), tmp_path / "a.hdf5"
    write_dataset(path, collected)
    with monkeypatch.context() as patch:
        wrap_stage(patch, "collect", lambda collect: _fails)
        with pytest.raises(RunStoppedError):
            pipeline.run(resumed(run, online_data=(str(path),)))
    write_dataset(run / "checkpoint" / "online-1.hdf5", _part(collected, slice(0, 50)))
    with pytest.raises(UserError, match="are not those it was given"):
        pipeline.run(resumed(run))
    (run / "checkpoint" / "online-1.json").write_text(json.dumps({"source": "me"}))
    with pytest.raises(UserError, match=r"online-1\.json is damaged"):
        pipeline.run(resumed(run))


def _fails(*inputs):
    raise RunStoppedError("in stage 3")


def _with(**columns):
    return lambda steps: dataclasses.replace(steps, **{name: make(steps) for name, make in columns.items()})


def _deny(steps):
    """Terminals where the hopper has not fallen, as many as there were."""
    return np.roll(steps.terminals, 3)


def _nan(steps):
    rewards = steps.rewards.copy()
    rewards[5] = np.nan
    return rewards


def _narrow(steps):
    columns = ("observations", "next_observations")
    return dataclasses.replace(steps, **{name: getattr(steps, name)[:, :9] for name in columns})


def _in_degrees(steps):
    return np.concatenate([steps.observations[:, :1], np.rad2deg(steps.observations[:, 1:])], axis=1)


def _shuffled(steps):
    return _part(steps, np.random.default_rng(0).permutation(len(steps)))


def _none(steps):
    return np.zeros(len(steps), bool)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _with(observations=lambda d: d.observations[:, :9], next_observations=lambda d: d.next_observations[:, :9]),
            "9",
        ),
        (
            _with(actions=lambda d: np.hstack([d.actions, d.actions])),
            r"actions has shape \[130, 6\]; expected \[130, 3\]",
        ),
        (_with(actions=lambda d: 57.3 * d.actions), "actions lie outside the action space: other units?"),
        (_with(observations=_in_degrees), "dimension 1, dimension 2, .* are far outside D's: other units?"),
        (_with(rewards=_nan), "rewards is NaN, infinite"),
        (lambda d: _part(d, slice(0, 1)), "one transition only"),
        (_with(terminals=_none, timeouts=_none), "all steps are one episode, but .* do not lead to the next"),
        (_shuffled, "do not lead to the observation of the step after them: are the rows in order?"),
        (_with(terminals=_deny), "the termination rule disagrees with the recorded terminals"),
        (_with(states=lambda d: {"qpos": np.zeros((130, 9)), "qvel": np.zeros((130, 9))}), "infos/qpos has 9 columns"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line_and_changes_nothing(waiting, collected, tmp_path, change, message):
    write_dataset(tmp_path / "a.hdf5", change(collected))
    before = files_of(waiting)
    with pytest.raises(UserError, match=message) as caught:
        pipeline.run(resumed(waiting, online_data=(str(tmp_path / "a.hdf5"),)))
    assert "\n" not in str(caught.value) and files_of(waiting) == before


def test_what_is_no_dataset_is_one_line_and_changes_nothing(waiting, collected, tmp_path):
    write_dataset(tmp_path / "good.hdf5", collected)
    (tmp_path / "text.hdf5").write_text("not a dataset")
    with h5py.File(tmp_path / "parts.hdf5", "w") as file:
        file["observations"] = collected.observations
    before = files_of(waiting)
    for name, message in (("none", "no dataset file"), ("text", "not a whole HDF5"), ("parts", "no actions, rewards")):
        with pytest.raises(UserError, match=message) as caught:
            pipeline.run(resumed(waiting, online_data=(str(tmp_path / "good.hdf5"), str(tmp_path / f"{name}.hdf5"))))
        assert "\n" not in str(caught.value) and files_of(waiting) == before


def test_a_run_that_does_not_wait_takes_no_files(settings, interrupted, collected, tmp_path, env):
    path = str(tmp_path / "a.hdf5")
    write_dataset(path, collected)
    with pytest.raises(UserError, match="does not wait for online steps yet: it is in stage explore, round 1"):
        pipeline.run(resumed(interrupted, online_data=(path,)))
    _, complete = pipeline.run(settings())
    with pytest.raises(UserError, match="is complete: --online-data comes too late"):
        pipeline.run(resumed(complete, online_data=(path,)))
    run = stop(resumed(interrupted, stop_after="explore"))
    with doof_ext.OnlineSession(run, steps=4) as session:
        take(session, env, 1)
    with pytest.raises(UserError, match="has 1 steps of an OnlineSession already"):
        pipeline.run(resumed(run, online_data=(path,)))


@needs("minari", "minari")
def test_minari_gives_online_steps_too(settings, collected, tmp_path, monkeypatch):
    import gymnasium
    import minari
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    buffers = [
        EpisodeBuffer(
            id=index,
            observations=[*collected.observations[start:stop], collected.next_observations[stop - 1]],
            actions=list(collected.actions[start:stop]),
            rewards=list(collected.rewards[start:stop]),
            terminations=list(collected.terminals[start:stop]),
            truncations=list(collected.timeouts[start:stop]),
        )
        for index, (start, stop) in enumerate(zip(*episodes.bounds(collected), strict=True))
    ]
    minari.create_dataset_from_buffers(
        "own/online-v0",
        buffers,
        observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (11,)),
        action_space=gymnasium.spaces.Box(-1, 1, (3,)),
        description="a hopper's steps",
    )
    run = stop(settings(stop_after="explore"))
    summary, _ = pipeline.run(resumed(run, online_data=("minari:own/online-v0",)))
    assert summary["online_data"][0]["files"][0]["source"] == "minari"
    assert read_dataset(run / "result" / "online_buffer.hdf5").sha256() == collected.sha256()


def test_the_findings_are_a_loops(env, collected, dataset):
    """Ranges, rows outside the box and the rule's answers, row by row."""
    rule = build_termination_fn(env.spec)
    found, refused = check_online_steps(env, rule, dataset, collected)
    low, high = dataset.observations.min(0), dataset.observations.max(0)
    outside = [
        row for row in collected.observations if any(x < a or x > b for x, a, b in zip(row, low, high, strict=True))
    ]
    assert found["rows_outside"] == pytest.approx(len(outside) / 130) and refused == []
    assert found["terminals"] == collected.terminals.sum() and found["rule_differs"] == found["terminals_denied"] == 0
    assert found["episodes"] == len(episodes.bounds(collected)[0]) and found["actions_outside"] == 0
    lines = online_table(found)
    assert lines[0].endswith("130 steps") and f"{100 * len(outside) / 130:.1f} %" in "\n".join(lines)


def test_one_episode_that_holds_together_is_a_warning(env, collected, dataset):
    start, stop = (bound[0] for bound in episodes.bounds(collected))
    one = _part(collected, slice(start, stop))
    found, refused = check_online_steps(env, build_termination_fn(env.spec), dataset, one)
    assert refused == [] and "WARNING: all steps are one episode" in "\n".join(online_table(found))


def test_a_unit_too_small_shows_in_the_spread(env, collected, dataset):
    scale = np.ones(11, np.float32)
    scale[3] = np.deg2rad(1.0)
    small = dataclasses.replace(collected, observations=collected.observations * scale)
    found, _ = check_online_steps(env, build_termination_fn(env.spec), dataset, small)
    assert found["spread_differs"] == [3]
    assert "WARNING: more than 20 times D's, or less than a 20th, in dimension 3" in "\n".join(online_table(found))


def test_rewards_and_actions_in_other_units_are_warned_of(env, collected, dataset):
    rule = build_termination_fn(env.spec)
    lines = "\n".join(online_table(check_online_steps(env, rule, dataset, collected)[0]))
    assert "WARNING" not in lines and "each leads to the next one's observation" in lines
    rewards = f"{collected.rewards.min():.4g} to {collected.rewards.max():.4g}; D {dataset.rewards.min():.4g}"
    assert rewards in lines
    for factor in (1000, 0.001):
        scaled = dataclasses.replace(collected, rewards=np.float32(factor) * collected.rewards)
        lines = "\n".join(online_table(check_online_steps(env, rule, dataset, scaled)[0]))
        assert "on average more than 20 times D's, or less than a 20th: other units?" in lines
    small = dataclasses.replace(collected, actions=collected.actions * np.float32(0.05))
    lines = "\n".join(online_table(check_online_steps(env, rule, dataset, small)[0]))
    assert "WARNING: -0.0" in lines and "less than a tenth of D's range in every dimension that moves" in lines
    unused = np.float32([1, 0, 1])  # an actuator that neither D nor D_on moves
    still = dataclasses.replace(dataset, actions=dataset.actions * unused)
    small = dataclasses.replace(small, actions=small.actions * unused)
    assert check_online_steps(env, rule, still, small)[0]["actions_narrow"]


def test_no_reward_yet_is_no_other_unit(env, collected, dataset):
    unpaid = dataclasses.replace(collected, rewards=0 * collected.rewards)
    found, _ = check_online_steps(env, build_termination_fn(env.spec), dataset, unpaid)
    assert not found["rewards_differ"]


def test_steps_that_do_not_follow_one_another_show_in_the_table(env, collected, dataset):
    shifted = dataclasses.replace(collected, next_observations=collected.next_observations.copy())
    inner = np.flatnonzero(~(collected.terminals | collected.timeouts))[:10]
    shifted.next_observations[inner] += 1
    found, refused = check_online_steps(env, build_termination_fn(env.spec), dataset, shifted)
    of = len(np.flatnonzero(~(collected.terminals | collected.timeouts)[:-1]))
    assert f"WARNING: 10 of {of} do not lead to the next one's observation" in "\n".join(online_table(found))
    assert not any("in order" in line for line in refused)
