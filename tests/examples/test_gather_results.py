"""What results/ keeps of runs is what a report reads of them, and names no folder of a machine."""

import importlib.util
from pathlib import Path

import pytest
from conftest import ROOT

from doof_ext.report.runs import find_runs
from doof_ext.report.score_tables import score_table

_spec = importlib.util.spec_from_file_location("gather_results", ROOT / "tools" / "gather_results.py")
tool = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tool)


def test_the_tables_of_gathered_runs_are_those_of_the_runs(runs_folder, tmp_path):
    count = tool.gather(runs_folder, tmp_path / "kept")
    runs, kept = find_runs([runs_folder]), find_runs([tmp_path / "kept"])
    assert count == len(runs) == len(kept)
    gone = tmp_path / "kept" / "gone" / "record" / "hyper_param.json"
    gone.parent.mkdir(parents=True)
    gone.write_text("{}")
    tool.gather(runs_folder, tmp_path / "kept")
    assert not gone.exists()
    (tmp_path / "nothing").mkdir()
    with pytest.raises(SystemExit, match="there are no runs"):
        tool.gather(tmp_path / "nothing", tmp_path / "kept")
    assert len(find_runs([tmp_path / "kept"])) == count
    assert score_table(kept).rows == score_table(runs).rows
    assert [run.problem.split(":")[0] for run in kept if "damaged" not in run.problem] == [
        run.problem.split(":")[0] for run in runs if "damaged" not in run.problem
    ]
    assert [set(run.distances) for run in kept] == [set(run.distances) for run in runs]
    files = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".csv", ".npz", ".txt"}
    for path in files:
        if path.suffix != ".npz":
            assert str(Path(runs_folder).resolve()) not in path.read_text()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('"logdir": "/home/me/log"', '"logdir": "log"'),
        ('"pretrained": "/home/me/log/hopper/doof&a=1/seed_1&t"', '"pretrained": "log/hopper/doof&a=1/seed_1&t"'),
        ("/home/me/log2/x run.py --source hdf5:/data/pen.hdf5", "x run.py --source hdf5:pen.hdf5"),
        ("'/opt/a b/run_doof.py' --out report/x 3/4", "'a b/run_doof.py' --out report/x 3/4"),
        (r'"command": "run.py --logdir \"/home/me/log\""', r'"command": "run.py --logdir \"log\""'),
        ("/mnt/home/me/log/x", "x"),
        ("https://example.org/a/b", "https://example.org/a/b"),
    ],
)
def test_paths_say_no_more_than_is_needed(text, kept):
    assert tool.without_folders(text, Path("/home/me/log")) == kept


def test_a_log_directory_may_have_spaces_in_its_name():
    kept = tool.without_folders(
        r'"/home/me/my log/x", "/home/me/my logs/y", \"/home/me/my log\"', Path("/home/me/my log")
    )
    assert kept == r'"log/x", "my logs/y", \"log\"'
