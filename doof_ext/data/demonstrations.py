"""pen-human as D4RL makes it: the public demonstrations of hand_dapg, replayed in the simulator.

The demonstrations (Rajeswaran et al. 2018, github.com/aravindr93/hand_dapg, pen-v0_demos.pickle) are a pickled list of
dicts with ``actions`` and ``init_state_dict``. A replay does not repeat the recording: contacts amplify what simulators
differ in. So D4RL's file holds what the replay yields, and so does this one, with the simulator's states.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from doof_ext.data.array_pickle import PickledArray, load_arrays
from doof_ext.data.dataset import LARGEST, Dataset, dataset_from_columns
from doof_ext.data.recipe import VERSION
from doof_ext.errors import UserError
from doof_ext.tasks import TaskSpec

_STATE = {"qpos": 30, "qvel": 30, "desired_orien": 4}  # the pen's, with their widths


@dataclass(frozen=True)
class Demonstration:
    """What a demonstration is replayed from."""

    state: dict[str, np.ndarray]  # before the first step: qpos [30], qvel [30], desired_orien [4]
    actions: np.ndarray  # [T, A], not clipped


def read_demonstrations(path: str, spec: TaskSpec) -> list[Demonstration]:
    """The demonstrations in one of hand_dapg's pickles; nothing that it names is called.

    Raises:
        UserError: It cannot be read, holds more than arrays, or is no list of the task's demonstrations.
    """
    listed = load_arrays(path)
    if not (isinstance(listed, list) and listed and all(isinstance(item, dict) for item in listed)):
        raise UserError(f"{path}: no list of demonstrations in it; give hand_dapg's pen-v0_demos.pickle")
    demonstrations = []
    for number, item in enumerate(listed):
        label = f"{path}: demonstration {number}"
        actions = _floats(label, "actions", item.get("actions"), (None, spec.action_dim))
        state = item.get("init_state_dict")
        if not isinstance(state, dict):
            raise UserError(f"{label}: no init_state_dict, from which it would be replayed")
        parts = {name: _floats(label, name, state.get(name), (width,)) for name, width in _STATE.items()}
        demonstrations.append(Demonstration(parts, actions))
    return demonstrations


def _floats(label: str, name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """An array of finite float64 numbers in this shape, in which None is any number but 0."""
    if not isinstance(value, PickledArray) or value.array.dtype.kind not in "fiu":
        raise UserError(f"{label}: no array {name} of numbers; give hand_dapg's pen-v0_demos.pickle")
    array = value.array.astype(np.float64)
    fits = array.ndim == len(shape) and all(
        have > 0 if want is None else have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        expected = ", ".join("·" if width is None else str(width) for width in shape)
        raise UserError(f"{label}: {name} has shape {list(array.shape)}; expected [{expected}]: of another task?")
    if not (abs(array) < LARGEST).all():
        raise UserError(f"{label}: {name} is NaN, infinite or beyond {LARGEST:g}")
    return array


def replay(path: str, spec: TaskSpec) -> Dataset:
    """The dataset of hand_dapg's demonstrations, with the simulator's states and D4RL's dense reward.

    As in D4RL's generation of pen-human, actions are clipped to the action space and each demonstration goes on to its
    end, whatever befalls the pen: its last step is a timeout, and there are no terminals.

    Args:
        path: The pickle.
        spec: pen-human's spec.

    Raises:
        UserError: See :func:`read_demonstrations`; the simulator breaks down; or gymnasium-robotics is not installed.
    """
    demonstrations = read_demonstrations(path, spec)
    from doof_ext.tasks.adroit import PenTaskEnv

    env = PenTaskEnv(spec)
    names = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")
    columns: dict[str, list[Any]] = {name: [] for name in (*names, *(f"infos/{name}" for name in _STATE))}
    steps = sum(len(demonstration.actions) for demonstration in demonstrations)
    dropped = 0
    with tqdm(total=steps, desc=f"replaying {spec.name}", unit="step", disable=None) as bar:
        for number, demonstration in enumerate(demonstrations):
            actions = np.clip(demonstration.actions, env.action_space.low, env.action_space.high)
            observation, drops = env.reset_to(demonstration.state), False
            for step, action in enumerate(actions.astype(np.float32)):
                state = env.state()
                next_observation, reward, done, info = env.step(action)
                drops |= done and not info["TimeLimit.truncated"]
                last = step == len(actions) - 1
                row = (observation, action, next_observation, reward, False, last, *(state[name] for name in _STATE))
                for column, value in zip(columns.values(), row, strict=True):
                    column.append(value)
                observation = next_observation
            if env.is_unstable():
                raise UserError(f"{path}: demonstration {number} cannot be replayed, MuJoCo finds its states unstable")
            dropped += drops
            bar.update(len(actions))
    env.close()
    metadata = {
        "recipe": spec.name,
        "task": spec.name,
        "physics": env.physics,
        "behaviour": f"{len(demonstrations)} human demonstrations, replayed; the pen is dropped in {dropped}",
        "recipe_version": VERSION,
        "demonstrations": os.path.basename(path),
    }
    arrays = {name: np.array(column) for name, column in columns.items()}
    arrays |= {name: arrays[name].astype(np.float32) for name in names[:4]}
    return dataset_from_columns(path, arrays, metadata, spec)
