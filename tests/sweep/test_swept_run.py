"""A run in a process of its own: its news, and what becomes of it when the process is killed, stopped or fails."""

import os
import signal

import pytest
from conftest import assert_same_run
from tiny_runs import TINY, by_hand

from doof_ext.experiment.run_directory import lock
from doof_ext.experiment.summary import read_summary
from doof_ext.sweep.plan import plan_runs
from doof_ext.sweep.progress import Metric
from doof_ext.sweep.swept_run import ProcessDiedError, SweptRun


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A factory of the run of these flags in the test's log directory."""
    (tmp_path / "study.json").touch()
    (tmp_path / "doof_ext.py").write_text("raise ImportError('the working directory has another')")
    started = []

    def make(*argv, tiny=TINY, metric=None, study="study.json"):
        run = SweptRun(
            [*tiny, *argv, "--logdir", str(tmp_path)],
            pretrained=None,
            folder=str(tmp_path),
            study=str(tmp_path / study),
            threads=1,
            nice=0,
            environment={},
            metric=metric,
        )
        started.append(run)
        return run

    monkeypatch.delenv("PYTHONPATH", raising=False)
    yield make
    for run in started:
        run.stop()


def _until(run, stage):
    """The news when the run has come to a stage, or is over."""
    while True:
        news = run.next(0.05)
        if news["state"] != "running" or news.get("reason") or news.get("stage", "").startswith(stage):
            return news


@pytest.mark.slow
def test_a_run_killed_in_stages_1_and_5_ends_as_if_it_had_not_been(start, tmp_path):
    longer = ("--epoch", "12", "--finetune-epochs", "12", "--checkpoint-every", "3")
    for stage in ("1 pretrain policy", "5 finetune policy"):
        run = start(*longer)
        assert _until(run, stage)["state"] == "running"
        os.kill(run._process.pid, signal.SIGKILL)
        assert _until(run, "none")["reason"] == "its process was killed by SIGKILL"
        with pytest.raises(ProcessDiedError, match="killed by SIGKILL"):
            run.next()
    news = _until(start(*longer), "none")
    assert news["state"] == "finished" and news["pretrained"] and news["epoch"] == 12
    assert_same_run(news["directory"], by_hand(tmp_path / "by-hand", *longer))
    assert start(*longer).next()["state"] == "finished"  # and is not run again


def test_a_baseline_is_run_by_its_own_command(start, tmp_path):
    (planned,) = plan_runs([[*TINY, "--logdir", str(tmp_path), "--baseline", "iql", "--epoch", "2"]])
    news = _until(start(*planned.argv, tiny=()), "none")
    assert news["state"] == "finished" and news["pretrained"], news
    assert (news["stage"], news["epoch"], news["epochs"]) == ("5 finetune offline", 2, 2)
    summary = read_summary(os.path.join(news["directory"], "result", "summary.json"))
    assert summary["algo"] == "iql" and summary["command"].startswith("doof baseline ")
    assert start(*planned.argv, tiny=()).next()["state"] == "finished"  # and is not run again


def test_a_run_that_is_stopped_or_left_alone_has_saved(start):
    longer = ("--epoch", "400", "--checkpoint-every", "400")
    run = start(*longer)
    directory = _until(run, "1 pretrain policy")["directory"]
    run.stop()
    with open(os.path.join(directory, "record", "failure.txt")) as file:
        assert "stopped by SIGTERM" in file.read()
    with lock(directory):
        pass
    again = start(*longer)
    assert _until(again, "1 pretrain policy")["directory"] == directory
    again._process.stdin.close()  # as the system does when its starter is gone
    assert again._process.wait() == 128 + signal.SIGTERM


def test_a_failure_has_its_reason(start, tmp_path):
    (tmp_path / "d.hdf5").write_text("no data")
    news = _until(start("--source", f"hdf5:{tmp_path}/d.hdf5", tiny=["--preset", "smoke"]), "none")
    assert news["state"] == "failed" and "d.hdf5" in news["reason"] and "error:" not in news["reason"]


def test_a_run_that_another_process_is_at_is_left_to_it(start, monkeypatch):
    monkeypatch.setattr("doof_ext.sweep.swept_run._LAST_SAVE", 0)
    directory = _until(start("--epoch", "400"), "1 pretrain policy")["directory"]
    news = start("--epoch", "400").next()
    assert news["state"] == "failed" and f"another process is at work in {directory}" in news["reason"]


def test_a_log_directory_that_is_not_shared_is_told(start):
    news = start(study="elsewhere.json").next()
    assert news["state"] == "failed" and "must share the log directory" in news["reason"]


def test_a_search_hears_of_every_epoch_even_of_a_finished_run(start):
    for _ in range(2):
        run, points = start(metric=Metric("model-reward", 5.0)), []
        while not points or points[-1]["state"] == "running":
            news = run.next(0.05)
            if "timestep" in news or news["state"] != "running":
                points.append(news)
        assert [point.get("timestep") for point in points] == [4, 8, 16, 20, None]
        assert points[-1]["state"] == "finished"
