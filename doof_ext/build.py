"""Networks, policies, dynamics and buffers from a config, in the manner of the kit's run_mopo.py."""

import torch

from doof_ext import kit
from doof_ext.dynamics import DOOFDynamics
from doof_ext.policy import DOOFPolicy
from doof_ext.replay import TensorReplayBuffer
from doof_ext.tasks import termination_rule


def build_termination_fn(spec):
    """When a model rollout ends: the task's own rule, or that of its domain."""
    return termination_rule(spec) or kit.get_termination_fn(spec.domain)


def build_dynamics(config, spec) -> DOOFDynamics:
    """An untrained ensemble with the task's termination rule."""
    model = kit.EnsembleDynamicsModel(
        spec.obs_dim, spec.action_dim, config.dynamics_hidden_dims, num_ensemble=config.n_ensemble,
        num_elites=config.n_elites, weight_decays=config.dynamics_weight_decay, device=config.device,
    )  # fmt: skip
    optim = torch.optim.Adam(model.parameters(), lr=config.dynamics_lr, fused=True)
    dynamics = DOOFDynamics(
        model, optim, kit.StandardScaler(), build_termination_fn(spec),
        penalty_coef=config.penalty_coef, uncertainty_mode=config.uncertainty,
    )  # fmt: skip
    dynamics.holdout_seed = config.seed
    return dynamics


def build_policy(config, spec, dynamics, uncertainty_coef, start_from=None) -> DOOFPolicy:
    """A policy with fresh optimisers whose rollouts in ``dynamics`` are rewarded with r + uncertainty_coef·u.

    With ``start_from``, actor, critics and temperature are copied from that policy, and the target networks from
    its critics.
    """

    def mlp(input_dim):
        return kit.MLP(input_dim, config.hidden_dims)

    backbone = mlp(spec.obs_dim)
    head = kit.TanhDiagGaussian(backbone.output_dim, spec.action_dim, unbounded=True, conditioned_sigma=True)
    actor = kit.ActorProb(backbone, head, config.device)
    critics = [kit.Critic(mlp(spec.obs_dim + spec.action_dim), config.device) for _ in range(2)]
    log_alpha = torch.zeros(1, device=config.device)
    if start_from is not None:
        actor.load_state_dict(start_from.actor.state_dict())
        for critic, source in zip(critics, (start_from.critic1, start_from.critic2), strict=True):
            critic.load_state_dict(source.state_dict())
        if config.auto_alpha:
            log_alpha.copy_(start_from._log_alpha.detach())
    alpha = config.alpha
    if config.auto_alpha:
        log_alpha.requires_grad_()
        target_entropy = -float(spec.action_dim) if config.target_entropy is None else config.target_entropy
        alpha = (target_entropy, log_alpha, torch.optim.Adam([log_alpha], lr=config.alpha_lr))
    rates = (config.actor_lr, config.critic_lr, config.critic_lr)
    optims = [torch.optim.Adam(net.parameters(), lr=lr) for net, lr in zip((actor, *critics), rates, strict=True)]
    return DOOFPolicy(
        dynamics, actor, *critics, *optims, tau=config.tau, gamma=config.gamma, alpha=alpha,
        uncertainty_coef=uncertainty_coef, action_low=spec.action_low, action_high=spec.action_high,
    )  # fmt: skip


def build_fake_buffer(config, spec) -> TensorReplayBuffer:
    """A buffer for the model rollouts of the last ``model_retain_epochs`` rollouts."""
    capacity = config.rollout_batch_size * config.rollout_length * config.model_retain_epochs
    return TensorReplayBuffer(capacity, (spec.obs_dim,), action_dim=spec.action_dim, device=config.device)


def rollout_setting(config):
    """The kit trainer's (steps between rollouts, start states of each, length)."""
    return config.rollout_freq, config.rollout_batch_size, config.rollout_length
