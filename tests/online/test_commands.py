"""A run in two halves as a user types it."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, assert_same_run

from doof_ext import pipeline
from doof_ext.cli.exit_code import exit_code_of_run
from doof_ext.config import config_from
from doof_ext.data.dataset import write_dataset
from doof_ext.data.recipe import record_uniform
from doof_ext.errors import UserError
from doof_ext.tasks import make_env


def _collect(run, *argv):
    """collect_by_hand.py: a session in one process, the system in another."""
    command = [sys.executable, str(ROOT / "run_example" / "collect_by_hand.py"), str(run), *map(str, argv)]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def test_two_halves_with_a_session_in_other_processes_end_as_one_piece(settings, tmp_path, capsys):
    own = dict(task="InvertedPendulum-v5", env_id="InvertedPendulum-v5", termination="waiting_run:fallen")
    config = settings(**own, source=f"hdf5:{tmp_path}/log.hdf5", dataset_steps=None, online_steps=60)
    write_dataset(tmp_path / "log.hdf5", record_uniform(make_env(config.spec).spec, 500, 1))
    _, one = pipeline.run(config)
    halved = dataclasses.replace(config, stop_after="explore")
    assert exit_code_of_run("run_doof.py", lambda: pipeline.run(halved)) == 0
    told = capsys.readouterr().out
    assert "the run waits for its online steps" in told and '--resume "$RUN" --online-data FILE' in told
    two = next(path for path in Path(one).parent.iterdir() if path != Path(one))
    collected = _collect(two, "--env-id", "InvertedPendulum-v5", "--steps", 60)
    assert collected.returncode == 0 and "60 steps taken, 60 in all" in collected.stdout, collected.stderr
    pipeline.run(config_from({"resume": str(two)}))
    assert_same_run(one, two)
    journals = [(Path(run) / "checkpoint" / "online-1.journal").read_bytes() for run in (one, two)]
    assert journals[0] == journals[1]
    again = _collect(two, "--env-id", "InvertedPendulum-v5")
    assert again.returncode == 2 and "is complete" in again.stderr and len(again.stderr.splitlines()) == 1


@pytest.mark.parametrize("control", [None, "extra-training"])
def test_a_run_stops_after_its_pretraining(settings, capsys, control):
    config = settings(control=control)
    whole, directory = pipeline.run(config)
    code = exit_code_of_run("run_doof.py", lambda: pipeline.run(dataclasses.replace(config, stop_after="pretrain")))
    told = capsys.readouterr().out.splitlines()[-1]
    assert code == 0 and told.startswith("stage pretrain is complete; next: --resume ")
    run = next(path for path in Path(directory).parent.iterdir() if path != Path(directory))
    assert f"{run}" in told and not (run / "model" / "policy.pth").exists()
    with pytest.raises(UserError, match=r"--stop-after pretrain: .* is past it"):
        pipeline.run(config_from({"resume": str(run), "stop_after": "pretrain"}))
    resumed, _ = pipeline.run(config_from({"resume": str(run)}))
    assert resumed["scores"] == whole["scores"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stop_after": "explore", "control": "extra-training"}, "a control has no stage 2"),
        ({"online_data": ("a.hdf5",), "control": "extra-training"}, "a control is trained without online data"),
        ({"online_data": ("a.hdf5",)}, "--online-data goes with --resume RUN"),
        ({"stop_after": "collect"}, "--stop-after is collect; it must be one of pretrain, explore"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(given, message):
    with pytest.raises(UserError, match=message) as caught:
        config_from(given)
    assert "\n" not in str(caught.value)
