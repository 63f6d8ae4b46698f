"""How long a control loop waits for OnlineSession with the paper's networks: an action, and the record of a step.

python benchmarks/bench_act.py             # hopper, walker2d and pen, one thread; seconds
python benchmarks/bench_act.py --small     # to see that it works
"""

import argparse
import dataclasses
import itertools
import os
import tempfile
import time

import numpy as np
import torch

from doof_ext import OnlineSession
from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.config import Config, resolve
from doof_ext.experiment.artifacts import RunFiles
from doof_ext.experiment.task_record import TaskRecord, write_task
from doof_ext.files import save_tensors, write_json
from doof_ext.learning.factory import build_actor
from doof_ext.tasks import get_spec

TASKS = {"hopper-medium-v2": 1.0, "walker2d-medium-v2": 1.0, "pen-human-v1": 1.0, "pen-cloned-v1": 0.5}  # with a bound


def wait_for_steps(folder, task, bound):
    """A run directory with what a session reads: settings, task, a random exploration policy, a checkpoint."""
    config, files = resolve(Config(task=task), {"task"}), RunFiles(folder)
    spec = get_spec(task)
    limits = (bound,) * spec.action_dim
    spec = dataclasses.replace(spec, action_low=tuple(-limit for limit in limits), action_high=limits)
    os.mkdir(os.path.dirname(files.settings))
    write_json(files.settings, dataclasses.asdict(config))
    write_task(files.task, TaskRecord.of(spec))
    CheckpointStore(files.checkpoints).save({"stage": "collect.1"})
    actor = build_actor(config.hidden_dims, spec.obs_dim, spec.action_dim)
    save_tensors(files.exploration_policy, {f"actor.{name}": value for name, value in actor.state_dict().items()})
    return spec


def timed(function, *arguments):
    """What a call returns, its seconds, and those of them that the processor worked for it."""
    started, worked = time.perf_counter(), time.thread_time()
    result = function(*arguments)
    return result, (time.perf_counter() - started, time.thread_time() - worked)


def main():
    """Prints microseconds: the median by the clock, and what 99 of 100 calls take of the processor's time at most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    steps = 100 if args.small else 5000
    for task, bound in TASKS.items():
        with tempfile.TemporaryDirectory() as folder:
            spec = wait_for_steps(folder, task, bound)
            observations = np.random.default_rng(0).normal(size=(steps + 1, spec.obs_dim))
            calls = {"act": [], "record": []}
            with OnlineSession(folder, steps) as session:
                for observation, following in itertools.pairwise(observations):
                    _, seconds = timed(session.act, observation)
                    calls["act"].append(seconds)
                    calls["record"].append(timed(session.record, following, 0.0, False, False)[1])
        for name, seconds in calls.items():
            clock, processor = 1e6 * np.array(seconds[10:]).T
            print(f"{task:<20}{name:<8}{np.median(clock):>6.0f} us, {np.percentile(processor, 99):>6.0f} us in 99 %")


if __name__ == "__main__":
    main()
