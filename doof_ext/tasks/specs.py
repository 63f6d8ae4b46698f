"""The paper's eleven tasks: its Tables 4 and 5, and D4RL's reference returns.

Nothing here imports a simulator or a learning library, so that ``--help`` and argument checks are instant.
"""

import difflib
from dataclasses import dataclass

from doof_ext.errors import UserError


@dataclass(frozen=True)
class TaskSpec:
    """What DOOF must know of a task before it sees a transition.

    Scores are normalised as D4RL does: ``(return - ref_min_score) / (ref_max_score - ref_min_score)``.
    """

    name: str
    paper_name: str  # the abbreviation of the paper's tables, such as HP-m
    domain: str  # names the environment's physics and its termination rule
    quality: str  # which behaviour made the dataset: random, medium, medium-replay, cloned, human
    env_id: str  # Gymnasium's id
    obs_dim: int
    action_dim: int
    max_episode_steps: int
    ref_min_score: float  # return of D4RL's random policy
    ref_max_score: float  # return of D4RL's expert
    rollout_length: int  # Table 5
    penalty_coef: float  # Table 5, lambda_off
    dataset_steps: int  # transitions in D4RL's own file
    actor_lr: float = 1e-4  # Table 4
    critic_lr: float = 3e-4  # Table 4
    dynamics_lr: float = 1e-3  # Table 4
    hidden_dims: tuple[int, ...] = (256, 256)  # Table 4, actor and critics
    dynamics_hidden_dims: tuple[int, ...] = (200, 200, 200, 200)  # Table 4
    dynamics_weight_decay: tuple[float, ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)  # the kit's MOPO defaults

    def normalized_score(self, episode_return):
        """D4RL's normalised score as a fraction (1.0 is the expert's return)."""
        return (episode_return - self.ref_min_score) / (self.ref_max_score - self.ref_min_score)

    def normalized_std(self, return_std):
        """A standard deviation of returns on the normalised scale: scaled, without the score's offset."""
        return return_std / (self.ref_max_score - self.ref_min_score)


_HOPPER = dict(
    domain="hopper", env_id="Hopper-v4", obs_dim=11, action_dim=3, max_episode_steps=1000,
    ref_min_score=-20.272305, ref_max_score=3234.3,
)  # fmt: skip
_HALFCHEETAH = dict(
    domain="halfcheetah", env_id="HalfCheetah-v4", obs_dim=17, action_dim=6, max_episode_steps=1000,
    ref_min_score=-280.178953, ref_max_score=12135.0,
)  # fmt: skip
_WALKER2D = dict(
    domain="walker2d", env_id="Walker2d-v4", obs_dim=17, action_dim=6, max_episode_steps=1000,
    ref_min_score=1.629008, ref_max_score=4592.3,
)  # fmt: skip
_PEN = dict(
    domain="pen", env_id="AdroitHandPen-v1", obs_dim=45, action_dim=24, max_episode_steps=100,
    ref_min_score=96.262799, ref_max_score=3076.8331017826877,
    actor_lr=3e-5, dynamics_lr=3e-4, hidden_dims=(256, 256, 256), dynamics_hidden_dims=(400, 400, 400, 400),
)  # fmt: skip

_SPECS: dict[str, TaskSpec] = {}


def _add(paper_name, quality, version, rollout_length, penalty_coef, dataset_steps, domain):
    name = f"{domain['domain']}-{quality}-{version}"
    _SPECS[name] = TaskSpec(
        name=name, paper_name=paper_name, quality=quality, rollout_length=rollout_length,
        penalty_coef=penalty_coef, dataset_steps=dataset_steps, **domain,
    )  # fmt: skip


# Table 5: rollout length and lambda_off of each task.
_add("HC-r", "random", "v2", 1, 0.25, 1_000_000, _HALFCHEETAH)
_add("HC-m", "medium", "v2", 5, 0.5, 1_000_000, _HALFCHEETAH)
_add("HC-mr", "medium-replay", "v2", 5, 0.5, 202_000, _HALFCHEETAH)
_add("HP-r", "random", "v2", 1, 5.0, 1_000_000, _HOPPER)
_add("HP-m", "medium", "v2", 5, 5.0, 1_000_000, _HOPPER)
_add("HP-mr", "medium-replay", "v2", 5, 2.5, 402_000, _HOPPER)
_add("WK-r", "random", "v2", 1, 0.75, 1_000_000, _WALKER2D)
_add("WK-m", "medium", "v2", 5, 0.5, 1_000_000, _WALKER2D)
_add("WK-mr", "medium-replay", "v2", 1, 2.5, 302_000, _WALKER2D)
_add("P-c", "cloned", "v1", 1, 2.5, 500_000, _PEN)
_add("P-h", "human", "v1", 1, 0.5, 5_000, _PEN)


def task_names() -> list[str]:
    """The names of all known tasks, in the order of the paper's Table 5."""
    return list(_SPECS)


def get_spec(task: str) -> TaskSpec:
    """The spec of ``task``; raises UserError with the nearest names for an unknown one."""
    if task in _SPECS:
        return _SPECS[task]
    near = difflib.get_close_matches(task, _SPECS, n=3, cutoff=0.4) or list(_SPECS)
    raise UserError(f"unknown task {task!r}; did you mean {', '.join(near)}?")
