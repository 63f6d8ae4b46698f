"""A session that is killed anywhere: every recorded step is in the journal once, and none is invented."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from waiting_run import stop

from doof_ext.data.journal import OnlineJournal


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_every_recorded_step_is_there_once_and_none_is_invented(settings, tmp_path, kills):
    run, ledger, steps = stop(settings(stop_after="explore")), tmp_path / "ledger", 60 + 30 * kills
    command = [sys.executable, str(Path(__file__).with_name("killed_session.py")), run, str(steps), str(kills), ledger]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    notes = [line.split() for line in ledger.read_text().splitlines()]
    taken = [int(number) for word, number in notes if word == "taken"]
    recorded = [int(number) for word, number in notes if word == "recorded"]
    rows = OnlineJournal(run / "checkpoint" / "online-1.journal").rows
    numbers = [int(row["rewards"]) for row in rows]
    assert len(rows) == steps and taken == list(range(len(taken)))
    assert sorted(set(numbers)) == numbers and set(recorded) <= set(numbers) <= set(taken)
    for number, row in zip(numbers, rows, strict=True):
        np.testing.assert_array_equal(row["observations"], np.full(11, number / 1e3))
        np.testing.assert_array_equal(row["next_observations"], np.full(11, (number + 1) / 1e3))
        assert bool(row["terminals"]) == (number % 7 == 6) and abs(row["actions"]).max() <= 1
        assert bool(row["truncated"]) == (number % 5 == 4 and number % 7 != 6)
