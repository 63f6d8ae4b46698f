"""DOOF, Decoupled Offline to Online Finetuning via a dynamics model, as a plugin for OfflineRL-Kit.

What a user builds a run of their own from; ``doof_ext.pipeline.run`` is the whole of it. Names are imported on first
use, so that ``import doof_ext`` costs nothing. The installed kit's namespaces have DOOF's classes from then on:
``from offlinerlkit.policy import DOOFPolicy``.
"""

import importlib

from doof_ext.namespaces import offer

__version__ = "0.1.0"

_HOMES = {
    "Config": "doof_ext.config",
    "DOOFDynamics": "doof_ext.dynamics",
    "DOOFMobilePolicy": "doof_ext.policy",
    "DOOFPolicy": "doof_ext.policy",
    "DOOFTrainer": "doof_ext.trainer",
    "DynamicsFinetuner": "doof_ext.stages.finetune_dynamics",
    "ExplorationTrainer": "doof_ext.trainer",
    "OnlineCollector": "doof_ext.stages.collect",
    "PolicyFinetuneTrainer": "doof_ext.trainer",
    "TensorReplayBuffer": "doof_ext.replay",
    "make_env": "doof_ext.tasks",
    "run": "doof_ext.pipeline",
}

__all__ = sorted(_HOMES)

offer()


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'doof_ext' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__():
    return [*__all__, "__version__"]
