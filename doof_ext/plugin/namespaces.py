"""The kit's own namespaces: DOOF's classes added to them, and the substitutes that a runner imports from them.

Imports neither the kit nor torch: DOOF's names are added to the installed kit's modules when those are imported.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import os
import sys
import types
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from typing import Any

OFFERED = {
    "offlinerlkit.buffer": {"TensorReplayBuffer": "doof_ext.learning.replay_buffer"},
    "offlinerlkit.dynamics": {
        "DOOFDynamics": "doof_ext.learning.dynamics",
        "DynamicsFinetuner": "doof_ext.algorithm.finetune_dynamics",
    },
    "offlinerlkit.policy": {"DOOFPolicy": "doof_ext.learning.policy", "DOOFMobilePolicy": "doof_ext.learning.policy"},
    "offlinerlkit.policy_trainer": {
        "DOOFTrainer": "doof_ext.learning.policy_trainer",
        "ExplorationTrainer": "doof_ext.learning.policy_trainer",
        "OnlineCollector": "doof_ext.algorithm.collect",
        "PolicyFinetuneTrainer": "doof_ext.learning.policy_trainer",
    },
}
"""The names that ``import doof_ext`` adds to each of the kit's modules, and the modules they come from."""

_EMBEDDED = {  # the kit's modules for the embedded kit's names, for runners on a machine without the kit
    "offlinerlkit.buffer": ["ReplayBuffer"],
    "offlinerlkit.dynamics": ["BaseDynamics", "EnsembleDynamics"],
    "offlinerlkit.modules": ["ActorProb", "Critic", "EnsembleDynamicsModel", "TanhDiagGaussian"],
    "offlinerlkit.nets": ["MLP", "EnsembleLinear"],
    "offlinerlkit.policy": ["BasePolicy", "MOBILEPolicy", "MOPOPolicy", "SACPolicy"],
    "offlinerlkit.policy_trainer": ["MBPolicyTrainer"],
    "offlinerlkit.utils.load_dataset": ["qlearning_dataset"],
    "offlinerlkit.utils.logger": ["Logger", "make_log_dirs"],
    "offlinerlkit.utils.scaler": ["StandardScaler"],
    "offlinerlkit.utils.termination_fns": ["get_termination_fn"],
}


def offer() -> None:
    """Makes OFFERED importable from the installed kit's modules, now or when they are imported."""
    if os.environ.get("DOOF_KIT") == "embedded" or any(isinstance(f, _Finder) for f in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder())
    for name in OFFERED:
        if name in sys.modules:
            _offer_in(sys.modules[name])


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the kit's modules through the other finders, and adds DOOF's names once they are executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in OFFERED:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                return _offering(spec)
        return None


def _offering(spec: ModuleSpec) -> ModuleSpec:
    loader: Any = spec.loader  # whose method is replaced
    execute = loader.exec_module

    def exec_module(module: types.ModuleType) -> None:
        execute(module)
        _offer_in(module)

    loader.exec_module = exec_module
    return spec


def _offer_in(module: Any) -> None:
    offered = OFFERED[module.__name__]

    def missing(name: str) -> Any:
        if name not in offered:
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(offered[name]), name)

    module.__getattr__ = missing
    if hasattr(module, "__all__"):
        module.__all__ = [*module.__all__, *(name for name in offered if name not in module.__all__)]


def substitute(substitutes: Mapping[str, Mapping[str, Any]]) -> None:
    """Replaces names of the kit's modules in this process; the embedded kit is first put under their names.

    Args:
        substitutes: {module: {name: object}}.
    """
    from doof_ext import kit

    if kit.NAME == "embedded":
        for module, names in _EMBEDDED.items():
            _make_module(module, {name: getattr(kit, name) for name in names})
    for module, content in substitutes.items():
        vars(importlib.import_module(module)).update(content)


def _make_module(name: str, content: Mapping[str, Any]) -> None:
    parent, _, last = name.rpartition(".")
    if parent and parent not in sys.modules:
        _make_module(parent, {"__path__": []})
    module = types.ModuleType(name, "The embedded kit, under the kit's name.")
    vars(module).update(content)
    sys.modules[name] = module
    if parent:
        setattr(sys.modules[parent], last, module)
