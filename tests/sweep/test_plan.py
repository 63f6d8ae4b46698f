"""Which runs are the same, which share a stage 1, and who may start when."""

import os

import pytest
from conftest import ROOT
from tiny_runs import TINY

from doof_ext.config import BaselineConfig, given_flags
from doof_ext.config.parser import settings_from
from doof_ext.errors import UserError
from doof_ext.sweep.grid import expand, read_grid
from doof_ext.sweep.plan import Queue, check_data_files, find_run, identity, plan_runs, recorded_runs, stage1


def _runs(*arms, logdir="log"):
    return plan_runs([*TINY, "--logdir", str(logdir), *arm.split()] for arm in arms)


def _taken(queue):
    return [run.arm for run in iter(queue.take, None)]


def test_a_run_is_planned_once():
    runs = _runs("--exploration-ratio 1", "", "--exploration-ratio 1 --threads 3", "--exploration-ratio 0")
    assert [run.arm for run in runs] == ["ratio 1", "ratio 0"]


def test_an_arm_is_named_by_what_is_its_own():
    flags = ["--rounds 3", "--control extra-training", "--uncertainty count --rounds 1", "--gamma 0.9"]
    flags.append("--task pen-human-v1 --epoch 3")
    assert [run.arm for run in _runs(*flags)] == [
        "ratio 1, rounds 3",
        "control extra-training",
        "ratio 1, uncertainty count, rounds 1",
        "ratio 1, gamma 0.9",
        "ratio 1",  # its epochs are those of all runs of its task
    ]


def test_a_baseline_has_doofs_flags_as_far_as_it_knows_them():
    runs = _runs(
        "--exploration-ratio 1 --epoch 3", "--baseline iql --epoch 3", "--baseline cql --algo mobile --epoch 3"
    )
    assert [run.arm for run in runs] == ["ratio 1", "IQL", "CQL"]
    iql, cql = (run.config for run in runs[1:])
    assert (iql.algo, iql.task, iql.seed, iql.epoch, iql.online_steps) == ("iql", "hopper-random-v2", 1, 3, 50)
    assert iql.dataset_steps == 400 and cql.algo == "cql"
    assert settings_from(given_flags(runs[1].argv, settings=BaselineConfig), BaselineConfig) == iql
    assert len({run.stage1 for run in runs}) == 3
    _, own = _runs("--guard on --expectile 0.8", "--baseline iql --guard on --expectile 0.8")
    assert own.config.expectile == 0.8
    for flags in ("--expectile 0.8", "--baseline iql --expectil-e 0.8"):
        with pytest.raises(UserError, match=r"--expectile: mopo has no such|unrecognized arguments: --expectil-e"):
            _runs(flags)
    in_model, _ = _runs("--algo doof-iql --expectile 0.8", "--baseline iql")
    assert in_model.config.expectile == 0.8 and in_model.config.algo == "doof-iql"
    with pytest.raises(UserError, match="--conservatism: iql has no such setting"):
        _runs("--baseline iql --conservatism 3")
    with pytest.raises(UserError, match="unknown baseline 'iqll'; did you mean iql"):
        _runs("--baseline iqll")


def test_an_arm_without_a_ratio_is_named_by_its_coefficient():
    (run,) = _runs("--penalty-coef 0 --exploration-coef 0.5")
    assert run.arm == "exploration coef 0.5"


@pytest.mark.parametrize("flags", ["--resume x", "--pretrained x"])
def test_what_the_sweep_does_itself_is_refused(flags):
    with pytest.raises(UserError, match="is not for a sweep"):
        _runs(flags)


def test_a_data_file_must_be_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = plan_runs([["--preset", "smoke", "--source", "hdf5:pen.hdf5"]])
    message = rf"hopper-medium-v2, seed 1, ratio 1: --source hdf5:{tmp_path}/pen\.hdf5: there is no such file"
    with pytest.raises(UserError, match=message):
        check_data_files(runs)
    (tmp_path / "pen.hdf5").touch()
    check_data_files(runs)


@pytest.mark.parametrize(
    ("flags", "shared"),
    [
        ("--exploration-ratio 0", True),
        ("--control extra-training", True),
        ("--control no-online-data", True),
        ("--finetune-dynamics-epochs 7", True),
        ("--final-episodes 7", True),
        ("--rounds 2", True),
        ("--finetune-epochs 7", True),
        ("--threads 2", True),
        ("--penalty-coef 7", False),
        ("--seed 2", False),
        ("--uncertainty count", False),
        ("--algo mobile", False),
        ("--dataset-steps 500", False),
        ("--epoch 3", False),
    ],
)
def test_stage_1_is_shared_where_it_is_the_same(flags, shared):
    one, other = _runs("", f"{flags} --gamma 0.99 --online-steps 60")
    assert (one.stage1 == other.stage1) == shared and one.identity != other.identity


def test_one_run_of_each_stage_1_goes_ahead_and_the_others_follow():
    runs = _runs("--exploration-ratio 0", "", "--control extra-training", "--seed 2", "--seed 2 --exploration-ratio 0")
    queue = Queue(runs)
    assert _taken(queue) == ["ratio 0", "ratio 1"]  # seed 1's first, seed 2's first
    assert queue.ended(runs[1]) == []  # not the one that trains it
    queue.stage1_is_there(runs[0], "somewhere")
    assert _taken(queue) == ["ratio 1", "control extra-training"]
    assert queue.pretrained[runs[1].stage1] == "somewhere"
    assert queue.ended(runs[0]) == []
    assert queue.ended(runs[3]) == [runs[4]] and not queue.waiting


def test_what_the_log_directory_has_is_found_and_shared(runs_folder, tiny):
    (ratio_1, ratio_0) = (
        tiny(task="hopper-medium-v2", source="recipe", dataset_steps=400, finetune_epochs=3, exploration_ratio=ratio)
        for ratio in (1.0, 0.0)
    )
    found = recorded_runs(runs_folder, "hopper-medium-v2")
    assert len(found) == 9 and all(run.finished for run in found)
    for config in (ratio_0, ratio_1):
        config.logdir = str(runs_folder)
        assert f"exploration_ratio={config.exploration_ratio:g}" in find_run(config).directory
    config.seed = 7
    assert find_run(config) is None
    assert len({identity(run.settings) for run in found}) == 9
    assert len({stage1(run.settings) for run in found}) == 2  # of two seeds
    queue = Queue([], found)
    assert {os.path.exists(os.path.join(path, "checkpoint", "pretraining")) for path in queue.pretrained.values()} == {
        True
    }


def test_a_run_that_has_begun_goes_ahead(tmp_path):
    first, second = runs = _runs("--exploration-ratio 0", "--exploration-ratio 1", logdir=tmp_path)
    queue = Queue(runs)
    queue._begun.add(second.identity)
    assert queue.take() is second and queue.take() is None and queue.waiting == [first]


def _study(name):
    argvs = [argv for table in read_grid(ROOT / "studies" / f"{name}.toml") for argv in expand(table)]
    runs = plan_runs(argvs)
    assert len(runs) == len(argvs)
    return runs


def test_the_study_of_precisions_has_runs_of_the_short_one_at_medium():
    short, runs = {run.identity for run in _study("short")}, _study("precision")
    assert [run.config.matmul_precision for run in runs] == ["medium"] * 3
    assert {identity(vars(run.config) | {"matmul_precision": "highest"}) for run in runs} < short


def test_the_lite_study_has_its_runs_in_the_order_of_what_they_tell(monkeypatch):
    monkeypatch.setenv("PEN_HUMAN_DEMOS", "/somewhere/demos.hdf5")
    runs = _study("lite")
    tables = [
        ("halfcheetah-random-v2", 1, "all"),
        *(("halfcheetah-random-v2", seed, "") for seed in (2, 3)),
        *((task, 1, "all") for task in ("hopper-medium-v2", "walker2d-random-v2")),
        ("halfcheetah-random-v2", 1, "ratios"),
        ("halfcheetah-random-v2", 1, "rounds"),
        *(("hopper-medium-v2", seed, "") for seed in (2, 3)),
        ("hopper-random-v2", 1, "all"),
        *(("halfcheetah-random-v2", 1, "") for _ in ("count", "mobile")),
        *((task, 1, "all") for task in ("pen-human-v1", "halfcheetah-medium-v2", "walker2d-medium-replay-v2")),
        *(("walker2d-random-v2", seed, "") for seed in (2, 3)),
    ]
    arms = {
        "": ["no-online-data", 0.0, 1.0],
        "all": ["no-online-data", "extra-training", 0.0, 1.0],
        "ratios": [0.25, 0.5, 2.0],
        "rounds": ["no-online-data", 1.0],
    }
    wanted = [(task, seed, arm) for task, seed, kind in tables for arm in arms[kind]]
    assert [(run.config.task, run.config.seed, run.config.control or run.config.exploration_ratio) for run in runs] == (
        wanted
    )
    assert {run.config.preset for run in runs} == {"lite"} and len({run.stage1 for run in runs}) == 15
    assert {run.config.source for run in runs} == {"auto", "hdf5:/somewhere/demos.hdf5"}
    assert [(run.config.uncertainty, run.config.algo) for run in runs[33:39]] == (
        [("count", "mopo")] * 3 + [("mobile", "mobile")] * 3
    )


def test_the_paper_study_is_two_tasks_at_the_papers_budget():
    runs = _study("paper")
    assert {(run.config.preset, run.config.epoch, run.config.seed) for run in runs} == {("paper", 3000, 1)}
    for task in ("halfcheetah-medium-replay-v2", "halfcheetah-random-v2"):
        found = [run for run in runs if run.config.task == task]
        assert [run.arm for run in found] == ["control no-online-data", "control extra-training", "ratio 0", "ratio 1"]
        assert len({run.stage1 for run in found}) == 1
    assert len(runs) == 8
