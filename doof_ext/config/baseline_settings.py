"""The settings of the baselines of Table 3, with the authors' values per method. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from doof_ext.config.rules import option
from doof_ext.config.run_settings import RunSettings
from doof_ext.tasks import TaskSpec

METHODS = MappingProxyType(
    {
        "iql": "IQL: Kostrikov et al. 2022, Offline Reinforcement Learning with Implicit Q-Learning",
        "cql": "CQL: Kumar et al. 2020, Conservative Q-Learning for Offline Reinforcement Learning",
        "cal-ql": "Cal-QL: Nakamoto et al. 2023, Calibrated Offline RL Pre-Training for Efficient Online Fine-Tuning",
        "spot": "SPOT: Wu et al. 2022, Supported Policy Optimization for Offline Reinforcement Learning",
        "pex": "PEX: Zhang et al. 2023, Policy Expansion for Bridging Offline-to-Online Reinforcement Learning",
        "fowm": "FOWM: Feng et al. 2023, Finetuning Offline World Models in the Real World",
    }
)
"""The methods by the name of ``--algo``, with their papers."""

_IQL = dict(
    tau=0.005,
    hidden_dims=(256, 256),
    actor_lr=3e-4,
    critic_lr=3e-4,
    expectile=0.7,
    advantage_temperature=3.0,
    normalize_observations=True,
    normalize_rewards=True,
)
_CQL = dict(
    tau=0.005,
    hidden_dims=(256, 256, 256),
    actor_lr=3e-5,
    critic_lr=3e-4,
    conservatism=10.0,
    max_q_backup=False,
    normalize_observations=True,
    normalize_rewards=False,
)
_CAL_QL = _CQL | dict(online_ratio=0.5)
_SPOT = dict(
    tau=0.005,
    hidden_dims=(256, 256),
    actor_lr=1e-4,
    critic_lr=3e-4,
    density_weight=1.0,
    density_weight_end=1.0,
    normalize_observations=False,
    normalize_rewards=True,
)
_FOWM = dict(
    hidden_dims=(512, 512),
    actor_lr=3e-4,
    critic_lr=3e-4,
    tau=0.01,
    expectile=0.7,
    advantage_temperature=3.0,
    disagreement_cost=20.0,
    online_ratio=0.5,
    normalize_observations=False,
    normalize_rewards=True,
)
_PEX = _IQL | dict(
    expectile=0.9, advantage_temperature=10.0, normalize_observations=False, normalize_rewards=False, online_ratio=0.5
)

DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"iql": _IQL, "cql": _CQL, "cal-ql": _CAL_QL, "spot": _SPOT, "pex": _PEX, "fowm": _FOWM}
)
"""By method, on locomotion and on what no table names. The DOOF paper names the code that it ran, CORL and PEX's own,
and no settings; these are that code's: CORL's per-task files of iql and cql, its defaults of spot, PEX's command for
halfcheetah-random-v2, FOWM's file of its hopper and the scaling of rewards in its code. IQL's targets follow at its
paper's rate, and its rewards are scaled on all of locomotion, as its paper has it."""

_ADROIT_IQL = dict(expectile=0.8, normalize_rewards=False)
_ADROIT_CQL = dict(
    conservatism=1.0, actor_lr=1e-4, max_q_backup=True, normalize_observations=False, normalize_rewards=False
)
_BY_TASK: Mapping[str, Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "pen": {
            "iql": _ADROIT_IQL,
            "fowm": dict(normalize_rewards=False),
            "cql": _ADROIT_CQL,
            "cal-ql": _ADROIT_CQL,
            "spot": dict(density_weight_end=0.5, normalize_rewards=False),
        },
        "hopper-medium-v2": {"cql": dict(normalize_rewards=True), "cal-ql": dict(normalize_rewards=True)},
    }
)
"""Where a domain or task differs from DEFAULTS, by its name and the method: CORL's files, and FOWM's code."""


def defaults_of(algo: str, spec: TaskSpec) -> dict[str, Any]:
    """A method's own settings on a task."""
    found = dict(DEFAULTS[algo])
    for name in (spec.domain, spec.name):
        found |= _BY_TASK.get(name, {}).get(algo, {})
    return found


BUDGETS: Mapping[str, Mapping[str, Any]] = MappingProxyType({"paper": {"epoch": 1000}})
"""Where the presets' budgets of pretraining are not DOOF's: a million gradient steps, as in the methods' papers."""

_METHODS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "iql": ("iql", "pex", "fowm"),
        "pex": ("pex",),
        "cql": ("cql", "cal-ql"),
        "mixed": ("cql", "cal-ql", "pex", "fowm"),
        "spot": ("spot",),
        "fowm": ("fowm",),
    }
)
"""The methods that the settings of a part are for; those of other parts are every method's."""


@dataclass
class BaselineConfig(RunSettings):
    """Settings of one run of a baseline. Until resolved, None may mean: the method's value or the preset's."""

    TITLES: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "run": "the run",
            "policy": "learning",
            "iql": "IQL, PEX and FOWM only",
            "pex": "PEX only",
            "cql": "CQL and Cal-QL only",
            "mixed": "CQL, Cal-QL, PEX and FOWM only",
            "spot": "SPOT only",
            "fowm": "FOWM only",
            "pretrain": "offline pretraining",
            "collect": "online finetuning: one gradient step for each environment step (ON-10K)",
            "finetune_policy": "offline finetuning on all data (OFF-300K)",
            "measure": "what is measured",
        }
    )

    algo: str = option("iql", "the method", choices=tuple(METHODS))
    tau: float = option(None, "rate at which target networks follow", stage="policy", ge=0, le=1, default_from="method")
    normalize_observations: bool = option(
        None, "give the networks observations less D's mean over its spread", stage="policy", default_from="method"
    )
    normalize_rewards: bool = option(
        None, "train on rewards times 1000 over the span of D's episode returns", stage="policy", default_from="method"
    )
    expectile: float | None = option(
        None, "of the value's regression (tau of its eq. 5)", stage="iql", gt=0, lt=1, default_from="method"
    )
    advantage_temperature: float | None = option(
        None,
        "inverse temperature of the policy's weights (beta of its eq. 7)",
        stage="iql",
        ge=0,
        default_from="method",
    )
    selection_temperature: float | None = option(
        10.0,
        "inverse temperature of the choice between policies (its alpha's inverse)",
        stage="pex",
        ge=0,
        after_pretraining=True,
    )
    conservatism: float | None = option(
        None, "weight of the conservative term (alpha of its eq. 4)", stage="cql", ge=0, default_from="method"
    )
    max_q_backup: bool | None = option(
        None, "the Q target is the best of the sampled next actions", stage="cql", default_from="method"
    )
    sampled_actions: int | None = option(
        10, "actions that the conservative term is estimated with, of each kind", stage="cql", ge=1
    )
    online_ratio: float | None = option(
        None,
        "part of a batch from D_on, once there is any; CQL draws D and D_on alike without",
        stage="mixed",
        ge=0,
        le=1,
        default_from="method",
        after_pretraining=True,
    )
    density_weight: float | None = option(
        None, "weight of the density penalty (lambda)", stage="spot", ge=0, default_from="method"
    )
    density_weight_end: float | None = option(
        None,
        "part of the weight that is left when the online steps end",
        stage="spot",
        ge=0,
        le=1,
        default_from="method",
        after_pretraining=True,
    )
    density_epochs: int | None = option(
        None,
        "epochs of training the density, before the policy's; a tenth of --epoch by default",
        stage="spot",
        ge=1,
        default_from="method",
    )

    disagreement_cost: float | None = option(
        None, "of the critics' standard deviation in a plan (lambda)", stage="fowm", ge=0, default_from="method"
    )

    @property
    def folder(self) -> str:
        """The method."""
        return self.algo

    def stage_after(self, stage: str) -> str:
        """Online finetuning, the only stage that follows one that a run may be stopped after."""
        return "finetune_online"


def is_method(algo: object) -> bool:
    """Whether what a file has under ``algo`` is a baseline's name."""
    return isinstance(algo, str) and algo in METHODS


def is_for(stage: str, algo: str) -> bool:
    """Whether a method has the settings of a part."""
    return algo in _METHODS_OF.get(stage, METHODS)
