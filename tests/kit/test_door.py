"""Which kit the door opens to, asked in fresh interpreters."""

import importlib.util
import os
import subprocess
import sys

import pytest

installed = importlib.util.find_spec("offlinerlkit") is not None


def _ask(choice):
    return subprocess.run(
        [sys.executable, "-c", "from doof_ext import kit; print(kit.NAME, kit.VERSION)"],
        env=os.environ | {"DOOF_KIT": choice},
        capture_output=True,
        text=True,
    )


def test_embedded_can_be_forced():
    assert _ask("embedded").stdout.startswith("embedded ")


@pytest.mark.skipif(not installed, reason="offlinerlkit is not installed")
def test_the_installed_kit_can_be_forced():
    assert _ask("offlinerlkit").stdout.split()[-2] == "offlinerlkit"


@pytest.mark.skipif(installed, reason="offlinerlkit is installed")
def test_a_forced_kit_that_is_missing_is_a_clear_error():
    answer = _ask("offlinerlkit")
    assert answer.returncode != 0 and "offlinerlkit is not installed" in answer.stderr


def test_a_wrong_choice_is_a_clear_error():
    assert "neither embedded nor offlinerlkit" in _ask("other").stderr
