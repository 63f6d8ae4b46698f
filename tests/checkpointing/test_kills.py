"""A run that was killed, wherever it was, ends as if it had not been."""

import csv
import json
import os
import random
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from conftest import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SETTINGS = (
    "--task",
    "hopper-medium-v2",
    "--preset",
    "smoke",
    "--source",
    "recipe",
    "--seed",
    "3",
    "--threads",
    "1",
    "--rounds",
    "2",
    "--final-episodes",
    "3",
    "--online-steps",
    "120",
    "--explore-share",
    "0.5",
    "--return-floor",
    "0.9",
    "--max-action-change",
    "0.3",
    "--stop-rule",
    "stop_rules:is_low",
    "--checkpoint-every",
    "1",
    "--wandb",
    "off",
    "--guard",
    "off",
)
GUARDED = ("--guard", "on", "--rounds", "auto", "--round-steps", "60", "--exploration-ratio", "auto")


def _run(kill_at, counter, *argv):
    """killed_run.py; its exit code, which is -SIGKILL where it was killed."""
    command = [
        sys.executable,
        str(ROOT / "tests" / "checkpointing" / "killed_run.py"),
        str(kill_at),
        str(counter),
        *map(str, argv),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def _whole(folder, *argv):
    """The directory of a run that nothing interrupted, and {stage: the event in the middle of its last round}."""
    assert _run(0, folder / "counter", *SETTINGS, *argv, "--logdir", folder) == 0
    (run_dir,) = folder.glob("*/*/seed_3*")
    names, starts = zip(*(line.split() for line in (folder / "counter.starts").read_text().splitlines()), strict=True)
    ends = [*map(int, starts[1:]), int((folder / "counter.total").read_text())]
    return run_dir, {name: (int(start) + end) // 2 for name, start, end in zip(names, starts, ends, strict=True)}


@pytest.fixture(scope="module")
def whole(_own_data_folder, tmp_path_factory):
    """See _whole."""
    return _whole(tmp_path_factory.mktemp("whole"))


def _killed_and_resumed(folder, kills, *argv):
    """The directory of a run that was killed at each of the events ``kills``, in rising order; the stages it was in."""
    counter = folder / "counter"
    assert _run(kills[0], counter, *SETTINGS, *argv, "--logdir", folder) == -signal.SIGKILL
    (run_dir,) = folder.glob("*/*/seed_3*")
    for kill in [*kills[1:], 0]:
        code = _run(kill, counter, "--resume", run_dir)
        assert code == (-signal.SIGKILL if kill else 0)
    return run_dir, (folder / "counter.places").read_text().splitlines()


def _assert_same_run(one, other):
    summaries = [json.loads((run / "result" / "summary.json").read_text()) for run in (one, other)]
    for summary in summaries:
        del summary["command"]
        for stage in summary["stages"]:
            del stage["seconds"]
    assert summaries[0] == summaries[1]
    paths = ["model/policy.pth", "model/dynamics.pth", "checkpoint/exploration_policy.pth"]
    for path in paths if summaries[0]["control"] is None else paths[:2]:
        states = [torch.load(run / path, weights_only=True) for run in (one, other)]
        for name, tensor in states[0].items():
            assert torch.equal(tensor, states[1][name]), (path, name)
    if summaries[0]["control"] is None:
        _assert_same_steps(one / "result/online_buffer.hdf5", other / "result/online_buffer.hdf5")
    for name in ("policy_training_progress.csv", "dynamics_training_progress.csv"):
        rows = [list(csv.DictReader((run / "record" / name).read_text().splitlines())) for run in (one, other)]
        assert rows[0] == rows[1]
    scalars = []
    for run in (one, other):
        events = EventAccumulator(str(run / "record" / "tb")).Reload()
        scalars.append({tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]})
    assert scalars[0] == scalars[1]


def _assert_same_steps(one, other):
    with h5py.File(one) as a, h5py.File(other) as b:
        for name in ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts", "infos/qpos"):
            np.testing.assert_array_equal(a[name][()], b[name][()], err_msg=name)


def _random_events(total, count, seed):
    return sorted(random.Random(seed).sample(range(1, total), count))


def test_a_run_killed_three_times_ends_as_if_it_had_not_been(whole, tmp_path):
    run_dir, middles = whole
    last = middles["final_evaluation"]
    resumed, places = _killed_and_resumed(tmp_path, [*_random_events(last, 2, seed=1), last])
    assert places[-1] == "final_evaluation 2"
    with h5py.File(run_dir / "result" / "online_buffer.hdf5") as steps:
        assert len(steps["rewards"]) == 240  # two rounds
    _assert_same_run(resumed, run_dir)


@pytest.mark.slow
def test_a_control_that_is_killed_in_stages_4_and_5_ends_as_if_it_had_not_been(whole, tmp_path_factory):
    folders = [tmp_path_factory.mktemp("control") for _ in range(2)]
    argv = ("--pretrained", whole[0], "--control", "no-online-data", "--rounds", "1", "--final-episodes", "0")
    run_dir, middles = _whole(folders[0], *argv)
    stages = ["finetune_dynamics", "finetune_policy"]
    resumed, places = _killed_and_resumed(folders[1], [middles[stage] for stage in stages], *argv)
    assert places == [f"{stage} 1" for stage in stages]
    _assert_same_run(resumed, run_dir)
    assert {stage["env_steps"] for stage in json.loads((run_dir / "result/summary.json").read_text())["stages"]} == {0}


@pytest.mark.slow
def test_a_guarded_run_that_is_killed_in_each_of_its_steps_decides_as_if_it_had_not_been(tmp_path_factory):
    """Among the candidates of the ratio, in stage 4, and in stage 5 or where a refused round leaves it out."""
    folders = [tmp_path_factory.mktemp("guarded") for _ in range(2)]
    run_dir, middles = _whole(folders[0], *GUARDED)
    stages = [name for name in middles if name in ("choose_ratio", "finetune_dynamics", "finetune_policy")]
    resumed, places = _killed_and_resumed(folders[1], sorted(middles[stage] for stage in stages), *GUARDED)
    assert {place.split()[0] for place in places} == set(stages) >= {"choose_ratio", "finetune_dynamics"}
    _assert_same_run(resumed, run_dir)
    summary = json.loads((run_dir / "result/summary.json").read_text())
    assert summary["guard"] and len(summary["ratio_choice"]) == summary["rounds"]


@pytest.mark.slow
def test_a_run_killed_at_25_random_points_ends_as_if_it_had_not(whole, tmp_path):
    run_dir, middles = whole
    last = middles["final_evaluation"]
    resumed, places = _killed_and_resumed(tmp_path, [*_random_events(last, 24, seed=2), last])
    _assert_same_run(resumed, run_dir)
    print(*places, sep="\n")
    assert len(places) == 25
    assert {place.split()[0] for place in places} == {
        "pretrain",
        "explore",
        "collect",
        "finetune_dynamics",
        "finetune_policy",
        "final_evaluation",
    }
