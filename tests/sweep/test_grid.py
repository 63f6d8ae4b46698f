"""Every combination of the values, from a line or a file, in its order."""

import pytest

from doof_ext.errors import UserError
from doof_ext.sweep.grid import expand, from_line, read_grid
from doof_ext.sweep.search import read_search


def test_a_line_gives_every_combination_and_controls_before_ratios():
    given = {"tasks": "a,b", "seeds": "1,2", "ratios": "0,0.5", "control": ["extra-training"], "algos": None}
    lines = [" ".join(argv) for argv in expand(from_line(given))]
    assert len(lines) == 12
    assert lines[:4] == [
        "--task a --seed 1 --control extra-training",
        "--task a --seed 1 --exploration-ratio 0",
        "--task a --seed 1 --exploration-ratio 0.5",
        "--task a --seed 2 --control extra-training",
    ]
    assert lines[-1] == "--task b --seed 2 --exploration-ratio 0.5"


def test_without_ratios_there_is_doof_itself():
    assert list(expand({"--control": [["extra-training"]]})) == [["--control", "extra-training"], []]
    assert list(expand({"--control": [["extra-training"]], "--exploration-ratio": []})) == [
        ["--control", "extra-training"]
    ]


def test_a_file_has_tables_and_what_they_share(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'preset = "lite"\nratios = [0, 1]\n'
        '[[runs]]\nalgos = ["mopo"]\ntasks = ["b", "a"]\nrender = true\nhidden_dims = [[64, 64]]\n'
        '[[runs]]\ntask = "c"\nratios = [0.5]\n'
    )
    first, second = read_grid(path)
    assert next(" ".join(argv) for argv in expand(first)) == (
        "--task b --preset lite --algo mopo --render true --hidden-dims 64 64 --exploration-ratio 0"
    )
    assert [argv[1] for argv in expand(first)] == ["b", "b", "a", "a"]
    assert list(expand(second)) == [["--task", "c", "--preset", "lite", "--exploration-ratio", "0.5"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("runs = 3", "has no \\[\\[runs\\]\\]"),
        ("", "has no \\[\\[runs\\]\\]"),
        ("runs = [", "cannot be read"),
        ("[[runs]]\ntask = {a = 1}", "table 1: task is a table"),
    ],
)
def test_a_file_of_something_else_is_one_line(tmp_path, content, message):
    path = tmp_path / "grid.toml"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_grid(path)


def test_a_file_that_is_missing_is_one_line(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_grid(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("samples = 3", "needs samples and a \\[space\\]"),
        ("samples = 0\n[space]\ngamma = {uniform = [0, 1]}", "needs samples"),
        ("samples = true\n[space]\ngamma = {uniform = [0, 1]}", "samples = True"),
        ("trials = 3\n[space]\ngamma = {uniform = [0, 1]}", "trials = 3"),
        ("samples = 3\nreduction = 1\n[space]\ngamma = {uniform = [0, 1]}", "above 1"),
        ("samples = 3\n[space]\ngamma = {normal = [0, 1]}", "one of choice, uniform"),
        ("samples = 3\n[space]\ngamma = {uniform = [1, 0]}", "one of choice, uniform"),
        ("samples = 3\n[space]\ngamma = {loguniform = [0, 1]}", "one of choice, uniform"),
        ("samples = 3\n[space]\ngamma = {choice = []}", "one of choice, uniform"),
        ("samples = 3\n[space]\ngamma = 0.5", "one of choice, uniform"),
    ],
)
def test_a_search_of_something_else_is_one_line(tmp_path, content, message):
    path = tmp_path / "search.toml"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_search(path)


def test_baselines_are_arms_beside_the_others():
    table = from_line({"tasks": "a,b", "ratios": "1", "baselines": "iql,spot"})
    assert list(expand(table)) == [
        ["--task", task, *arm]
        for task in ("a", "b")
        for arm in (["--exploration-ratio", "1"], ["--baseline", "iql"], ["--baseline", "spot"])
    ]
