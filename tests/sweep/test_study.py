"""What a user sees: calm lines in a file, a table in place on a terminal, all of it in study.json."""

import io
import json

import pytest
from tiny_runs import TINY

from doof_ext.sweep import study as study_module
from doof_ext.sweep.estimate import StageCost
from doof_ext.sweep.plan import plan_runs
from doof_ext.sweep.progress import Progress
from doof_ext.sweep.study import RunStatus, Study, duration, table

STAGES = [StageCost("1 pretrain policy", 1, 10, 60.0), StageCost("5 finetune policy", 1, 10, 60.0)]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The time that the study sees, to be set."""
    now = {"time": 1000.0}
    monkeypatch.setattr(study_module.time, "time", lambda: now["time"])
    monkeypatch.setattr(study_module.time, "monotonic", lambda: now["time"])
    return now


def _study(tmp_path, stream):
    runs = plan_runs([*TINY, "--exploration-ratio", ratio] for ratio in ("0", "1"))
    return Study([RunStatus(run, stages=STAGES) for run in runs], str(tmp_path / "study.json"), 2, stream)


def _news(state="running", stage="1 pretrain policy", epoch=1, **more):
    return {"state": state, "stage": stage, "round": 1, "epoch": epoch, "epochs": 10, "score": 12.34, **more}


def test_a_file_gets_a_line_per_stage_and_none_per_epoch(tmp_path, clock):
    stream = io.StringIO()
    study = _study(tmp_path, stream)
    study.tell(0, {"state": "running"})
    for epoch in range(1, 11):
        clock["time"] += 60
        study.tell(0, _news(epoch=epoch))
        study.refresh()
    study.tell(0, _news(stage="5 finetune policy"))
    study.tell(0, _news("finished", "5 finetune policy", 10))
    study.tell(1, {"state": "failed", "reason": "no data"})
    lines = [line.partition(" ")[2] for line in stream.getvalue().splitlines()]
    assert lines == [
        "hopper-random-v2, seed 1, ratio 0: started",
        "hopper-random-v2, seed 1, ratio 0: 1 pretrain policy, score 12.3",
        "hopper-random-v2, seed 1, ratio 0: 5 finetune policy, score 12.3",
        "hopper-random-v2, seed 1, ratio 0: finished, score 12.3",
        "hopper-random-v2, seed 1, ratio 1: failed: no data",
    ]
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_has_the_running_runs_in_place(tmp_path, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    study = _study(tmp_path, stream)
    study.tell(0, _news())
    drawn = stream.getvalue()
    assert "ratio 0  1 pretrain policy  1/10   12.3   19 min 00 s" in drawn and "ratio 1  " not in drawn
    assert "1 running, 1 waiting" in drawn
    study.refresh()
    assert stream.getvalue() == drawn  # nothing new within five seconds
    clock["time"] += 6
    study.refresh()
    assert stream.getvalue()[len(drawn) :].startswith("\x1b[3F\x1b[J")  # over the three lines of before


def test_the_time_left_follows_how_fast_it_is(tmp_path, clock):
    status = _study(tmp_path, io.StringIO()).runs[0]
    assert status.seconds_left == 1200
    status.update({"state": "running"})
    clock["time"] += 50  # starting is not counted
    status.update(_news(epoch=1))
    assert status.seconds_left == 1140
    clock["time"] += 30
    status.update(_news(epoch=2))
    assert status.seconds_left == pytest.approx(1080 / 2)
    status.update(_news("finished", "5 finetune policy", 10))
    assert status.seconds_left == 0


def test_study_json_has_it_all(tmp_path, clock):
    study = _study(tmp_path, io.StringIO())
    study.tell(0, _news(directory="log/run"))
    (first, second) = json.loads((tmp_path / "study.json").read_text())["runs"]
    assert first == {
        "task": "hopper-random-v2",
        "seed": 1,
        "arm": "ratio 0",
        "state": "running",
        "stage": "1 pretrain policy",
        "round": 1,
        "epoch": 1,
        "epochs": 10,
        "score": 12.34,
        "seconds_left": 1140,
        "directory": "log/run",
        "restarts": 0,
        "reason": "",
        "metric": None,
        "flags": [*TINY, "--exploration-ratio", "0"],
    }
    assert (second["state"], second["stage"]) == ("waiting", "")


def test_the_last_table_has_all_runs(tmp_path, clock):
    stream = Terminal()
    study = _study(tmp_path, stream)
    study.runs[1].progress = Progress("3 collect", 2, 1)
    study.close()
    last = stream.getvalue().rpartition("\x1b[J")[2].splitlines()
    assert last[0].split() == ["task", "seed", "arm", "state", "stage", "epoch", "left"]
    assert "3 collect (round 2)  1/?" in last[2] and len(last) == 4


def test_a_table_leaves_out_empty_columns_and_durations_are_read_at_a_glance():
    assert table([]) == []
    assert table([{"a": "1", "b": "", "c": "xyz"}, {"a": "22", "b": "", "c": ""}]) == ["a   c", "1   xyz", "22"]
    assert [duration(seconds) for seconds in (0, 61, 3600, 90061)] == [
        "0 min 00 s",
        "1 min 01 s",
        "1 h 00 min",
        "25 h 01 min",
    ]
