"""Run directories as they are found: whole, unfinished, damaged, and those that may not stand together."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doof_ext.errors import UserError
from doof_ext.report.runs import check_alike, find_runs


@pytest.fixture
def one(runs_folder, tmp_path):
    """A copy of one run's directory that a test may damage."""
    source = next(run for run in find_runs([runs_folder]) if run.arm == "ratio 1")
    shutil.copytree(source.directory, tmp_path / "log" / "run")
    return tmp_path / "log" / "run"


def test_all_runs_are_found_in_order(runs_folder):
    runs = find_runs([runs_folder])
    assert [(run.paper_name, run.arm, run.seed) for run in runs] == [
        ("HP-m", "ratio 0", 1),
        ("HP-m", "ratio 0", 2),
        ("HP-m", "ratio 1", 1),
        ("HP-m", "ratio 1", 2),
        ("HP-m", "ratio 1, 2 rounds", 1),
        ("HP-m", "control no-online-data", 1),
        ("HP-m", "control no-online-data", 2),
        ("HP-m", "control extra-training", 1),
        ("HP-m", "control extra-training", 2),
        ("WK-r", "ratio 0", 1),
        ("WK-r", "ratio 0", 2),
        ("WK-r", "ratio 1", 1),
        ("WK-r", "ratio 1", 2),
        ("WK-r", "control extra-training", 1),
        ("WK-r", "control extra-training", 2),
    ]
    assert not any(run.problem for run in runs) and {run.provenance for run in runs} == {"recipe"}
    (rounds,) = (run for run in runs if "rounds" in run.arm)
    assert [(round, steps) for round, steps, _ in rounds.finetuning()] == [
        (1, 4),
        (1, 8),
        (1, 12),
        (2, 16),
        (2, 20),
        (2, 24),
    ]
    assert set(rounds.distances) == {"data", "random_actions", "uniform", "fake_buffer", "online", "other"}
    for kind, both in rounds.distances.items():
        assert rounds.summary["distance"][kind]["after"]["mean"] == pytest.approx(
            float(both["after"]["distance"].mean())
        )


def test_the_other_reading_of_stage_2_is_an_arm_of_its_own(one):
    path = one / "record" / "hyper_param.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"explore_rollouts": "penalty"}))
    (run,) = find_runs([one])
    assert run.arm == "ratio 1 with penalised rollouts"


def test_a_folder_without_runs_or_a_missing_one_is_refused(tmp_path):
    with pytest.raises(UserError, match="no run directories"):
        find_runs([tmp_path])
    with pytest.raises(UserError, match="is no folder"):
        find_runs([tmp_path / "none"])


def test_an_unfinished_run_says_how_far_it_is(one):
    (one / "result" / "summary.json").unlink()
    (run,) = find_runs([one.parent])
    assert run.summary is None and run.problem == "unfinished: stage 5, 6 epochs of policy training so far"
    (one / "record" / "policy_training_progress.csv").unlink()
    (run,) = find_runs([one.parent])
    assert run.problem == "unfinished: 4 epochs of dynamics training so far"
    (one / "record" / "dynamics_training_progress.csv").unlink()
    (run,) = find_runs([one.parent])
    assert run.problem == "unfinished"


def test_an_unfinished_run_says_whose_data_it_has(one):
    (one / "result" / "summary.json").unlink()
    settings = one / "record" / "hyper_param.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"source": "auto"}))
    (run,) = find_runs([one])
    assert run.provenance == "recipe"
    for damaged in ("{", "{}"):
        (one / "record" / "dataset.json").write_text(damaged)
        (run,) = find_runs([one])
        assert run.provenance == "unknown" and run.problem.startswith("unfinished")
    (one / "record" / "dataset.json").unlink()  # a run of an earlier version
    (run,) = find_runs([one])
    assert run.provenance == "unknown"


def test_seeds_of_automatic_rounds_are_one_arm_whatever_they_came_to(one):
    path, arms = one / "record" / "hyper_param.json", set()
    settings = json.loads(path.read_text()) | {"rounds": "auto", "exploration_ratio": "auto"}
    path.write_text(json.dumps(settings))
    for rounds in (1, 3):
        summary = one / "result" / "summary.json"
        summary.write_text(json.dumps(json.loads(summary.read_text()) | {"rounds": rounds}))
        (run,) = find_runs([one])
        arms.add(run.arm)
        assert run.rounds == rounds and ("3 rounds" in run.variant) is (rounds == 3)
    assert arms == {"ratio auto, automatic rounds"}
    path.write_text(json.dumps(settings | {"rounds": "three"}))
    assert "rounds is 'three'" in find_runs([one])[0].problem


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"task": 3}', None])
def test_a_damaged_summary_is_named_and_the_rest_still_read(one, runs_folder, content):
    path = one / "result" / "summary.json"
    if content is None:
        content = json.dumps(json.loads(path.read_text()) | {"scores": {"pretrained": {"mean": None, "std": 0}}})
    path.write_text(content)
    runs = find_runs([one.parent, runs_folder])
    (damaged,) = (run for run in runs if run.problem)
    assert "summary.json" in damaged.problem and damaged.summary is None and damaged.curve and len(runs) == 16


@pytest.mark.parametrize(
    "path", ["result/distances.npz", "record/policy_training_progress.csv", "record/hyper_param.json"]
)
def test_other_damaged_files_are_named(one, path):
    (one / path).write_bytes(b"PK\x03\x04 or not, \xff\n1,2,3")
    (run,) = find_runs([one.parent])
    assert path.rpartition("/")[2] in run.problem


@settings(max_examples=1000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from(
        [
            "scores",
            "distance",
            "dataset",
            "stages",
            "versions",
            "gain",
            "seed",
            "task",
            "physics",
            "scores/x",
            "distance/uniform",
            "scores/finetuned",
            "gain_over",
            "threads",
            "dataset/source",
        ]
    ),
)
def test_a_summary_of_strange_content_is_read_or_named(one, whole_summary, value, place):
    summary = json.loads(whole_summary)
    name, _, inner = place.partition("/")
    if inner:
        summary[name][inner] = value
    else:
        summary[name] = value
    (one / "result" / "summary.json").write_text(json.dumps(summary))
    (run,) = find_runs([one.parent])
    assert (run.summary is None) == bool(run.problem) and "\n" not in run.problem


@pytest.fixture
def whole_summary(one):
    return (one / "result" / "summary.json").read_text()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [(("preset",), "lite", "presets"), (("dataset", "source"), "d4rl", "provenance"), (("physics",), "x", "physics")],
)
def test_what_differs_in_kind_is_not_averaged(one, runs_folder, place, value, message):
    path = one / "result" / "summary.json"
    summary = json.loads(path.read_text())
    target = summary if len(place) == 1 else summary[place[0]]
    target[place[-1]] = value
    path.write_text(json.dumps(summary))
    if place == ("preset",):
        settings_path = one / "record" / "hyper_param.json"
        settings_path.write_text(settings_path.read_text().replace('"smoke"', '"lite"'))
    with pytest.raises(UserError, match=message):
        check_alike(find_runs([one.parent, runs_folder]))
    check_alike(find_runs([runs_folder]))


@pytest.mark.parametrize("lost", ["/after/distance", "/before/u"])
def test_distances_that_lost_a_column_are_named(one, lost):
    path = one / "result" / "distances.npz"
    with np.load(path) as file:
        kept = {key: file[key] for key in file.files if not key.endswith(lost)}
    np.savez(path, **kept)
    (run,) = find_runs([one.parent])
    assert "different lengths" in run.problem and run.distances == {}


def test_distances_hold_numbers_only(one):
    np.savez(one / "result" / "distances.npz", **{"data/before/distance": np.array(["a"])})
    (run,) = find_runs([one.parent])
    assert "no row of numbers" in run.problem
