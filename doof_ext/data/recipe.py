"""Recipe datasets: made here, after D4RL's own recipe, in D4RL's physics. Never to be called D4RL's data.

Steps are recorded in streams of at most STREAM_STEPS, each with an environment and generators seeded from
(recipe, seed, stream), so that the data depend on those alone and not on how many processes made them.
"""

import multiprocessing
import os
import zlib

import numpy as np
from tqdm import tqdm

from doof_ext.data.behaviour import Behaviour
from doof_ext.data.dataset import Dataset, read_dataset, write_dataset
from doof_ext.errors import UserError
from doof_ext.tasks import get_spec, make_env

STREAM_STEPS = 10_000
VERSION = 1  # part of a cached file's name; counts changes of what a recipe yields
SHIPPED = {"hopper-medium-v2": "hopper-medium"}
RANDOM = ("hopper-random-v2",)


def has_recipe(task: str) -> bool:
    """Whether the task's dataset can be made here."""
    return task in SHIPPED or task in RANDOM


def load_recipe(task: str, steps: int | None = None, seed: int = 0, processes: int | None = None) -> Dataset:
    """The task's recipe dataset, from the cache or made now.

    Args: the task; number of steps, by default those of D4RL's file; seed; processes, by default one per core.
    Raises: UserError where there is no recipe for the task.
    """
    if not has_recipe(task):
        raise UserError(f"no recipe for {task}; there is one for {', '.join([*RANDOM, *SHIPPED])}")
    steps = steps or get_spec(task).dataset_steps
    path = _cache_path(task, steps, seed)
    if os.path.exists(path):
        return read_dataset(path, get_spec(task))
    try:  # before the work, not after it
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); set DOOF_DATA_DIR to another folder") from error
    dataset = generate(task, steps, seed, processes)
    write_dataset(path, dataset)
    return dataset


def _cache_path(task, steps, seed):
    root = os.environ.get("DOOF_DATA_DIR") or os.path.join(os.path.expanduser("~"), ".cache", "doof_ext")
    return os.path.join(root, f"recipe-{task}-{steps}-seed{seed}-r{VERSION}.hdf5")


def generate(task: str, steps: int, seed: int, processes: int | None = None) -> Dataset:
    """Records ``steps`` steps of the recipe's behaviour, on all cores."""
    lengths = [min(STREAM_STEPS, steps - start) for start in range(0, steps, STREAM_STEPS)]
    jobs = [(task, seed, stream, length) for stream, length in enumerate(lengths)]
    processes = min(processes or len(os.sched_getaffinity(0)), len(jobs))
    bar = tqdm(total=steps, desc=f"recipe data {task}", unit="step", disable=None)
    with bar, multiprocessing.get_context("spawn").Pool(processes) if processes > 1 else _InProcess() as pool:
        streams = []
        for columns in pool.imap(_record_stream, jobs):
            streams.append(columns)
            bar.update(len(columns["rewards"]))
    columns = {name: np.concatenate([stream[name] for stream in streams]) for name in streams[0]}
    behaviour = _behaviour(task, seed).metadata
    metadata = {"recipe": task, "physics": "d4rl", "seed": seed, "recipe_version": VERSION}
    return Dataset(**columns, metadata=metadata | {"behaviour": str(behaviour["behaviour"])})


class _InProcess:
    """A pool of no processes: one stream is not worth starting one."""

    imap = staticmethod(map)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def _rng(task, seed, *purpose):
    return np.random.default_rng([zlib.crc32(task.encode()), seed, *purpose])


def _behaviour(task, seed):
    if task in SHIPPED:
        return Behaviour.shipped(SHIPPED[task])
    spec = get_spec(task)
    return Behaviour.random(spec.obs_dim, spec.action_dim, _rng(task, seed))


def _record_stream(job):
    task, seed, stream, length = job
    rng = _rng(task, seed, 1, stream)
    env = make_env(task, seed=int(rng.integers(2**31)))
    behaviour = _behaviour(task, seed)
    names = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts", "qpos", "qvel")
    columns = {name: [] for name in names}
    observation = env.reset()
    for step in range(length):
        qpos, qvel = env.state()
        action = behaviour.act(observation, rng)
        next_observation, reward, done, info = env.step(action)
        terminal = done and not info["TimeLimit.truncated"]
        timeout = not terminal and (done or step == length - 1)  # the end of a stream cuts its last episode
        row = (observation, action, next_observation, reward, terminal, timeout, qpos, qvel)
        for name, value in zip(names, row, strict=True):
            columns[name].append(value)
        observation = env.reset() if done else next_observation
    env.close()
    dtypes = {"terminals": bool, "timeouts": bool, "qpos": np.float64, "qvel": np.float64}
    return {name: np.array(values, dtype=dtypes.get(name, np.float32)) for name, values in columns.items()}
