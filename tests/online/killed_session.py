"""Control loops that are killed, hard, at random lines of a session's code: run by test_session_kills.py as a script.

python killed_session.py RUN STEPS KILLS LEDGER

Each loop is a forked process. The system gives each step a number of its own, as reward; LEDGER has a line for each
number as its step is taken, and another one once it is recorded.
"""

import os
import random
import signal
import sys

import numpy as np

from doof_ext import OnlineSession

run, steps, kills, ledger = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
FUNCTIONS = ("_take_up", "act", "_checked", "record", "append", "_open", "_write_whole", "_sealed", "close")


def loop(kill_at):
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        if event == "call":
            here = frame.f_code.co_filename.endswith(("online/session.py", "data/journal.py"))
            return trace if here and frame.f_code.co_name in FUNCTIONS else None
        lines += event == "line"
        if lines == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    with open(ledger, "a+b", buffering=0) as notes:
        notes.seek(0)
        number = notes.read().count(b"taken")
        sys.settrace(trace)
        with OnlineSession(run, steps) as session:
            while session.remaining:
                session.act(np.full(11, number / 1e3))
                notes.write(b"taken %d\n" % number)
                session.record(np.full(11, (number + 1) / 1e3), number, number % 7 == 6, number % 5 == 4)
                notes.write(b"recorded %d\n" % number)
                number += 1


rng = random.Random(kills)
for kill_at in [*(rng.randrange(1, 1200) for _ in range(kills)), 0]:
    child = os.fork()
    if not child:
        loop(kill_at)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == (signal.SIGKILL if kill_at else 0), status
