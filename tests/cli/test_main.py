"""The console command: the scripts' code under subcommands."""

import subprocess
import sys

import pytest
from conftest import ROOT

from doof_ext import cli


def _doof(*argv):
    code = "import sys; from doof_ext.cli import main; code = main(); assert 'torch' not in sys.modules; sys.exit(code)"
    command = [sys.executable, "-c", code, *argv]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["run", "data", "report", "tune", "kit"])
def test_each_command_has_help_without_torch(name):
    done = _doof(name, "--help")
    assert done.returncode == 0 and len(done.stdout.splitlines()) > 3, done.stderr


def test_help_lists_the_commands():
    done = _doof()
    assert done.returncode == 0 and all(f"doof {name} " in done.stdout for name in cli._COMMANDS)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fly"], "doof: error: unknown command 'fly'; choose run, data, report, tune, kit"),
        (["run", "--epoch", "-1"], "doof run: error: --epoch is -1; it must be at least 1"),
        (["data"], "doof data: error: give --task"),
        (["report"], "doof report: error: the following arguments are required"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2(argv, message):
    done = _doof(*argv)
    assert done.returncode == 2 and done.stderr.startswith(message) and len(done.stderr.splitlines()) == 1, done.stderr
