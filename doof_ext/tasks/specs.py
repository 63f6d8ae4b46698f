"""Tasks: the paper's eleven (its Tables 4 and 5, D4RL's reference returns), and how to add your own.

Nothing here imports a simulator or a learning library, so that ``--help`` and argument checks are instant.
"""

from __future__ import annotations

import difflib
import importlib
import math
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from doof_ext.errors import UserError

TerminationFn = Callable[[Any, Any, Any], Any]
"""fn(obs [B, O], act [B, A], next_obs [B, O]) → bool [B, 1], of NumPy arrays or torch tensors."""


@dataclass(frozen=True)
class TaskSpec:
    """What DOOF must know of a task before it has data.

    A task of your own needs ``name``, ``env_id`` (None where it has no environment) and ``termination``; the rest has
    defaults. Scores are normalised as D4RL does: ``(return - ref_min_score) / (ref_max_score - ref_min_score)``, times
    100 where they are shown; without reference returns the score shown is the return itself.
    """

    name: str
    env_id: str | Callable[[], Any] | None  # Gymnasium's id ("package.module:Id-v0" imports the module), or a factory
    termination: str | TerminationFn | None = None  # see termination_rule(); D4RL's domains have their own
    max_episode_steps: int | None = None  # time limit; as registered with Gymnasium by default
    ref_min_score: float = 0.0  # return of D4RL's random policy
    ref_max_score: float = 100.0  # return of D4RL's expert
    rollout_length: int = 1  # Table 5; by default the kit's
    penalty_coef: float = 2.5  # Table 5, lambda_off; by default the kit's
    domain: str = ""  # D4RL's: names the environment's physics and its termination rule
    paper_name: str = ""  # the abbreviation of the paper's tables, such as HP-m
    quality: str = ""  # which behaviour made the dataset: random, medium, medium-replay, cloned, human
    dataset_steps: int | None = None  # transitions in D4RL's own file
    obs_dim: int | None = None  # read off the environment where None
    action_dim: int | None = None
    action_low: tuple[float, ...] | None = None  # bounds of an action, each dimension's; -1 and 1 where None
    action_high: tuple[float, ...] | None = None
    observation_names: tuple[str, ...] | None = None  # what each dimension is, with its unit: "joint angle [rad]"
    action_names: tuple[str, ...] | None = None
    actor_lr: float = 1e-4  # Table 4
    critic_lr: float = 3e-4  # Table 4
    dynamics_lr: float = 1e-3  # Table 4
    hidden_dims: tuple[int, ...] = (256, 256)  # Table 4, actor and critics
    dynamics_hidden_dims: tuple[int, ...] = (200, 200, 200, 200)  # Table 4
    dynamics_weight_decay: tuple[float, ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)  # the kit's MOPO defaults

    def normalized_score(self, episode_return: Any) -> Any:
        """D4RL's normalised score of a return, number or array, as a fraction (1.0 is the expert's return)."""
        return (episode_return - self.ref_min_score) / (self.ref_max_score - self.ref_min_score)

    def normalized_std(self, return_std: Any) -> Any:
        """A standard deviation of returns on the normalised scale: scaled, without the score's offset."""
        return return_std / (self.ref_max_score - self.ref_min_score)


_HOPPER: dict[str, Any] = dict(
    domain="hopper",
    env_id="Hopper-v4",
    obs_dim=11,
    action_dim=3,
    max_episode_steps=1000,
    ref_min_score=-20.272305,
    ref_max_score=3234.3,
)
_HALFCHEETAH: dict[str, Any] = dict(
    domain="halfcheetah",
    env_id="HalfCheetah-v4",
    obs_dim=17,
    action_dim=6,
    max_episode_steps=1000,
    ref_min_score=-280.178953,
    ref_max_score=12135.0,
)
_WALKER2D: dict[str, Any] = dict(
    domain="walker2d",
    env_id="Walker2d-v4",
    obs_dim=17,
    action_dim=6,
    max_episode_steps=1000,
    ref_min_score=1.629008,
    ref_max_score=4592.3,
)
_PEN: dict[str, Any] = dict(
    domain="pen",
    env_id="AdroitHandPen-v1",
    obs_dim=45,
    action_dim=24,
    max_episode_steps=100,
    ref_min_score=96.262799,
    ref_max_score=3076.8331017826877,
    actor_lr=3e-5,
    dynamics_lr=3e-4,
    hidden_dims=(256, 256, 256),
    dynamics_hidden_dims=(400, 400, 400, 400),
)

_DOMAINS = ("hopper", "halfcheetah", "walker2d", "pen")
_SPECS: dict[str, TaskSpec] = {}


def _add(
    paper_name: str,
    quality: str,
    version: str,
    rollout_length: int,
    penalty_coef: float,
    dataset_steps: int,
    domain: dict[str, Any],
) -> None:
    name = f"{domain['domain']}-{quality}-{version}"
    _SPECS[name] = TaskSpec(
        name=name,
        paper_name=paper_name,
        quality=quality,
        rollout_length=rollout_length,
        penalty_coef=penalty_coef,
        dataset_steps=dataset_steps,
        **domain,
    )


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
# Not in Table 5 (Figure 5 measures the dynamics distance on HC-me): the kit's suggested settings.
_add("HC-me", "medium-expert", "v2", 5, 2.5, 2_000_000, _HALFCHEETAH)
_add("HP-me", "medium-expert", "v2", 5, 5.0, 2_000_000, _HOPPER)
_add("WK-me", "medium-expert", "v2", 1, 2.5, 2_000_000, _WALKER2D)


def task_names() -> list[str]:
    """The names of all known tasks: those of the paper's Table 5 in its order, then all others."""
    return list(_SPECS)


def get_spec(task: str) -> TaskSpec:
    """The spec of ``task``; raises UserError with the nearest names for an unknown one."""
    if task in _SPECS:
        return _SPECS[task]
    near = difflib.get_close_matches(task, _SPECS, n=3, cutoff=0.4) or list(_SPECS)
    raise UserError(f"unknown task {task!r}; did you mean {', '.join(near)}? Your own: --env-id, or tasks.register()")


def register(spec: TaskSpec) -> TaskSpec:
    """Registers a task of your own by its name, for ``get_spec``, ``make_env`` and ``Config(task=...)``.

    Raises:
        UserError: The name is taken or unusable as a folder, or the task has no termination rule.
    """
    _SPECS[spec.name] = _checked(spec)
    return spec


def name_of_env(env_id: str) -> str:
    """A task name for a Gymnasium id: ``package:Robot/Arm-v0`` becomes ``package-Robot-Arm-v0``."""
    return re.sub(r"[^\w.+-]+", "-", env_id).strip("-.") or "own"


def spec_of_env(name: str, env_id: str, termination: str | None, max_episode_steps: int | None = None) -> TaskSpec:
    """The spec of a Gymnasium environment that no task names (``--env-id``), with the kit's defaults."""
    return _checked(TaskSpec(name, env_id, termination, max_episode_steps))


def spec_of_data(
    name: str,
    termination: str | None,
    action_low: tuple[float, ...] | None,
    action_high: tuple[float, ...] | None,
    max_episode_steps: int | None = None,
) -> TaskSpec:
    """The spec of a task without an environment (``--env none``), with the kit's defaults.

    Its dimensions are the data's; a single bound is that of every action dimension.

    Raises:
        UserError: A bound is missing or not below the other, or the task has no termination rule.
    """
    if action_low is None or action_high is None:
        raise UserError("--env none: which actions may be taken? Give --action-low and --action-high, in their units")
    if len({1, len(action_low), len(action_high)}) > 2:
        raise UserError(f"--action-low has {len(action_low)} numbers, --action-high {len(action_high)}")
    both = max(len(action_low), len(action_high))
    low, high = (bound * both if len(bound) == 1 else bound for bound in (action_low, action_high))
    if not all(map(math.isfinite, (*low, *high))):
        raise UserError(f"--action-low {low}, --action-high {high}: every action needs finite bounds")
    if not all(a < b for a, b in zip(low, high, strict=True)):
        raise UserError(f"--action-low {low} is not below --action-high {high} in every dimension")
    return _checked(TaskSpec(name, None, termination, max_episode_steps, action_low=low, action_high=high))


def _checked(spec: TaskSpec) -> TaskSpec:
    if not re.fullmatch(r"\w[\w.+-]*", spec.name):
        raise UserError(f"task name {spec.name!r} names folders; use letters, digits, '-', '_' and '.'")
    if _SPECS.get(spec.name, spec) != spec:
        raise UserError(f"there is a task {spec.name!r} already; choose another name")
    if spec.domain not in ("", *_DOMAINS):
        raise UserError(f"{spec.name}: unknown domain {spec.domain!r}; leave it empty for a task of your own")
    if spec.max_episode_steps is not None and spec.max_episode_steps < 1:
        raise UserError(f"{spec.name}: max_episode_steps is {spec.max_episode_steps}; it must be at least 1")
    if not spec.ref_max_score > spec.ref_min_score:
        raise UserError(f"{spec.name}: ref_max_score must be above ref_min_score")
    if not (spec.termination is None or isinstance(spec.termination, str) or callable(spec.termination)):
        raise UserError(f"{spec.name}: termination is {spec.termination!r}, neither a name nor a function")
    if spec.termination is None and not spec.domain:
        raise UserError(
            f"{spec.name}: when does an episode end? Give termination (--termination) as module:function, "
            "or 'never' where only a time limit ends it"
        )
    return spec


def termination_rule(spec: TaskSpec) -> TerminationFn | None:
    """A task's own termination rule, or None where its domain has one in the kit.

    A rule is ``fn(obs [B, O], act [B, A], next_obs [B, O]) → bool [B, 1]``, written with operators that NumPy arrays
    and torch tensors share. It is given as a function, as ``module:function`` (the working folder is searched too),
    or as ``never``.

    Raises:
        UserError: The function cannot be imported.
    """
    if spec.termination is None or callable(spec.termination):
        return spec.termination
    if spec.termination == "never":
        return never
    return load_function("--termination", spec.termination, "module:function nor 'never'")


def load_function(flag: str, text: str, right: str = "a module nor a function: give module:function") -> Any:
    """The function that a flag names as ``module:function``; the working folder is searched too.

    Args:
        flag: The flag, for errors.
        text: Its value.
        right: What the value is neither of where it has another form.

    Raises:
        UserError: The function cannot be imported.
    """
    module, _, name = text.partition(":")
    if not (module and name):
        raise UserError(f"{flag} {text!r} is neither {right}")
    search_working_folder()
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:  # the user's module may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            reason += f"; run this in the folder of {module}.py, or name that folder in PYTHONPATH"
        raise UserError(f"{flag} {text!r}: {reason}") from error
    if not callable(function):
        raise UserError(f"{flag} {text!r} is not a function")
    return function


def search_working_folder() -> None:
    """Lets the working folder's modules be imported, which Python does not where a script or a command is elsewhere."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def never(obs: Any, act: Any, next_obs: Any) -> Any:
    """The termination rule of a task that only a time limit ends."""
    return next_obs[:, :1] != next_obs[:, :1]  # True for NaN only
