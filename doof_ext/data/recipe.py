"""Recipe datasets: recorded here, after D4RL's own recipe, in D4RL's physics. They are never reported as D4RL's data.

A recipe is a list of behaviours with their numbers of steps. Steps are recorded in streams, each with an environment
and generators seeded from (recipe, seed, stream), so that the data do not depend on the number of processes. A stream
ends with its episode cut; medium-replay's are as long as the iterations of rlkit, which begins each with a new episode.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from doof_ext.data.behaviour import Behaviour, RecordingPolicy, UniformBehaviour
from doof_ext.data.dataset import Dataset, check_writable, read_dataset, write_dataset
from doof_ext.errors import UserError
from doof_ext.parallel import cores, in_parallel
from doof_ext.tasks import TaskSpec, make_env
from doof_ext.tasks.interaction import check_env, reset_env, step_env

STREAM_STEPS = 10_000
ITERATION_STEPS = 1_000  # of rlkit's SAC: uniform actions in the first, then the present policy's
_Job = tuple[TaskSpec, RecordingPolicy, int, int, int]  # spec, policy, seed, number of the stream, its length
VERSION = 4  # part of a cached file's name; counts changes of what a recipe yields
_SHIPPED = {  # the files in data/behaviours that a quality is recorded with, after the domain's name
    "medium": ("medium",),
    "medium-replay": ("replay",),
    "medium-expert": ("medium", "best"),
}
_DOMAINS = ("hopper", "halfcheetah", "walker2d")


def has_recipe(spec: TaskSpec) -> bool:
    """Whether the task's dataset can be recorded here."""
    return spec.domain in _DOMAINS and bool(spec.paper_name) and (spec.quality == "random" or spec.quality in _SHIPPED)


def behaviours(spec: TaskSpec, steps: int) -> list[tuple[RecordingPolicy, int]]:
    """The policies that ``steps`` steps of the task's recipe are recorded with, oldest first, and the steps of each."""
    assert spec.action_dim is not None  # as D4RL's tasks have it
    bound = np.ones(spec.action_dim, np.float32)
    uniform = UniformBehaviour(-bound, bound)
    if spec.quality == "random":
        return [(uniform, steps)]
    first: list[tuple[RecordingPolicy, int]] = []
    if spec.quality == "medium-replay":
        first = [(uniform, min(ITERATION_STEPS, steps))]
        steps -= first[0][1]
    policies = [policy for kind in _SHIPPED[spec.quality] for policy in Behaviour.shipped(f"{spec.domain}-{kind}")]
    shares = np.diff(np.linspace(0, steps, len(policies) + 1).astype(int)).tolist()
    return first + list(zip(policies, shares, strict=True))


def load_recipe(spec: TaskSpec, steps: int | None = None, seed: int = 0, processes: int | None = None) -> Dataset:
    """The task's recipe dataset, from the cache or recorded now.

    Args:
        spec: The task's spec.
        steps: Number of steps; by default that of D4RL's file.
        seed: Of environments and actions.
        processes: Workers that record; by default one per core.

    Raises:
        UserError: There is no recipe for the task, or the cache cannot be written.
    """
    if not has_recipe(spec):
        raise UserError(
            f"no recipe for {spec.name}: only the random, medium, medium-replay and medium-expert datasets of "
            f"{', '.join(_DOMAINS)} can be made here"
        )
    steps = steps or spec.dataset_steps
    assert steps is not None  # D4RL's tasks have dataset_steps
    path = _cache_path(spec.name, steps, seed)
    if os.path.exists(path):
        try:
            return read_dataset(path, spec)
        except UserError as error:
            print(f"{error}; making it again", file=sys.stderr)
    try:
        check_writable(path)
    except UserError as error:
        raise UserError(f"{error}: set DOOF_DATA_DIR to another folder") from error
    dataset = generate(spec, steps, seed, processes)
    write_dataset(path, dataset)
    return dataset


def _cache_path(task: str, steps: int, seed: int) -> str:
    root = os.environ.get("DOOF_DATA_DIR") or os.path.join("~", ".cache", "doof_ext")
    return os.path.join(os.path.expanduser(root), f"recipe-{task}-{steps}-seed{seed}-r{VERSION}.hdf5")


def generate(spec: TaskSpec, steps: int, seed: int, processes: int | None = None) -> Dataset:
    """Records ``steps`` steps of the recipe's behaviours, on all cores."""
    shares = behaviours(spec, steps)
    metadata = {
        "recipe": spec.name,
        "task": spec.name,
        "physics": "d4rl",
        "seed": seed,
        "recipe_version": VERSION,
        "behaviour": " + ".join(dict.fromkeys(str(policy.metadata["behaviour"]) for policy, _ in shares)),
    }
    stream_steps = ITERATION_STEPS if spec.quality == "medium-replay" else STREAM_STEPS
    return record(spec, shares, seed, processes, metadata, stream_steps)


def record_uniform(spec: TaskSpec, steps: int, seed: int, processes: int | None = None) -> Dataset:
    """Records ``steps`` steps of uniform random actions in the environment of any task."""
    env = make_env(spec)
    check_env(env)
    behaviour = UniformBehaviour(env.action_space.low, env.action_space.high)
    metadata = {
        "recipe": f"{spec.name} with uniform random actions",
        "task": spec.name,
        "physics": env.physics,
        "seed": seed,
        "behaviour": str(behaviour.metadata["behaviour"]),
        "recipe_version": VERSION,
    }
    env.close()
    return record(spec, [(behaviour, steps)], seed, processes, metadata)


def record(
    spec: TaskSpec,
    shares: Sequence[tuple[RecordingPolicy, int]],
    seed: int,
    processes: int | None,
    metadata: dict[str, Any],
    stream_steps: int = STREAM_STEPS,
) -> Dataset:
    """Records steps of policies, one policy after the other.

    Args:
        spec: The task's spec.
        shares: Policies and the number of rows of each, in the order of their rows.
        seed: Of environments and actions.
        processes: Workers that record; by default one per core.
        metadata: Of the dataset; ``recipe`` names it on the progress bar.
        stream_steps: Rows after which an environment is made anew, at most; the episode ends there.
    """
    jobs: list[_Job] = []
    for policy, share in shares:
        for start in range(0, share, stream_steps):
            jobs.append((spec, policy, seed, len(jobs), min(stream_steps, share - start)))
    steps, processes = sum(share for _, share in shares), min(processes or cores(), len(jobs))
    columns: dict[str, np.ndarray] = {}
    filled = 0
    bar = tqdm(total=steps, desc=f"recording {metadata['recipe']}", unit="step", disable=None)
    with bar:
        for stream in in_parallel(_record_stream, jobs, processes):
            count = len(stream["rewards"])
            for name, rows in stream.items():
                whole = columns.setdefault(name, np.empty((steps, *rows.shape[1:]), rows.dtype))
                whole[filled : filled + count] = rows
            filled += count
            bar.update(count)
    states = {name: columns.pop(name) for name in list(columns) if name not in _STEP}
    return Dataset(**columns, states=states, metadata=metadata)


def _rng(spec: TaskSpec, seed: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(spec.name.encode()), seed, *purpose])


_STEP = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")


def _record_stream(job: _Job) -> dict[str, np.ndarray]:
    spec, behaviour, seed, stream, length = job
    rng = _rng(spec, seed, 1, stream)
    env = make_env(spec, seed=int(rng.integers(2**31)))
    columns: dict[str, list[Any]] = {name: [] for name in (*_STEP, *env.state())}
    observation = reset_env(env)
    for step in range(length):
        state = env.state()
        action = behaviour.act(observation, rng)
        next_observation, reward, done, info = step_env(env, action)
        terminal = done and not info["TimeLimit.truncated"]
        timeout = not terminal and (done or step == length - 1)  # the end of a stream cuts its last episode
        row = (observation, action, next_observation, reward, terminal, timeout, *state.values())
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
        observation = reset_env(env) if done else next_observation
    env.close()
    dtypes = {"terminals": bool, "timeouts": bool} | dict.fromkeys(state, np.float64)
    return {name: np.array(values, dtype=dtypes.get(name, np.float32)) for name, values in columns.items()}
