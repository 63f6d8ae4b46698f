"""The only access to OfflineRL-Kit: the installed ``offlinerlkit`` where there is one, else the embedded equivalent.

The environment variable ``DOOF_KIT`` (``embedded`` or ``offlinerlkit``) forces one; ``NAME`` and ``VERSION`` report
which it is. Type checkers always see the embedded one. Four parts are always ours: ``qlearning_dataset``, the same
transitions without a Python loop over them; ``Logger``, since the installed kit's truncates its files when it opens
them, so that no run could be resumed; the termination rules, since the installed kit's hopper rule does not terminate a
state of -5000, and its rules for unknown tasks are wrong rather than missing; and the statistics of columns, since the
installed kit's are float32 sums, by which a constant column has a spread.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import warnings
from typing import TYPE_CHECKING

from doof_ext.errors import UserError
from doof_ext.kit.embedded.load_dataset import qlearning_dataset
from doof_ext.kit.embedded.logger import Logger
from doof_ext.kit.embedded.scaler import column_statistics, standardisation
from doof_ext.kit.embedded.termination_fns import get_termination_fn

_CHOICES = ("embedded", "offlinerlkit")
_INSTALL = "pip install 'doof_ext[kit]' glfw imageio, or set DOOF_KIT=embedded"


def _choose() -> str:
    forced = os.environ.get("DOOF_KIT", "")
    if forced and forced not in _CHOICES:
        raise UserError(f"DOOF_KIT={forced!r} is neither {' nor '.join(_CHOICES)}")
    installed = importlib.util.find_spec("offlinerlkit") is not None
    if forced == "offlinerlkit" and not installed:
        raise UserError(f"DOOF_KIT=offlinerlkit, but offlinerlkit is not installed: {_INSTALL}")
    if forced == "embedded" or not installed:
        return "embedded"
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # gym's deprecation notice, which a user cannot act on
            importlib.import_module("offlinerlkit.policy_trainer")
    except Exception as error:  # gym.envs.mujoco needs glfw and imageio, and raises gym's own types
        if forced:
            raise UserError(f"DOOF_KIT=offlinerlkit, but it cannot be imported ({error}): {_INSTALL}") from error
        warnings.warn(
            f"offlinerlkit is installed but cannot be imported ({error}); using the embedded kit", stacklevel=2
        )
        return "embedded"
    return "offlinerlkit"


NAME = _choose()

if TYPE_CHECKING or NAME == "embedded":
    from doof_ext.kit.embedded import (
        MLP,
        ActorProb,
        BaseDynamics,
        BasePolicy,
        Critic,
        EnsembleDynamics,
        EnsembleDynamicsModel,
        EnsembleLinear,
        MBPolicyTrainer,
        MOBILEPolicy,
        MOPOPolicy,
        ReplayBuffer,
        SACPolicy,
        StandardScaler,
        TanhDiagGaussian,
        make_log_dirs,
    )

    VERSION = "0.1.0"
else:
    from importlib.metadata import version

    from offlinerlkit.buffer import ReplayBuffer
    from offlinerlkit.dynamics import BaseDynamics, EnsembleDynamics
    from offlinerlkit.modules import ActorProb, Critic, EnsembleDynamicsModel, TanhDiagGaussian
    from offlinerlkit.nets import MLP, EnsembleLinear
    from offlinerlkit.policy import BasePolicy, MOBILEPolicy, MOPOPolicy, SACPolicy
    from offlinerlkit.policy_trainer import MBPolicyTrainer
    from offlinerlkit.utils.logger import make_log_dirs
    from offlinerlkit.utils.scaler import StandardScaler

    VERSION = version("offlinerlkit")

__all__ = [
    "MLP",
    "NAME",
    "VERSION",
    "ActorProb",
    "BaseDynamics",
    "BasePolicy",
    "Critic",
    "EnsembleDynamics",
    "EnsembleDynamicsModel",
    "EnsembleLinear",
    "Logger",
    "MBPolicyTrainer",
    "MOBILEPolicy",
    "MOPOPolicy",
    "ReplayBuffer",
    "SACPolicy",
    "StandardScaler",
    "TanhDiagGaussian",
    "column_statistics",
    "get_termination_fn",
    "make_log_dirs",
    "qlearning_dataset",
    "standardisation",
]
