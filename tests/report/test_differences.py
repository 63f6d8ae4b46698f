"""Runs that differ in a setting are arms of their own."""

import json
import shutil

import pytest

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
    _set(folder / "ratio 1" / "2", start_ratio=1.0, hidden_dims=[8, 8])
    others = "hidden dims 8 8, start ratio 1"
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


def test_what_no_score_depends_on_makes_no_arm(folder):
    _set(folder / "ratio 1" / "2", logdir="elsewhere", horizon=7, threads=3)
    assert ("ratio 1", 2) in _arms(folder)


def test_a_run_from_before_a_setting_has_its_default(folder):
    for path in folder.rglob("hyper_param.json"):
        recorded = json.loads(path.read_text())
        recorded.pop("collect_deterministic" if "control" in str(path) else "seed_of_nothing", None)
        path.write_text(json.dumps(recorded))
    assert ("ratio 1", 1) in _arms(folder) and ("control no-online-data", 1) in _arms(folder)


def test_a_repeated_run_is_no_further_seed(folder):
    shutil.copytree(folder / "ratio 1" / "1", folder / "again")
    row = score_table(find_runs([folder])).rows[0]
    assert row[2:4] == ["ratio 1", "2"]
