"""A sweep on Ray, from its command line."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, assert_same_run, needs
from tiny_runs import TINY, by_hand, tune

from doof_ext.cli.tune import main
from doof_ext.errors import UserError
from doof_ext.experiment.run_directory import lock
from doof_ext.sweep.estimate import Rates
from doof_ext.sweep.plan import plan_runs, recorded_runs
from doof_ext.sweep.search import read_search
from doof_ext.sweep.sweep import Options, sweep

needs_ray = needs("tune", "ray")
_FLAGS = TINY[TINY.index("--preset") :]
_TASK = ("--tasks", "hopper-random-v2")


def _finish(process):
    out, err = process.communicate()
    assert "Traceback" not in err, err
    return process.returncode, out, err


def _runs(logdir):
    """The recorded runs by their arm."""
    return {_arm(run.settings): run for run in recorded_runs(str(logdir), "hopper-random-v2")}


def _arm(settings):
    return settings["seed"], settings["control"] or settings["exploration_ratio"]


def _await(process, words):
    """Reads the sweep's lines up to one with these words."""
    for line in process.stdout:
        if words in line:
            return
    pytest.fail(f"no line with {words!r}: {process.stderr.read()}")


def _run_process(logdir):
    """The process ids of the sweep's runs, by their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it has just ended
        if any(b"doof_ext.cli.attached" in part for part in command) and str(logdir).encode() in b" ".join(command):
            found.append(int(path.parent.name))
    return found


@needs_ray
@pytest.mark.slow
def test_a_sweep_trains_stage_1_once_and_outlives_a_run_that_fails(tmp_path, capsys):
    logdir, grid = tmp_path / "log", tmp_path / "grid.toml"
    (tmp_path / "d.hdf5").write_text("no data")
    (tmp_path / "doof_ext.py").write_text("raise ImportError('the working directory has another')")
    grid.write_text(
        '[[runs]]\nsource = "recipe"\ndataset_steps = 400\nratios = [0]\ncontrol = ["extra-training"]\n'
        '[[runs]]\nsource = "hdf5:d.hdf5"\nratios = [0, 1]\n'
    )
    data = ["--source", "recipe", "--dataset-steps", "400"]
    flags = [*_FLAGS, "--logdir", logdir, "--jobs", 2]
    del flags[flags.index(data[0]) : flags.index(data[0]) + len(data)]
    code, out, err = _finish(tune(*_TASK, "--seeds", "1", "--grid", grid, *flags, cwd=tmp_path))
    assert err == "tune_doof.py: stopped: 2 of 4 runs failed; the same command tries them again\n" and code == 1
    assert "4 runs, 2 pretrainings" in out and out.count("finished, score") == 2
    failed = [line for line in out.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2 and "d.hdf5" in failed[0] and "its stage 1 is that of" in failed[1]
    runs = _runs(logdir)
    assert set(runs) == {(1, "extra-training"), (1, 0.0)} and all(run.finished for run in runs.values())
    leader, follower = runs[1, "extra-training"], runs[1, 0.0]
    assert leader.settings["pretrained"] is None and follower.settings["pretrained"] == leader.directory
    assert_same_run(follower.directory, by_hand(tmp_path / "by-hand", "--exploration-ratio", "0"))
    study = json.loads((logdir / "study.json").read_text())
    assert [run["state"] for run in study["runs"]] == ["finished", "finished", "failed", "failed"]
    assert {path.name for path in logdir.iterdir()} <= {"hopper-random-v2", "study.json", "lock", "report"}
    assert {path.name for path in tmp_path.iterdir()} == {"log", "by-hand", "grid.toml", "d.hdf5", "doof_ext.py"}
    capsys.readouterr()
    line = (*_TASK, "--seeds", "1", "--ratios", "0", "--control", "extra-training", *flags, *data)
    assert main(list(map(str, line))) == 0
    out = capsys.readouterr().out
    assert "2 finished" in out and "started" not in out  # nothing is run again


@needs_ray
@pytest.mark.slow
def test_seeds_ratios_and_a_control_are_the_runs_by_hand(tmp_path):
    logdir = tmp_path / "log"
    argv = (*_TASK, "--seeds", "1,2", "--ratios", "0,1", "--control", *_FLAGS, "--jobs", 2, "--logdir", logdir)
    code, out, err = _finish(tune(*argv))
    assert code == 0, err
    assert "6 runs, 2 pretrainings" in out and "6 finished" in out
    runs = _runs(logdir)
    assert sorted(seed for (seed, _), run in runs.items() if run.settings["pretrained"] is None) == [1, 2]
    for (seed, arm), run in runs.items():
        flags = ("--exploration-ratio", f"{arm:g}") if isinstance(arm, float) else ("--control", arm)
        assert_same_run(run.directory, by_hand(tmp_path / "by-hand", "--seed", str(seed), *flags))
    assert {arm for _, arm in runs} == {"no-online-data", 0.0, 1.0} and len(runs) == 6


@needs_ray
@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    longer = ("--epoch", "40", "--finetune-epochs", "40")
    logdir = tmp_path / "log"
    argv = (*_TASK, "--seeds", "1", "--ratios", "0,1", *_FLAGS, *longer, "--jobs", 1, "--logdir", logdir)
    process = tune(*argv)
    _await(process, "ratio 0: 1 pretrain policy")
    os.kill(_run_process(logdir)[0], signal.SIGKILL)
    _await(process, "was killed by SIGKILL; it goes on from its last checkpoint")
    _await(process, "ratio 0: 5 finetune policy")
    run = _run_process(logdir)[0]
    worker = int(re.search(r"PPid:\s+(\d+)", Path(f"/proc/{run}/status").read_text())[1])
    os.kill(worker, signal.SIGKILL)
    _await(process, "its worker or its machine was lost; it goes on from its last checkpoint")
    _await(process, "ratio 1: 5 finetune policy")
    process.kill()
    process.communicate()
    code, out, _ = _finish(tune(*argv))
    assert code == 0 and "1 finished, 1 waiting" in out and "to be resumed" in out
    for ratio in (0.0, 1.0):
        whole = by_hand(tmp_path / "by-hand", *longer, "--exploration-ratio", f"{ratio:g}")
        assert_same_run(_runs(logdir)[1, ratio].directory, whole)


@needs_ray
@pytest.mark.slow
def test_a_run_that_dies_too_often_has_failed(tmp_path):
    argv = (*_TASK, *_FLAGS, "--epoch", "400", "--max-failures", 0, "--logdir", tmp_path)
    process = tune(*argv)
    _await(process, "1 pretrain policy")
    os.kill(_run_process(tmp_path)[0], signal.SIGKILL)
    code, out, _ = _finish(process)
    assert code == 1 and "failed: its process was killed by SIGKILL" in out


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_all_runs_and_says_how_to_go_on(tmp_path, number):
    argv = (*_TASK, "--seeds", "1,2", *_FLAGS, "--epoch", "400", "--checkpoint-every", "400", "--logdir", tmp_path)
    process = tune(*argv, "--jobs", 2)
    for _ in range(2):
        _await(process, "1 pretrain policy")
    process.send_signal(number)
    code, out, err = _finish(process)
    assert code == 128 + number and f"stopped by {number.name}" in err
    assert "2 saved" in out and f"tune_doof.py {' '.join(map(str, argv))} --jobs 2" in out.splitlines()[-1]
    for run in _runs(tmp_path).values():
        assert "stopped by SIGTERM" in Path(run.directory, "record", "failure.txt").read_text()
    assert not _run_process(tmp_path)


@needs_ray
@pytest.mark.slow
def test_a_cluster_of_two_machines_runs_on_both_and_survives_the_loss_of_one(tmp_path):
    from ray.cluster_utils import Cluster

    longer = ("--epoch", "40", "--finetune-epochs", "40")
    logdir = tmp_path / "log"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        other = cluster.add_node(num_cpus=1, include_dashboard=False)
        argv = (*_TASK, "--seeds", "1,2", "--ratios", "0", *_FLAGS, *longer, "--logdir", logdir)
        process = tune(*argv, "--ray-address", cluster.address)
        for _ in range(2):
            _await(process, "1 pretrain policy")  # a core each: one run on either
        cluster.remove_node(other, allow_graceful=False)
        code, out, _ = _finish(process)
    finally:
        cluster.shutdown()
    assert code == 0 and out.count("its worker or its machine was lost; it goes on") == 1
    assert "2 finished" in out
    for seed in (1, 2):
        whole = by_hand(tmp_path / "by-hand", *longer, "--exploration-ratio", "0", "--seed", str(seed))
        assert_same_run(_runs(logdir)[seed, 0.0].directory, whole)


@needs_ray
@pytest.mark.slow
def test_a_search_ends_the_worse_runs_early(tmp_path):
    search = tmp_path / "search.toml"
    search.write_text(
        "samples = 4\ngrace_epochs = 2\nreduction = 2\n"
        "[space]\npenalty_coef = {loguniform = [0.1, 100]}\nrollout_length = {choice = [1, 3]}\n"
    )
    argv = (*_TASK, *_FLAGS, "--epoch", "30", "--search", search, "--logdir", tmp_path / "log", "--jobs", 1)
    code, _, err = _finish(tune(*argv))
    assert code == 0, err
    study = json.loads((tmp_path / "log" / "study.json").read_text())["runs"]
    states = [run["state"] for run in study]
    assert states.count("stopped") >= 1 and states.count("finished") >= 1
    assert set(states) == {"stopped", "finished"} and all(run["metric"] is not None for run in study)
    assert all(run["epoch"] < 30 for run in study if run["state"] == "stopped")


@needs_ray
@pytest.mark.parametrize(("failures", "started"), [(2, True), (3, False)])
def test_ray_is_started_again_where_the_machine_was_too_busy(monkeypatch, failures, started):
    from doof_ext.sweep import engine

    calls = []

    def init(address, **settings):
        calls.append((address, settings["num_cpus"]))
        if len(calls) <= failures:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(engine.ray, "init", init)
    if started:
        assert engine.connect(None, jobs=2, threads=3) == 2
    else:
        with pytest.raises(UserError, match=r"Ray cannot be started here \(The current node timed out"):
            engine.connect(None, jobs=2, threads=3)
    assert calls == [("local", 6)] * 3


@needs_ray
def test_a_search_draws_the_same_runs_from_the_same_file(tmp_path):
    path = tmp_path / "search.toml"
    path.write_text(
        "samples = 9\n[space]\nexploration_ratio = {uniform = [0, 2]}\nrollout_length = {choice = [1, 5]}\n"
    )
    drawn = read_search(str(path)).draw()
    assert drawn == read_search(str(path)).draw()
    ratios, lengths = ([float(argv[index]) for argv in drawn] for index in (1, 3))
    assert len(set(ratios)) == 9 and 0 < min(ratios) < 1 < max(ratios) < 2 and set(lengths) == {1, 5}
    assert drawn[0][::2] == ["--exploration-ratio", "--rollout-length"]


def test_a_dry_run_prints_the_plan_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = (*_TASK, "--seeds", "1,2", "--ratios", "0,1", "--control", "extra-training", *_FLAGS, "--dry-run")
    assert main(argv) == 0 and not list(tmp_path.iterdir())
    out = capsys.readouterr().out
    rows = out.splitlines()[1:7]
    assert [re.search(r"(trained|shared)", row)[0] for row in rows] == ["trained", "shared", "shared"] * 2
    assert "6 runs, 2 pretrainings; 6 waiting; " in out


def _blocked(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    return tmp_path / "file" / "log"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--tasks", "hopper-medum-v2"], "did you mean hopper-medium-v2"),
        (["--seeds", "1,x"], "argument --seed: invalid int value: 'x'"),
        (["--seeds", "1,-2"], "--seed is -2"),
        (["--ratios", "0,-1"], "--exploration-ratio is -1.0"),
        (["--control", "magic"], "argument --control: 'magic' is not among"),
        (["--epoch", "0"], "--epoch is 0"),
        (["--epochz", "1"], "unrecognized arguments: --epochz 1"),
        (["--resume", "x"], "--resume is not for a sweep"),
        (["--jobs", "0"], "--jobs is 0; it must be at least 1"),
        (["--ray-address", "127.0.0.1:1"], "no cluster answers there"),
        (["--ray-address", "127.0.0.1:99999"], "no cluster answers there"),
        (["--ray-address", "ray://127.0.0.1:10001"], "give HOST:PORT, or auto"),
        (["--grid", "none.toml"], "none.toml cannot be read (No such file or directory)"),
        (["--grid", "task.toml"], "task.toml, table 2: unknown task 'hopper-medum-v2'"),
        (["--grid", "flag.toml"], "flag.toml, table 1: unrecognized arguments: --epochz 3"),
        (["--grid", "value.toml"], "value.toml, table 1: --epoch is 0; it must be at least 1"),
        pytest.param(
            ["--search", "search.toml", "--seeds", "1,2"], "--search draws flags for one task", marks=needs_ray
        ),
    ],
)
def test_bad_input_is_one_line_before_any_run(tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.toml").write_text('[[runs]]\ntask = "hopper-medium-v2"\n[[runs]]\ntask = "hopper-medum-v2"\n')
    (tmp_path / "flag.toml").write_text("[[runs]]\nepochz = 3\n")
    (tmp_path / "value.toml").write_text("[[runs]]\nepoch = 0\n")
    (tmp_path / "search.toml").write_text("samples = 2\n[space]\ngamma = {uniform = [0.9, 0.99]}\n")
    before = set(tmp_path.iterdir())
    assert main(["--preset", "smoke", *argv, "--dry-run"]) == 2
    out, err = capsys.readouterr()
    assert message in err and len(err.splitlines()) == 1 and not out
    assert set(tmp_path.iterdir()) == before


def test_a_log_directory_that_cannot_be_written_is_one_line(tmp_path, capsys):
    assert main(["--preset", "smoke", "--logdir", str(_blocked(tmp_path)), "--dry-run"]) == 2
    out, err = capsys.readouterr()
    assert "choose another --logdir" in err and len(err.splitlines()) == 1 and not out


def test_a_log_directory_that_cannot_be_made_is_one_line_before_the_plan(tmp_path, monkeypatch):
    def refuse(path, exist_ok):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("doof_ext.sweep.sweep.os.makedirs", refuse)
    monkeypatch.setattr("doof_ext.sweep.estimate.measure", lambda config: Rates(1, 1, 1, 1, 1))
    runs, stream = plan_runs([[*TINY, "--logdir", str(tmp_path / "log")]]), io.StringIO()
    with pytest.raises(UserError, match=r"cannot write to .*log \(Permission denied\); choose another --logdir"):
        sweep(runs, Options(str(tmp_path / "log")), stream)
    assert not stream.getvalue()


def test_a_data_file_that_is_missing_is_one_line_after_the_plan_and_before_any_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("doof_ext.sweep.estimate.measure", lambda config: Rates(1, 1, 1, 1, 1))
    argv = ["--seeds", "1,2", "--source", "hdf5:$NONE/d.hdf5", "--logdir", str(tmp_path), "--dry-run"]
    assert main(["--preset", "smoke", *argv]) == 2
    out, err = capsys.readouterr()
    assert "2 runs, 2 pretrainings; 2 waiting; " in out
    assert "seed 1, ratio 1: --source" in err and "there is no such file" in err and len(err.splitlines()) == 1


def test_two_sweeps_do_not_share_a_log_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("doof_ext.sweep.estimate.measure", lambda config: Rates(1, 1, 1, 1, 1))
    runs = plan_runs([[*TINY, "--logdir", str(tmp_path)]])
    with lock(str(tmp_path)), pytest.raises(UserError, match="another process is at work"):
        sweep(runs, Options(str(tmp_path)))


def test_help_imports_neither_torch_nor_ray():
    code = (
        "import sys; from doof_ext.cli.tune import main; main(['--help']); "
        "assert not {'torch', 'ray', 'numpy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0
