"""Our own equivalents of the part of OfflineRL-Kit 0.0.1 that DOOF builds on: plain, short, the reference semantics.

Interface and behaviour are the kit's, without its bugs: a buffer that forgets its capacity, a finetuning that can only
get worse, a standard deviation with an offset, …
"""

from doof_ext.kit.embedded.buffer import ReplayBuffer
from doof_ext.kit.embedded.dynamics import BaseDynamics, EnsembleDynamics
from doof_ext.kit.embedded.logger import Logger, make_log_dirs
from doof_ext.kit.embedded.mobile import MOBILEPolicy
from doof_ext.kit.embedded.modules import ActorProb, Critic, EnsembleDynamicsModel, TanhDiagGaussian
from doof_ext.kit.embedded.mopo import MOPOPolicy
from doof_ext.kit.embedded.nets import MLP, EnsembleLinear
from doof_ext.kit.embedded.sac import BasePolicy, SACPolicy
from doof_ext.kit.embedded.scaler import StandardScaler
from doof_ext.kit.embedded.termination_fns import get_termination_fn
from doof_ext.kit.embedded.trainer import MBPolicyTrainer

__all__ = [
    "MLP",
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
    "get_termination_fn",
    "make_log_dirs",
]
