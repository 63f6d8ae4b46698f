"""Runs that touch the environment in stage 3 alone, or have none at all."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from conftest import ROOT, needs_report
from waiting_run import fallen, stop

from doof_ext import pipeline
from doof_ext.cli.exit_code import closing_table
from doof_ext.config import config_from
from doof_ext.data.dataset import Dataset, write_dataset
from doof_ext.errors import UserError
from doof_ext.experiment.summary import read_summary
from doof_ext.report.page import write_report
from doof_ext.report.runs import find_runs
from doof_ext.report.score_tables import score_table
from doof_ext.tasks import TaskSpec, register

SCORES = ("last_10", "best", "mean", "std", "length", "final")


def log_of_a_pendulum(path, steps=400, **columns):
    """Steps of a pendulum that nobody has written an environment for."""
    rng = np.random.default_rng(0)
    angle, speed, rows = 0.1, 0.0, []
    for step in range(steps):
        action = rng.uniform(-2, 2)
        before = angle, speed
        speed += 0.05 * (np.sin(angle) + action)
        angle += 0.05 * speed
        ends = step % 50 == 49
        rows.append((before, [action], (angle, speed), -abs(angle), False, ends))
        if ends:
            angle, speed = rng.uniform(-0.2, 0.2), 0.0
    dtypes = (np.float32,) * 4 + (bool,) * 2
    arrays = [np.array(column, dtype) for column, dtype in zip(zip(*rows, strict=True), dtypes, strict=True)]
    write_dataset(path, dataclasses.replace(Dataset(*arrays), **columns))
    return str(path)


class _Counting(gymnasium.Wrapper):
    """Counts its own resets and steps, over all instances."""

    calls: ClassVar = {"reset": 0, "step": 0}

    def reset(self, **settings):
        self.calls["reset"] += 1
        return self.env.reset(**settings)

    def step(self, action):
        self.calls["step"] += 1
        return self.env.step(action)


@pytest.fixture(scope="module")
def unseen(tiny, _own_data_folder, tmp_path_factory):
    """(Summary, directory, the environment's own counts before stage 3 and in all) of a run with --eval-episodes 0."""
    folder = tmp_path_factory.mktemp("unseen")
    spec = TaskSpec("counted", lambda: _Counting(gymnasium.make("InvertedPendulum-v5")), fallen, max_episode_steps=40)
    register(spec)
    _Counting.calls.update(reset=0, step=0)
    rng = np.random.default_rng(0)
    rows = rng.uniform(-0.1, 0.1, (300, 4)).astype(np.float32)
    ends = np.arange(300) % 30 == 29
    actions = rng.uniform(-3, 3, (300, 1)).astype(np.float32)
    log = Dataset(rows, actions, rows + 0.01, np.ones(300, np.float32), np.zeros(300, bool), ends)
    write_dataset(folder / "log.hdf5", log)
    settings = dict(task="counted", source=f"hdf5:{folder}/log.hdf5", dataset_steps=None, logdir=str(folder))
    config = tiny(**settings, eval_episodes=0, online_steps=70)
    run = stop(dataclasses.replace(config, stop_after="explore"))
    before = dict(_Counting.calls)
    summary, directory = pipeline.run(config_from({"resume": str(run)}))
    return summary, Path(directory), before, dict(_Counting.calls)


def test_nothing_but_stage_3_touches_the_environment(unseen):
    summary, _, before, after = unseen
    assert before == {"reset": 1, "step": 0}
    assert after["step"] == summary["online_steps"] == 70


def test_scores_are_null_and_say_why(unseen):
    summary, directory, _, _ = unseen
    assert set(summary["scores"]) == {"pretrained", "exploration", "finetuned"} and summary["gain"] is None
    for score in summary["scores"].values():
        assert {name: score[name] for name in SCORES} == dict.fromkeys(SCORES)
        assert score["episodes"] == 0 and "--eval-episodes 0" in score["reason"]
    assert read_summary(directory / "result" / "summary.json") == summary
    told = closing_table(summary)
    assert "no scores: nothing was evaluated in the environment (--eval-episodes 0)" in told and "policy " not in told


def test_a_damaged_score_is_no_score_that_was_never_taken(unseen, tmp_path):
    for change in ({"reason": None}, {"mean": 1.0}, {"episodes": 3}):
        damaged = json.loads(json.dumps(unseen[0]))
        damaged["scores"]["finetuned"] |= change
        (tmp_path / "summary.json").write_text(json.dumps(damaged))
        with pytest.raises(UserError, match="is damaged: the score 'finetuned'"):
            read_summary(tmp_path / "summary.json")


@needs_report
def test_reports_cope_without_scores(unseen, tmp_path):
    _, directory, _, _ = unseen
    warnings = []
    page = Path(write_report([directory], tmp_path / "report", warn=warnings.append)).read_text()
    assert warnings == [] and "counted" in page
    (row,) = score_table(find_runs([directory])).rows
    assert row[:4] == ["counted", "hdf5 data", "ratio 1", "1"] and set(row[4:]) == {""}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"eval_episodes": 0, "final_episodes": 5},
            "--final-episodes: with --eval-episodes 0 nothing but the online steps",
        ),
        ({"eval_episodes": 0, "render": True}, "--render: with --eval-episodes 0 nothing but the online steps touches"),
        ({"env": "none"}, "--env none: give the data with --source hdf5:FILE"),
        ({"env": "none", "source": "recipe"}, "--env none: give the data with --source hdf5:FILE"),
        ({"env": "none", "source": "hdf5:a", "env_id": "Pendulum-v1"}, "give one of them"),
        ({"env": "none", "source": "hdf5:a"}, "Give --action-low and --action-high"),
        ({"env": "none", "source": "hdf5:a", "action_low": (-1.0,)}, "Give --action-low and --action-high"),
        ({"env": "none", "source": "hdf5:a", "action_low": (-1.0,), "action_high": (1.0,)}, "when does an episode end"),
        (
            {"env": "none", "source": "hdf5:a", "action_low": (1.0,), "action_high": (1.0,)},
            "is not below --action-high",
        ),
        (
            {"env": "none", "source": "hdf5:a", "action_low": (-np.inf,), "action_high": (np.inf,)},
            "every action needs finite bounds",
        ),
        (
            {"env": "none", "source": "hdf5:a", "action_low": (0.0, 0.0), "action_high": (1.0, 1.0, 1.0)},
            "--action-low has 2 numbers, --action-high 3",
        ),
        ({"env": "none", "source": "hdf5:a", "eval_episodes": 2}, "--env none has nothing to evaluate a policy in"),
        ({"action_low": (-1.0,), "action_high": (1.0,)}, "--action-low and --action-high go with --env none"),
        ({"env": "all"}, "--env is all; it must be one of none"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(given, message):
    with pytest.raises(UserError, match=message) as caught:
        config_from(given)
    assert "\n" not in str(caught.value)


def test_bounds_of_other_actions_are_refused_before_a_run_begins(settings, tmp_path):
    log = log_of_a_pendulum(tmp_path / "log.hdf5")
    bounds = dict(action_low=(-2.0, -2.0), action_high=(2.0, 2.0))
    own = dict(env="none", task="p", source=f"hdf5:{log}", termination="never", eval_episodes=0, dataset_steps=None)
    with pytest.raises(UserError, match="have 2 numbers, the data's actions 1 dimension"):
        pipeline.run(settings(**own, **bounds))
    assert not (tmp_path / "p").exists()


_WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("gymnasium", "gym", "mujoco", "mujoco_py", "d4rl"):
            raise ModuleNotFoundError(f"no {name} here", name=name)

sys.meta_path.insert(0, Blocked())
"""

_RUN = f"""{_WITHOUT}
from doof_ext.cli.run import main

sys.exit(main(sys.argv[1:]))
"""

_COLLECT = f"""{_WITHOUT}
import numpy as np
from doof_ext import OnlineSession

with OnlineSession(sys.argv[1], steps=60) as session:
    while session.remaining:
        if session.starts_episode:
            state = np.array([0.1, 0.0])
        action = session.act(state)
        speed = state[1] + 0.05 * (np.sin(state[0]) + action[0])
        state = np.array([state[0] + 0.05 * speed, speed])
        session.record(state, -abs(state[0]), False, len(session) % 20 == 19)
"""


def _python(code, *argv):
    command = [sys.executable, "-c", code, *map(str, argv)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DOOF_KIT": "embedded"}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_run_from_start_to_end_without_any_environment_or_simulator(tmp_path):
    log, logdir = log_of_a_pendulum(tmp_path / "rig.hdf5"), tmp_path / "log"
    bounds = ("--action-low", "-2", "--action-high", "2", "--termination", "never")
    networks = ("--hidden-dims", "16", "--dynamics-hidden-dims", "16", "--dynamics-weight-decay", "0", "0")
    small = (*networks, "--preset", "smoke", "--wandb", "off", "--logdir", logdir)
    fixed = ("--env", "none", "--source", f"hdf5:{log}", *bounds, *small)
    for seed, by_session in ((1, True), (2, False)):
        started = _python(_RUN, *fixed, "--seed", seed)
        assert started.returncode == 0, started.stderr
        assert "the run waits for its online steps" in started.stdout
        assert "in its own environment" not in started.stdout
        (run,) = logdir.glob(f"rig/*/seed_{seed}&*")
        if by_session:
            again = _python(_RUN, "--resume", run)  # there is nobody else to take the steps
            assert again.returncode == 0 and "the run waits for its online steps" in again.stdout, again.stderr
            collected = _python(_COLLECT, run)
            assert collected.returncode == 0, collected.stderr
        steps = () if by_session else ("--online-data", log_of_a_pendulum(tmp_path / "more.hdf5", 100))
        ended = _python(_RUN, "--resume", run, *steps)
        assert ended.returncode == 0, ended.stderr
        summary = read_summary(run / "result" / "summary.json")
        assert summary["physics"] == "none" and summary["task"] == "rig" and summary["gain"] is None
        assert summary["online_steps"] == (60 if by_session else 100)
        assert [stage["name"] for stage in summary["stages"]][-1] == "finetune_policy"
        record = json.loads((run / "record" / "task.json").read_text())
        assert (record["obs_dim"], record["action_low"], record["action_high"]) == (2, [-2.0], [2.0])
