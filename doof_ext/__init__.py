"""DOOF, Decoupled Offline to Online Finetuning via a dynamics model, as a plugin for OfflineRL-Kit.

What a user builds a run of their own from; ``doof_ext.pipeline.run`` is the whole of it. Names are imported on first
use, so that ``import doof_ext`` costs nothing. The installed kit's namespaces have DOOF's classes from then on:
``from offlinerlkit.policy import DOOFPolicy``.
"""

from __future__ import annotations

import importlib
from typing import Any

from doof_ext.plugin.namespaces import offer

__version__ = "0.2.0"

_HOMES = {
    "Config": "doof_ext.config",
    "DOOFDynamics": "doof_ext.learning.dynamics",
    "DOOFMobilePolicy": "doof_ext.learning.policy",
    "DOOFPolicy": "doof_ext.learning.policy",
    "DOOFTrainer": "doof_ext.learning.policy_trainer",
    "DynamicsFinetuner": "doof_ext.algorithm.finetune_dynamics",
    "ExplorationTrainer": "doof_ext.learning.policy_trainer",
    "OnlineCollector": "doof_ext.algorithm.collect",
    "OnlineSession": "doof_ext.online.session",
    "PolicyFinetuneTrainer": "doof_ext.learning.policy_trainer",
    "TensorReplayBuffer": "doof_ext.learning.replay_buffer",
    "load_policy": "doof_ext.deploy.run_policy",
    "make_env": "doof_ext.tasks",
    "run": "doof_ext.pipeline",
}

__all__ = sorted(_HOMES)

offer()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'doof_ext' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
