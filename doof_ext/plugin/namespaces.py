"""The kit's own namespaces: DOOF's classes offered in them, and what a runner finds under their names.

Imports neither the kit nor torch: the installed kit's modules are given DOOF's names when they are imported.
"""

import importlib
import importlib.abc
import importlib.util
import os
import sys
import types

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
"""Which of DOOF's names each of the kit's modules has after ``import doof_ext``, and where they come from."""

_EMBEDDED = {  # where the kit has what the embedded kit has, for runners on a machine without the kit
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
    """Finds the kit's modules as they would be found, and has DOOF's names added once they are executed."""

    def find_spec(self, fullname, path, target=None):
        if fullname not in OFFERED:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                return _offering(spec)
        return None


def _offering(spec):
    execute = spec.loader.exec_module
    spec.loader.exec_module = lambda module: (execute(module), _offer_in(module))
    return spec


def _offer_in(module):
    offered = OFFERED[module.__name__]

    def missing(name):
        if name not in offered:
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(offered[name]), name)

    module.__getattr__ = missing
    if hasattr(module, "__all__"):
        module.__all__ = [*module.__all__, *(name for name in offered if name not in module.__all__)]


def substitute(substitutes) -> None:
    """Puts ``substitutes``, a dict {module: {name: object}}, into the kit's modules of this process.

    Where the embedded kit is used, it stands under the kit's module names.
    """
    from doof_ext import kit

    if kit.NAME == "embedded":
        for module, names in _EMBEDDED.items():
            _make_module(module, {name: getattr(kit, name) for name in names})
    for module, names in substitutes.items():
        vars(importlib.import_module(module)).update(names)


def _make_module(name, content):
    parent, _, last = name.rpartition(".")
    if parent and parent not in sys.modules:
        _make_module(parent, {"__path__": []})
    module = types.ModuleType(name, "The embedded kit, under the kit's name.")
    vars(module).update(content)
    sys.modules[name] = module
    if parent:
        setattr(sys.modules[parent], last, module)
