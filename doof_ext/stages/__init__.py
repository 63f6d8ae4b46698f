"""Algorithm 1 of the paper, one file per stage; each a function of explicit inputs with explicit outputs."""

from doof_ext.stages.collect import OnlineCollector, collect
from doof_ext.stages.explore import Exploration, explore
from doof_ext.stages.finetune_dynamics import DynamicsFinetuner, finetune_dynamics
from doof_ext.stages.finetune_policy import PolicyFinetuning, finetune_policy
from doof_ext.stages.pretrain import Pretraining, pretrain

__all__ = [
    "DynamicsFinetuner", "Exploration", "OnlineCollector", "PolicyFinetuning", "Pretraining",
    "collect", "explore", "finetune_dynamics", "finetune_policy", "pretrain",
]  # fmt: skip
