"""Worker processes end with their parent, however it ends."""

import os
import signal
import subprocess
import sys

from conftest import ROOT

_PARENT = """
import os, signal, sys
from doof_ext.parallel import in_parallel

def pid(job):
    return os.getpid()

if __name__ == "__main__":
    print(next(in_parallel(pid, range(8), 2)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_workers_of_a_killed_process_end(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE)
    assert int(parent.stdout.readline()) != parent.pid and parent.wait() == -signal.SIGKILL
    parent.stdout.read()  # ends with the last worker, which writes to the same pipe
