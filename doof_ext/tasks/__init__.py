"""What is solved: task specs, environments with D4RL's physics, and the true dynamics from any state."""

from doof_ext.errors import UserError
from doof_ext.tasks.specs import TaskSpec, get_spec, name_of_env, register, spec_of_env, task_names, termination_rule

__all__ = [
    "TaskSpec",
    "get_spec",
    "make_env",
    "name_of_env",
    "register",
    "spec_of_env",
    "task_names",
    "termination_rule",
]

_LOCOMOTION = ("hopper", "halfcheetah", "walker2d")


def make_env(task: str | TaskSpec, seed: int = 0, physics: str = "d4rl"):
    """The task's environment, in the protocol of the kit's trainer.

    Args: a task's name or its spec; the seed of resets and action space; what D4RL's locomotion tasks can choose
    between: ``d4rl`` (Gymnasium with MuJoCo 2.1's bodies, the default), ``gymnasium`` (as shipped), ``mujoco-py`` (the
    original stack).
    Returns: an environment with ``reset``, ``step``, ``state``, ``get_normalized_score``, ``physics`` and ``spec``
    (complete with dimensions and bounds); where it is a MuJoCo one, ``simulate`` gives the true dynamics.
    Raises: UserError for an unknown task, an environment that cannot be made, or one whose spaces are not boxes.
    """
    spec = get_spec(task) if isinstance(task, str) else task
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
