"""The scripts beside run_doof.py, as a user types them."""

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import needs_adroit

from doof_ext.checkpointing.training_state import TrainingState
from doof_ext.cli.data import main
from doof_ext.data.dataset import Dataset, read_dataset, write_dataset
from doof_ext.tasks import make_env
from doof_ext.uncertainty import estimator_names

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "run_example"


def _run(script, *argv, cwd):
    command = [sys.executable, str(EXAMPLES / script), *map(str, argv)]
    return subprocess.run(command, cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def _texts(folder, name):
    return [path.read_text() for path in sorted(folder.rglob(name))]


def _summary(logdir):
    (path,) = Path(logdir).glob("*/*/*/result/summary.json")
    return json.loads(path.read_text())


def test_make_dataset_writes_a_recipe_and_describes_it(tmp_path):
    made = _run("make_dataset.py", "--task", "hopper-random-v2", "--steps", 500, "--out", "d.hdf5", cwd=tmp_path)
    assert made.returncode == 0 and "d.hdf5: 500 steps" in made.stdout, made.stderr
    told = _run("make_dataset.py", "--info", "d.hdf5", cwd=tmp_path).stdout
    for words in (
        "transitions                          500             1000000",
        "11 observed, 3 acted",
        "normalised",
        "qpos [6]",
        "recipe          hopper-random-v2",
        "physics check: the environment reproduces",
    ):
        assert words in told, words
    cut = _run(
        "make_dataset.py",
        "--task",
        "hopper-random-v2",
        "--source",
        "hdf5:d.hdf5",
        "--steps",
        100,
        "--out",
        "e.hdf5",
        cwd=tmp_path,
    )
    assert (
        "100 steps" in cut.stdout
        and "recipe          hopper-random-v2" in _run("make_dataset.py", "--info", "e.hdf5", cwd=tmp_path).stdout
    )


ROBOT = """
import gymnasium
import numpy as np


class Robot(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=2), {}

    def step(self, action):
        return self.np_random.normal(size=2), 1.0, False, False, {}


gymnasium.register("MyRobot-v0", Robot)
"""


def test_a_module_in_the_working_folder_is_an_environment_by_every_command(tmp_path):
    (tmp_path / "my_package.py").write_text(ROBOT)
    own = ["--env-id", "my_package:MyRobot-v0"]
    made = _run(
        "make_dataset.py", *own, "--source", "random", "--steps", 30, "--max-episode-steps", 10, "--out", "d.hdf5",
        cwd=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0 and "d.hdf5: 30 steps" in made.stdout, made.stderr
    told = _run("make_dataset.py", *own, "--max-episode-steps", 10, "--info", "d.hdf5", cwd=tmp_path).stdout
    assert "episodes                               3" in told and "mean length                         10.0" in told
    endless = _run("make_dataset.py", *own, "--source", "random", "--out", "e.hdf5", cwd=tmp_path)
    assert endless.returncode == 2 and "(--max-episode-steps), else one may never end" in endless.stderr
    rest = ["--max-episode-steps", 10, "--termination", "never", "--source", "hdf5:none.hdf5"]
    done = _run("run_doof.py", *own, *rest, cwd=tmp_path)
    assert done.returncode == 2 and "no dataset file at" in done.stderr  # the environment was made and checked


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "give --task"),
        (["--task", "hopper-random-v2", "--max-episode-steps", "9", "--out", "d.hdf5"], "goes with --env-id"),
        (["--task", "pen-human-v1", "--out", "d.hdf5"], "--source dapg:FILE"),
        (["--task", "pen-human-v1", "--source", "dapg:a.pickle", "--out", "d.hdf5"], "a.pickle cannot be read"),
        (["--task", "hopper-random-v2", "--steps", "1", "--out", "d.hdf5"], "--steps is 1"),
        (["--info", "none.hdf5"], "no dataset file"),
        (["--steps", "many"], "invalid int"),
        (["--source", "hdf5:none.hdf5", "--out", "d.hdf5"], "no dataset file at none.hdf5"),
    ],
)
def test_make_datasets_bad_input_is_one_line(tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("task", "source", "message"),
    [
        ("hopper-medium-v2", "clone:a.hdf5", "hopper-medium-v2 cannot be made from --source clone:FILE"),
        ("pen-cloned-v1", "dapg:a.pickle", "pen-human-v1 from dapg:FILE, pen-cloned-v1 from clone:FILE"),
        ("pen-cloned-v1", "clone:a.hdf5", "no dataset file at a.hdf5"),
        ("pen-cloned-v1", "clone:", "give --source clone:FILE"),
    ],
)
def test_what_the_pens_files_cannot_be_made_from_is_one_line(tmp_path, monkeypatch, capsys, task, source, message):
    monkeypatch.chdir(tmp_path)
    assert main(["--task", task, "--source", source, "--out", "d.hdf5"]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert message in told and not list(tmp_path.iterdir())


@needs_adroit
def test_the_pens_two_files_are_made_from_demonstrations_in_hand_dapgs_form(tmp_path):
    env, rng = make_env("pen-human-v1", seed=0), np.random.default_rng(0)
    listed = []
    for length in (30, 20):
        env.reset()
        listed.append({"actions": rng.uniform(-1, 1, (length, 24)), "init_state_dict": env.state()})
    (tmp_path / "demos.pickle").write_bytes(pickle.dumps(listed))
    for task, source, steps, made in (
        ("pen-human-v1", "dapg:demos.pickle", ("--steps", 45), "human.hdf5: 45 steps"),
        ("pen-cloned-v1", "clone:human.hdf5", ("--steps", 120), "cloned.hdf5: 120 steps"),
    ):
        argv = ("--task", task, "--source", source, *steps, "--out", made.split(":")[0])
        done = _run("make_dataset.py", *argv, cwd=tmp_path)
        assert done.returncode == 0 and made in done.stdout, done.stderr
    told = _run("make_dataset.py", "--info", "cloned.hdf5", cwd=tmp_path).stdout
    for words in ("recipe          pen-cloned-v1", "desired_orien [4]", "physics check: the environment reproduces"):
        assert words in told, words
    assert "D4RL's file" not in told


@needs_adroit
def test_the_pen_runs_on_a_small_labelled_file_of_random_actions(tmp_path):
    made = _run(
        "make_dataset.py",
        "--task",
        "pen-cloned-v1",
        "--source",
        "random",
        "--steps",
        600,
        "--out",
        "pen.hdf5",
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stderr
    done = _run(
        "run_doof.py",
        "--task",
        "pen-cloned-v1",
        "--source",
        "hdf5:pen.hdf5",
        "--preset",
        "smoke",
        "--wandb",
        "off",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "RECIPE pen-cloned-v1 with uniform random actions" in done.stdout and "not D4RL's data" in done.stdout
    assert "physics check: the environment reproduces" in done.stdout
    summary = _summary(tmp_path / "log")
    assert summary["dataset"]["source"] == "recipe" and summary["physics"] == "d4rl"
    assert summary["distance"]["fake_buffer"]["before"]["mean"] > 0


def test_the_quickstart_shows_doof_beside_its_control_and_a_report(tmp_path):
    done = _run("quickstart.py", "--task", "hopper-random-v2", "--preset", "smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {summary["control"]: summary for summary in map(json.loads, _texts(tmp_path, "summary.json"))}
    control, doof = found["no-online-data"], found[None]
    assert control["scores"]["pretrained"] == doof["scores"]["pretrained"]
    assert (control["online_steps"], doof["online_steps"]) == (0, 300)
    over = doof["gain"] - control["gain"]
    assert f"({over:+.1f} over the control no-online-data)" in done.stdout
    assert f"the control no-online-data: score {control['scores']['finetuned']['last_10']:.1f}" in done.stdout
    assert done.stdout.endswith("report: report/report.html\n")
    assert "no-online-data" in (tmp_path / "report" / "report.html").read_text()


def test_a_file_that_names_a_task_of_other_dimensions_is_one_line(tmp_path, capsys):
    columns = dict.fromkeys(("rewards", "terminals", "timeouts"), np.zeros(5))
    wide = np.zeros((5, 4), np.float32)
    steps = Dataset(wide, wide[:, :1], wide, metadata={"task": "hopper-medium-v2"}, **columns)
    write_dataset(tmp_path / "d.hdf5", steps)
    assert main(["--info", str(tmp_path / "d.hdf5")]) == 2
    assert "it observes 4 and acts 1 numbers, hopper-medium-v2 11 and 3; give --task" in capsys.readouterr().err


def test_a_file_of_an_unknown_system_is_shortened_without_a_task(tmp_path, monkeypatch, dataset):
    monkeypatch.chdir(tmp_path)
    write_dataset("d.hdf5", dataclasses.replace(dataset, metadata={}))
    assert main(["--source", "hdf5:d.hdf5", "--steps", "50", "--out", "e.hdf5"]) == 0
    short = read_dataset("e.hdf5")
    assert len(short) == 50 and np.array_equal(short.rewards, dataset.rewards[:50]) and short.timeouts[-1]


def test_your_own_task_runs_as_the_example_shows(tmp_path):
    done = _run("run_own_task.py", "--steps", 1000, "--preset", "smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = _summary(tmp_path / "log")
    assert summary["task"] == "my-pendulum" and summary["dataset"]["source"] == "hdf5"
    assert len(summary["stages"]) == 5 and summary["online_steps"] == 300
    assert summary["distance"]["fake_buffer"]["before"] == {"mean": None, "max": None}


def test_your_own_task_goes_on_by_its_script(tmp_path, monkeypatch):
    """As after a Ctrl-C in stage 1's first epoch."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    import run_own_task

    flags = ["run_own_task.py", "--steps", "400", "--preset", "smoke"]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", flags)
        patch.setattr(TrainingState, "after_epoch", _interrupted)
        assert run_own_task.main() == 130
    (run,) = (tmp_path / "log").glob("my-pendulum/*/seed_1*")
    monkeypatch.setattr(sys, "argv", [*flags, "--resume", str(run)])
    assert run_own_task.main() == 0 and (run / "result" / "summary.json").exists()


def _interrupted(self):
    self._signals.received = signal.SIGINT
    self.after_step()


def test_your_own_task_runs_as_on_a_real_system_too(tmp_path):
    done = _run("run_own_task.py", "--steps", 400, "--preset", "smoke", "--by-hand", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "log").glob("my-pendulum/*/seed_1*")
    assert f"next: collect_by_hand.py '{run.relative_to(tmp_path)}' --env-id Pendulum-v1 --steps 300" in done.stdout
    collected = _run("collect_by_hand.py", run, "--env-id", "Pendulum-v1", "--steps", 300, cwd=tmp_path)
    assert collected.returncode == 0 and "300 in all" in collected.stdout, collected.stderr
    done = _run("run_doof.py", "--resume", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = _summary(tmp_path / "log")
    assert summary["physics"] == "none" and summary["online_steps"] == 300 and summary["gain"] is None
    assert summary["model_return"]["finetuned"]["mean"] < 0


def test_your_own_environment_runs_from_the_command_line(tmp_path):
    (tmp_path / "my_rules.py").write_text("def fallen(obs, act, next_obs):\n    return abs(next_obs[:, 1:2]) > 0.2\n")
    own = ("--env-id", "InvertedPendulum-v5")
    _run("make_dataset.py", *own, "--source", "random", "--steps", 500, "--out", "d.hdf5", cwd=tmp_path)
    done = _run(
        "run_doof.py",
        *own,
        "--termination",
        "my_rules:fallen",
        "--source",
        "hdf5:d.hdf5",
        "--preset",
        "smoke",
        "--wandb",
        "off",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (
        "the termination rule" not in done.stdout
        and "not measured, for no simulator starts in its states" in done.stdout
    )
    assert _summary(tmp_path / "log")["task"] == "InvertedPendulum-v5"


def test_estimators_are_compared_in_a_table(tmp_path):
    """Every estimator is a row: u of three kinds of pairs, and how it ranks them beside the true distance."""
    done = _run("compare_uncertainty.py", "--preset", "smoke", "--dataset-steps", 1000, "--wandb", "off", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    assert [row[0] for row in rows[2:]] == estimator_names()
    assert all(float(cell) > 0 for row in rows[2:] for cell in row[1:4])
    assert all(-1 <= float(row[4]) <= 1 for row in rows[2:])
