"""Runs that differ in a setting are arms of their own."""

import dataclasses
import json
import shutil

import pytest

from doof_ext.config import BaselineConfig, Config, resolve
from doof_ext.report.runs import find_runs, gains_over
from doof_ext.report.score_tables import score_table


@pytest.fixture
def folder(runs_folder, tmp_path):
    """HP-m's runs of ratio 1 and their controls, to be changed."""
    for run in find_runs([runs_folder]):
        if run.task == "hopper-medium-v2" and run.arm in ("ratio 1", "control no-online-data"):
            shutil.copytree(run.directory, tmp_path / run.arm / str(run.seed))
    return tmp_path


def _set(folder, **settings):
    path = folder / "record" / "hyper_param.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def _arms(folder):
    return {(run.arm, run.seed) for run in find_runs([folder])}


def test_a_run_unlike_most_is_an_arm_of_its_own_and_has_other_controls(folder):
    _set(folder / "ratio 1" / "2", finetune_real_ratio=0.5, hidden_dims=[8, 8])
    others = "hidden dims 8 8, finetune real ratio 0.5"
    assert _arms(folder) == {
        ("ratio 1", 1),
        (f"ratio 1, {others}", 2),
        ("control no-online-data", 1),
        ("control no-online-data", 2),
    }
    assert [row[2:4] for row in score_table(find_runs([folder])).rows][:2] == [
        ["ratio 1", "1"],
        [f"ratio 1, {others}", "1"],
    ]
    runs = find_runs([folder])
    usual, unlike = ([run for run in runs if run.arm == arm] for arm in ("ratio 1", f"ratio 1, {others}"))
    assert len(gains_over(usual, runs, "no-online-data")) == 1 and not gains_over(unlike, runs, "no-online-data")


def test_the_controls_of_a_run_that_explores_otherwise_are_the_same(folder):
    _set(folder / "ratio 1" / "2", explore_epochs=30)
    runs = find_runs([folder])
    (unlike,) = (run for run in runs if run.arm == "ratio 1, explore epochs 30")
    assert len(gains_over([unlike], runs, "no-online-data")) == 1


def test_where_there_is_no_most_all_are_named(folder):
    for arm in ("ratio 1", "control no-online-data"):
        _set(folder / arm / "2", finetune_epochs=7)
    assert ("ratio 1, finetune epochs 3", 1) in _arms(folder) and ("ratio 1, finetune epochs 7", 2) in _arms(folder)


def test_presets_are_named_and_not_what_they_set(folder):
    for arm in ("ratio 1", "control no-online-data"):
        _set(folder / arm / "2", preset="lite", epoch=100)
    assert ("ratio 1, preset lite", 2) in _arms(folder) and ("ratio 1, preset smoke", 1) in _arms(folder)


def test_methods_whose_products_are_rounded_otherwise_say_so(folder):
    """DOOF's runs and a method's are not beside each other, but the precision is both's."""
    (folder / "IQL" / "1" / "record").mkdir(parents=True)
    chosen = dict(algo="iql", task="hopper-medium-v2", preset="smoke", matmul_precision="medium")
    settings = dataclasses.asdict(resolve(BaselineConfig(**chosen), set(chosen)))
    (folder / "IQL" / "1" / "record" / "hyper_param.json").write_text(json.dumps(settings))
    doof = {(arm, seed) for arm in ("ratio 1", "control no-online-data") for seed in (1, 2)}
    assert _arms(folder) == doof | {("IQL, matmul precision medium", 1)}


def test_what_no_score_depends_on_makes_no_arm(folder):
    _set(folder / "ratio 1" / "2", logdir="elsewhere", distance_samples=7, threads=3)
    assert ("ratio 1", 2) in _arms(folder)


def test_a_run_from_before_a_setting_has_its_default(folder):
    path = folder / "ratio 1" / "1" / "record" / "hyper_param.json"
    recorded = json.loads(path.read_text())
    assert recorded.pop("start_ratio") == Config.start_ratio
    path.write_text(json.dumps(recorded))
    assert ("ratio 1", 1) in _arms(folder)
    path.write_text(json.dumps(recorded | {"start_ratio": 0.25}))
    assert ("ratio 1, start ratio 0.25", 1) in _arms(folder)


def test_a_repeated_run_is_no_further_seed(folder):
    shutil.copytree(folder / "ratio 1" / "1", folder / "again")
    runs = find_runs([folder])
    assert next(row[2:4] for row in score_table(runs).rows) == ["ratio 1", "2"]
    (aside,) = (run for run in runs if run.problem)
    assert aside.problem.startswith("not counted: the same run is ") and aside.summary is None


def test_a_run_that_was_stopped_and_made_again_is_set_aside(folder):
    shutil.copytree(folder / "ratio 1" / "1", folder / "stopped")
    (folder / "stopped" / "result" / "summary.json").unlink()
    (aside,) = (run for run in find_runs([folder]) if run.problem)
    assert aside.directory == str(folder / "stopped")


def _beside_ratio_0(folder, runs_folder, **settings):
    source = next(run for run in find_runs([runs_folder]) if run.task == "hopper-medium-v2" and run.arm == "ratio 0")
    shutil.copytree(source.directory, folder / "zero")
    _set(folder / "zero", **settings)
    runs = find_runs([folder])
    return len(gains_over([run for run in runs if run.arm.startswith("ratio 1")], runs, "ratio 0"))


def test_ratio_0_is_beside_runs_that_explore_otherwise(folder, runs_folder):
    assert _beside_ratio_0(folder, runs_folder, explore_epochs=30) == 1


def test_ratio_0_is_not_beside_runs_that_collected_otherwise(folder, runs_folder):
    assert _beside_ratio_0(folder, runs_folder, online_steps=7) == 0


def test_what_comes_from_online_data_is_nothing_to_a_control(folder):
    _set(folder / "ratio 1" / "2", start_ratio=1.0, finetune_dynamics_online_ratio=0.25)
    runs = find_runs([folder])
    (unlike,) = (run for run in runs if "start ratio 1" in run.arm)
    assert len(gains_over([unlike], runs, "no-online-data")) == 1


def test_seeds_whose_automatic_rounds_ended_apart_have_their_own_controls(folder):
    for seed, rounds in (("1", 1), ("2", 3)):
        _set(folder / "ratio 1" / seed, rounds="auto")
        path = folder / "ratio 1" / seed / "result" / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"rounds": rounds}))
    runs = find_runs([folder])
    members = [run for run in runs if run.arm == "ratio 1, automatic rounds"]
    assert len(members) == 2
    for order in (members, members[::-1]):
        assert len(gains_over(order, runs, "no-online-data")) == 1  # the control of one round beside seed 1's


def test_runs_of_other_tasks_with_other_budgets_are_other_arms(folder, runs_folder):
    source = next(run for run in find_runs([runs_folder]) if run.task == "walker2d-random-v2" and run.arm == "ratio 1")
    shutil.copytree(source.directory, folder / "walker")
    _set(folder / "walker", finetune_epochs=9)
    assert "ratio 1, finetune epochs 9" in {run.arm for run in find_runs([folder]) if run.task == "walker2d-random-v2"}


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_dims": [[1]]},
        {"hidden_dims": {"a": 1}},
        {"guard": {"a": 1}},
        {"start_ratio": "much"},
        {"exploration_ratio": None, "exploration_coef": None},
    ],
)
def test_settings_of_strange_content_are_named_and_the_rest_is_shown(folder, settings):
    _set(folder / "ratio 1" / "2", **settings)
    runs = find_runs([folder])
    (damaged,) = (run for run in runs if run.problem)
    assert "is damaged" in damaged.problem and damaged.summary is None
    assert len(score_table(runs).rows) == 2
