"""Networks, policies, dynamics and buffers from a config, in the manner of the kit's run_mopo.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from doof_ext import kit
from doof_ext.config import Config
from doof_ext.data.dataset import Dataset
from doof_ext.errors import UserError
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.policy import DOOFMobilePolicy, DOOFPolicy, KitPolicy, ModelBasedPolicy
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.tasks import TaskSpec, termination_rule
from doof_ext.uncertainty import make_estimator


def build_termination_fn(spec: TaskSpec) -> Callable[..., Any]:
    """When a model rollout ends: the task's own rule, or that of its domain."""
    return termination_rule(spec) or kit.get_termination_fn(spec.domain)


def _dimensions(spec: TaskSpec) -> tuple[int, int]:
    """O and A of a task whose environment has been made."""
    assert spec.obs_dim is not None and spec.action_dim is not None
    return spec.obs_dim, spec.action_dim


def build_dynamics(config: Config, spec: TaskSpec) -> DOOFDynamics:
    """An untrained ensemble with the task's termination rule."""
    model = kit.EnsembleDynamicsModel(
        *_dimensions(spec),
        config.dynamics_hidden_dims,
        num_ensemble=config.n_ensemble,
        num_elites=config.n_elites,
        weight_decays=config.dynamics_weight_decay,
        device=config.device,
    )
    optim = torch.optim.Adam(model.parameters(), lr=config.dynamics_lr, fused=True)
    return DOOFDynamics(
        model,
        optim,
        kit.StandardScaler(),
        build_termination_fn(spec),
        penalty_coef=config.penalty_coef,
        uncertainty_mode=make_estimator(config.uncertainty, config),
        holdout_seed=config.seed,
    )


def build_actor(
    hidden_dims: Sequence[int], obs_dim: int, action_dim: int, device: str | torch.device = "cpu"
) -> kit.ActorProb:
    """An untrained actor: observations [B, O] to a tanh-Gaussian over actions [B, A] in (-1, 1)."""
    backbone = kit.MLP(obs_dim, hidden_dims)
    head = kit.TanhDiagGaussian(backbone.output_dim, action_dim, unbounded=True, conditioned_sigma=True)
    return kit.ActorProb(backbone, head, device)


def build_policy(
    config: Config,
    spec: TaskSpec,
    dynamics: DOOFDynamics,
    uncertainty_coef: float,
    start_from: ModelBasedPolicy | None = None,
) -> ModelBasedPolicy:
    """A policy with fresh optimisers.

    Args:
        config: Networks, learning rates and the algorithm.
        spec: Dimensions and action bounds.
        dynamics: The model that it learns in.
        uncertainty_coef: The signed weight of u.
        start_from: The policy that actor, critics and temperature are copied from, and the target networks from its
            critics.
    """
    obs_dim, action_dim = _dimensions(spec)
    actor = build_actor(config.hidden_dims, obs_dim, action_dim, config.device)
    count = config.num_q_ensemble if config.algo == "mobile" else 2
    critics = [kit.Critic(kit.MLP(obs_dim + action_dim, config.hidden_dims), config.device) for _ in range(count)]
    log_alpha = torch.zeros(1, device=config.device)
    if start_from is not None:
        assert isinstance(start_from, KitPolicy)
        actor.load_state_dict(start_from.actor.state_dict())
        for critic, source in zip(critics, start_from.all_critics, strict=True):
            critic.load_state_dict(source.state_dict())
        if config.auto_alpha:
            log_alpha.copy_(start_from._log_alpha.detach())
    alpha: Any = config.alpha
    if config.auto_alpha:
        log_alpha.requires_grad_()
        target_entropy = -float(action_dim) if config.target_entropy is None else config.target_entropy
        alpha = (target_entropy, log_alpha, torch.optim.Adam([log_alpha], lr=config.alpha_lr))
    actor_optim = torch.optim.Adam(actor.parameters(), lr=config.actor_lr)
    shared: dict[str, Any] = dict(
        tau=config.tau,
        gamma=config.gamma,
        alpha=alpha,
        uncertainty_coef=uncertainty_coef,
        action_low=spec.action_low,
        action_high=spec.action_high,
    )
    if config.algo == "mobile":
        ensemble = nn.ModuleList(critics)
        critics_optim = torch.optim.Adam(ensemble.parameters(), lr=config.critic_lr)
        return DOOFMobilePolicy(
            dynamics,
            actor,
            ensemble,
            actor_optim,
            critics_optim,
            num_samples=config.num_samples,
            deterministic_backup=config.deterministic_backup,
            max_q_backup=config.max_q_backup,
            nonnegative_target=config.nonnegative_target,
            estimator=dynamics.estimator,
            **shared,
        )
    optims = [torch.optim.Adam(critic.parameters(), lr=config.critic_lr) for critic in critics]
    return DOOFPolicy(dynamics, actor, *critics, actor_optim, *optims, **shared)


def kit_policies(config: Config, spec: TaskSpec, dataset: Dataset) -> Callable[..., ModelBasedPolicy]:
    """:func:`build_policy` for a run on D, whose algorithm has to be one of the kit's.

    Raises:
        UserError: It is another.
    """
    if config.algo not in ("mopo", "mobile"):
        raise UserError(f"--algo {config.algo} is not run here; run_doof.py runs it")
    return build_policy


def build_fake_buffer(config: Config, spec: TaskSpec) -> TensorReplayBuffer:
    """A buffer for the model rollouts of the last ``model_retain_epochs`` rollouts."""
    capacity = config.rollout_batch_size * config.rollout_length * config.model_retain_epochs
    obs_dim, action_dim = _dimensions(spec)
    return TensorReplayBuffer(capacity, (obs_dim,), action_dim=action_dim, device=config.device)


def rollout_setting(config: Config) -> tuple[int, int, int]:
    """The kit trainer's (steps between rollouts, start states of each, length)."""
    return config.rollout_freq, config.rollout_batch_size, config.rollout_length
