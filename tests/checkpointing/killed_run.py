"""run_doof.py that kills itself, hard, at a given one of its events: run by test_kills.py in a process of its own.

python killed_run.py KILL_AT COUNTER [run_doof.py's arguments]

Events are the steps of every stage, and each file operation by which something is saved. They are numbered over the
whole run: with each checkpoint the number goes to the file COUNTER, where a resumed run goes on counting, so that an
event has the same number however often the run was killed before. KILL_AT 0 kills nowhere. The stage that was killed
is added to COUNTER.places; where each stage of a run began, to COUNTER.starts.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "run_example"))

import run_doof

from doof_ext import files
from doof_ext.checkpointing import store, training_state
from doof_ext.data import journal
from doof_ext.evaluation import returns
from doof_ext.learning import actor_critic, dynamics, policy_trainer

kill_at, counter = int(sys.argv[1]), Path(sys.argv[2])
sys.argv[1:3] = []
count, place = int(counter.read_text()) if counter.exists() else 0, "before stage 1"


def happens():
    global count
    count += 1
    if count == kill_at:
        with open(f"{counter}.places", "a") as file:
            file.write(f"{place}\n")
        os.kill(os.getpid(), signal.SIGKILL)


def counted(owner, name):
    """Has an event before each call of a function, and another after it."""
    function = getattr(owner, name)

    def call(*args, **kwargs):
        happens()
        result = function(*args, **kwargs)
        happens()
        return result

    setattr(owner, name, call)


for owner, name in (
    (actor_critic.FastActorCritic, "_targets_step"),
    (dynamics.DOOFDynamics, "training_step"),
    (policy_trainer, "evaluate"),
    (returns, "step_env"),
    (journal.OnlineJournal, "append"),
    (journal.OnlineJournal, "close"),
    (store, "save_file"),
    (store, "_sync"),
    (store.os, "replace"),
    (files, "publish"),
):
    counted(owner, name)

stage, save = training_state.TrainingState.stage, store.CheckpointStore.save


def noted_stage(self, name, round, *args):
    global place
    place = f"{name} {round}"
    with open(f"{counter}.starts", "a") as file:
        file.write(f"{name} {count}\n")
    return stage(self, name, round, *args)


def save_and_note(self, tree):
    global count
    before = count
    path = save(self, tree)
    # the events of saving itself are not repeated by the run that goes on from here
    counter.with_suffix(".tmp").write_text(str(count))
    os.rename(counter.with_suffix(".tmp"), counter)
    assert count > before
    return path


store.CheckpointStore.save, training_state.TrainingState.stage = save_and_note, noted_stage
code = run_doof.main(command="killed_run.py")
Path(f"{counter}.total").write_text(str(count))
sys.exit(code)
