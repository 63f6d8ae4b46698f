"""What is solved: task specs, environments with D4RL's physics, and the true dynamics from any state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from doof_ext.errors import UserError
from doof_ext.tasks.specs import (
    TaskSpec,
    get_spec,
    load_function,
    name_of_env,
    register,
    spec_of_data,
    spec_of_env,
    task_names,
    termination_rule,
)

if TYPE_CHECKING:
    from doof_ext.tasks.protocol import TaskEnv

__all__ = [
    "TaskSpec",
    "get_spec",
    "load_function",
    "make_env",
    "name_of_env",
    "register",
    "spec_of_data",
    "spec_of_env",
    "task_names",
    "termination_rule",
]

_LOCOMOTION = ("hopper", "halfcheetah", "walker2d")


def make_env(task: str | TaskSpec, seed: int = 0, physics: str = "d4rl") -> TaskEnv:
    """The task's environment, in the protocol of the kit's trainer.

    Args:
        task: A task's name or its spec.
        seed: Of resets and of the action space.
        physics: Of D4RL's locomotion tasks: ``d4rl`` (Gymnasium with MuJoCo 2.1's bodies), ``gymnasium`` (as shipped)
            or ``mujoco-py`` (the original stack).

    Returns:
        An environment with ``reset``, ``step``, ``state``, ``get_normalized_score``, ``physics`` and ``spec`` (complete
        with dimensions and bounds); a MuJoCo one with ``has_oracle`` has ``simulate``, the true dynamics.

    Raises:
        UserError: The task is unknown, its environment cannot be made, or its spaces are not boxes.
    """
    spec = get_spec(task) if isinstance(task, str) else task
    if spec.env_id is None:
        raise UserError(f"{spec.name} has no environment")
    if physics == "mujoco-py":
        if spec.domain not in _LOCOMOTION:
            raise UserError(f"{spec.name} has no mujoco-py environment here; choose another --physics")
        from doof_ext.tasks.mujoco_py_env import MujocoPyTaskEnv

        return MujocoPyTaskEnv(spec, seed=seed)
    if spec.domain in _LOCOMOTION:
        from doof_ext.tasks.locomotion import LocomotionTaskEnv

        return LocomotionTaskEnv(spec, seed=seed, physics=physics)
    if spec.domain == "pen":
        from doof_ext.tasks.adroit import PenTaskEnv

        return PenTaskEnv(spec, seed=seed)
    from doof_ext.tasks.gymnasium_env import GymnasiumTaskEnv

    return GymnasiumTaskEnv(spec, seed=seed)
