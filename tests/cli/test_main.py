"""The console command: the scripts' code under subcommands."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from doof_ext import cli


def _doof(*argv, encoding="utf-8"):
    code = "import sys; from doof_ext.cli import main; code = main(); assert 'torch' not in sys.modules; sys.exit(code)"
    command = [sys.executable, "-c", code, *argv]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding=encoding)


@pytest.mark.parametrize("name", ["run", "data", "report", "tune", "export", "kit"])
def test_each_command_has_help_without_torch(name):
    done = _doof(name, "--help")
    assert done.returncode == 0 and len(done.stdout.splitlines()) > 3, done.stderr


@pytest.mark.parametrize("argv", [["run", "--help"], ["data", "--help"], ["kit", "--help"], ["--help"]])
def test_a_terminal_without_utf_8_shows_a_replacement(argv):
    done = _doof(*argv, encoding="ascii")
    assert done.returncode == 0 and not done.stderr
    assert done.stdout == _doof(*argv).stdout.encode("ascii", "replace").decode()


def test_an_error_on_a_terminal_without_utf_8_is_one_line():
    done = _doof("data", "--task", "höpper-medium-v2", "--out", "d.hdf5", encoding="ascii")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "did you mean" in done.stderr


def test_help_lists_the_commands():
    done = _doof()
    assert done.returncode == 0 and all(f"doof {name} " in done.stdout for name in cli._COMMANDS)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fly"], "doof: error: unknown command 'fly'; choose run, baseline, data, report, tune, export, kit"),
        (["run", "--epoch", "-1"], "doof run: error: --epoch is -1; it must be at least 1"),
        (["data"], "doof data: error: give --task"),
        (["export", "nowhere"], "doof export: error: the following arguments are required: --format, --out"),
        (["report"], "doof report: error: the following arguments are required"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2(argv, message):
    done = _doof(*argv)
    assert done.returncode == 2 and done.stderr.startswith(message) and len(done.stderr.splitlines()) == 1, done.stderr
