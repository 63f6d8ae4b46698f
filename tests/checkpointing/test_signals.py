"""A first signal saves and says how to resume; a second one stops at once."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT


def _start(*argv):
    command = [sys.executable, str(ROOT / "run_example" / "run_doof.py"), *map(str, argv)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes)


@pytest.mark.parametrize(
    ("number", "after"), [(signal.SIGINT, "1 pretrain policy 1/"), (signal.SIGTERM, "2 explore 1/1")]
)
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, number, after):
    process = _start(
        "--preset",
        "smoke",
        "--source",
        "recipe",
        "--dataset-steps",
        1000,
        "--wandb",
        "off",
        "--logdir",
        tmp_path,
        "--online-steps",
        5000,
    )
    for line in process.stdout:
        if line.startswith(after):
            process.send_signal(number)
            break
    _, stderr = process.communicate()
    assert process.returncode == 128 + number
    (directory,) = tmp_path.glob("*/*/*")
    last = stderr.strip().splitlines()[-1]
    assert number.name in last and f"--resume '{directory}'" in last and "Traceback" not in stderr
    assert number.name in (directory / "record" / "failure.txt").read_text()
    assert not (directory / "result" / "summary.json").exists()


def test_a_second_signal_stops_at_once():
    code = (
        "import os, signal; from doof_ext.checkpointing.signals import SignalWatcher\n"
        "with SignalWatcher().watching():\n"
        "    os.kill(os.getpid(), signal.SIGTERM); print('noted', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM); print('ignored')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "noted\n")
