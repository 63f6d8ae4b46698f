"""What is solved: task specs, environments with D4RL's physics, and the true dynamics from any state."""

from doof_ext.errors import UserError
from doof_ext.tasks.specs import TaskSpec, get_spec, task_names

__all__ = ["TaskSpec", "get_spec", "make_env", "task_names"]


def make_env(task: str, seed: int = 0, physics: str = "d4rl"):
    """The task's environment, in the protocol of the kit's trainer.

    Args: a task's name; the seed of resets and action space; ``d4rl`` (MuJoCo 2.1's bodies, the default) or
    ``gymnasium`` (as shipped).
    Returns: an environment with ``reset``, ``step``, ``simulate(qpos, qvel, action)``, ``get_normalized_score``
    and ``physics``.
    Raises: UserError for an unknown task or one whose environment this version does not have.
    """
    spec = get_spec(task)
    if spec.domain == "pen":
        raise UserError(f"{task}: the Adroit hand has no environment in this version; choose a Gym task")
    from doof_ext.tasks.gymnasium_env import GymnasiumTaskEnv

    return GymnasiumTaskEnv(spec, seed=seed, physics=physics)
