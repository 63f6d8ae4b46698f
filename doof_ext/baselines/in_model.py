"""DOOF with IQL in MOPO's place, its paper's future work: a policy that needs no model, and an ensemble beside it.

The five stages are Algorithm 1's, with IQL's losses (see baselines.iql) where MOPO has SAC's:

    1  IQL on D alone, and beside it the ensemble P̂
    2  IQL on D, D_u and its own rollouts in P̂, rewarded with r + λ_on·u  (eq. 9)
    3, 4  as they are
    5  IQL on D, D_on and its own rollouts in P̂*, rewarded with r − λ_off·u  (eq. 2)

Experimental: no paper has numbers for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from doof_ext import pipeline
from doof_ext.algorithm.context import PolicyBuilder
from doof_ext.baselines.iql import IQL
from doof_ext.baselines.replay import reward_scale
from doof_ext.config import BaselineConfig, Config
from doof_ext.config.settings import IN_MODEL
from doof_ext.data.dataset import Dataset
from doof_ext.learning.actor_critic import Batch
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.factory import kit_policies
from doof_ext.learning.policy import ModelBasedPolicy, UncertaintyInReward, scale_actions, unscale_actions
from doof_ext.tasks import TaskSpec


class IQLInModel(UncertaintyInReward, nn.Module):
    """An IQL agent with what the stages ask of a policy: rollouts in a dynamics, u in the reward.

    Rows and actions are in the environment's units here, and in the agent's own (actions in [-1, 1], rewards scaled)
    where it learns.

    Args:
        agent: What learns.
        dynamics: The model.
        uncertainty_coef: The signed weight of u, −λ_off or +λ_on.
        scale: Of rewards, once u is in them.
    """

    def __init__(self, agent: IQL, dynamics: DOOFDynamics, uncertainty_coef: float, scale: float) -> None:
        super().__init__()
        self.agent, self.dynamics, self.uncertainty_coef, self.scale = agent, dynamics, uncertainty_coef, scale

    @property
    def _bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.agent.get_buffer("action_low"), self.agent.get_buffer("action_high")

    def learn(self, batch: Any) -> dict[str, torch.Tensor]:
        """IQL's step on a batch, or on the rows of batch["real"] and batch["fake"] together; scalar tensors."""
        rows: Batch = self._joined(batch) if "real" in batch else batch
        own = {
            **rows,
            "actions": unscale_actions(rows["actions"], *self._bounds),
            "rewards": rows["rewards"] * self.scale,
        }
        return self.agent.learn(own) | {"policy_std": self.agent.policy.log_std.detach().exp().mean()}

    def actforward(self, obs: torch.Tensor, deterministic: bool = False) -> tuple[torch.Tensor, None]:
        """obs [B, O] → actions [B, A] within the action space; their density is nobody's input here."""
        squashed = self.agent.act(self.agent.normalizer(obs), deterministic)
        return scale_actions(squashed, *self._bounds), None

    _sample_actions = actforward

    def target_q(self, obs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """The least target critic's value [B, 1] of obs [B, O], actions [B, A], in the environment's units."""
        return (
            self.agent.targets(self.agent.normalizer(obs), unscale_actions(actions, *self._bounds)).amin(0) / self.scale
        )

    def select_action(self, obs: Any, deterministic: bool = False) -> np.ndarray:
        """The kit's: obs [B, O] → actions [B, A], arrays."""
        return self.agent.select_action(obs, deterministic)

    def training_state(self) -> dict[str, Any]:
        """All that learning resumes from."""
        return self.agent.training_state()

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`training_state` returned."""
        self.agent.load_training_state(state)

    def check_weights(self, where: str) -> None:
        """Raises DivergenceError, naming the network and ``where`` it was, for a weight that is not finite."""
        self.agent.check_weights(where)


def policy_builder(config: Config, spec: TaskSpec, dataset: Dataset) -> PolicyBuilder:
    """What builds the policies of a run on D, with the spec of its environment; see factory.build_policy.

    Of IQL in the model: with nothing to start from, an untrained one whose policy's learning rate falls over stage 1 as
    IQL's does; else one with all networks of the other and fresh optimisers.
    """
    if config.algo != IN_MODEL:
        return kit_policies(config, spec, dataset)
    scale = reward_scale(dataset, spec.max_episode_steps) if config.normalize_rewards else 1.0

    def build(
        config: Config,
        spec: TaskSpec,
        dynamics: DOOFDynamics,
        uncertainty_coef: float,
        start_from: ModelBasedPolicy | None = None,
    ) -> ModelBasedPolicy:
        agent = IQL(settings_of_iql(config), spec, dataset).to(config.device)
        if start_from is None:
            agent.begin_pretraining(config.epoch * config.step_per_epoch)
        else:
            assert isinstance(start_from, IQLInModel)
            agent.load_state_dict(start_from.agent.state_dict())
            agent.begin_online(0)  # which ends the schedule of stage 1
        return IQLInModel(agent, dynamics, uncertainty_coef, scale)

    return build


def settings_of_iql(config: Config) -> BaselineConfig:
    """The settings of IQL that a DOOF run has."""
    own = {field.name for field in dataclasses.fields(Config)} - {"algo"}
    shared = {
        field.name: getattr(config, field.name) for field in dataclasses.fields(BaselineConfig) if field.name in own
    }
    return BaselineConfig(**shared, algo="iql")


def run(config: Config) -> tuple[dict[str, Any], str]:
    """As pipeline.run, of any algorithm."""
    return pipeline.run(config, policy_builder)
