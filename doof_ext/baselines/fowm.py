"""FOWM (Feng et al. 2023): TD-MPC's world model with in-sample values; plans avoid what its critics disagree on.

    L = Σ_t ρ^t · [c_1·‖d(z_t, a_t) − h̄(s_{t+1})‖² + c_2·(R(z_t, a_t) − r_t)²                          (eqs. 2, 5, 6)
                   + c_3·Σ_i (Q_i(z_t, a_t) − r_t − γ·V(h(s_{t+1})))² + c_3·|τ − 1(Q̄ < V)|·(Q̄(z_t, a_t) − V(z_t))²]
    with z_0 = h(s_0), z_{t+1} = d(z_t, a_t)
    L_π = −Σ_t ρ^t · exp(β·(Q̄ − V)) · log π(a_t|z_t)                                                          (eq. 7)
    plan: the actions of the largest Σ_t γ^t·R + γ^H·Q, less λ·std_i Q_i at each step                          (eq. 8)

The planner samples action sequences once, from a wide Gaussian and from the policy, and takes one of the best. Unlike
the authors' it starts afresh at each step, since a policy here has no memory, and batches are drawn uniformly, without
their priorities.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from doof_ext.baselines.agent import Agent, follow
from doof_ext.baselines.replay import Replay
from doof_ext.config import BaselineConfig
from doof_ext.data.dataset import Dataset
from doof_ext.errors import UserError
from doof_ext.learning.actor_critic import Batch
from doof_ext.tasks import TaskSpec

_LATENT, _ENCODER = 50, 256
_HORIZON, _RHO = 5, 0.5  # of a sequence and of a plan; weight of a step by the one before
_CONSISTENCY, _REWARD, _VALUE = 20.0, 0.5, 0.1  # c_1, c_2, c_3
_CRITICS, _LARGEST_WEIGHT, _LARGEST_GRADIENT = 5, 100.0, 10.0
_SAMPLES, _PROPOSALS, _ELITES, _TEMPERATURE = 512, 51, 50, 0.5  # of the planner; proposals are the policy's
_MIN_STD, _MAX_STD = 0.05, 2.0


def _perceptron(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(inputs, size), nn.LayerNorm(size), nn.Mish()]
        inputs = size
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def _value(inputs: int, hidden: tuple[int, ...]) -> nn.Sequential:
    first, *rest = hidden
    layers: list[nn.Module] = [nn.Linear(inputs, first), nn.LayerNorm(first), nn.Tanh()]
    for size in rest:
        layers += [nn.Linear(first, size), nn.ELU()]
        first = size
    return nn.Sequential(*layers, nn.Linear(first, 1))


class FOWM(Agent):
    """Finetuning offline world models.

    Raises:
        UserError: D is shorter than one sequence.
    """

    updates: torch.Tensor

    def __init__(self, config: BaselineConfig, spec: TaskSpec, dataset: Dataset) -> None:
        if len(dataset) < _HORIZON:
            raise UserError(f"--algo fowm learns from {_HORIZON} steps in a row, and the data has {len(dataset)}")
        super().__init__(config, spec, dataset)
        assert config.disagreement_cost is not None and config.online_ratio is not None
        assert config.expectile is not None and config.advantage_temperature is not None
        self.expectile, self.advantage_temperature = config.expectile, config.advantage_temperature
        self.online_ratio, self.disagreement_cost = config.online_ratio, config.disagreement_cost
        hidden, pair = tuple(config.hidden_dims), _LATENT + self.action_dim
        self.encoder = nn.Sequential(
            nn.Linear(self.obs_dim, _ENCODER),
            nn.ELU(),
            nn.Linear(_ENCODER, _LATENT),
            nn.LayerNorm(_LATENT),
            nn.Sigmoid(),
        )
        self.dynamics = nn.Sequential(_perceptron(pair, hidden, _LATENT), nn.LayerNorm(_LATENT), nn.Sigmoid())
        self.reward = _perceptron(pair, hidden, 1)
        self.value = _value(_LATENT, hidden)
        self.critics = nn.ModuleList(_value(pair, hidden) for _ in range(_CRITICS))
        self.policy = _perceptron(_LATENT, hidden, self.action_dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight)
                nn.init.zeros_(module.bias)
        for network in (self.reward, *self.critics):
            nn.init.zeros_(network[-1].weight)
        self.encoder_target, self.targets = (
            copy.deepcopy(network).requires_grad_(False) for network in (self.encoder, self.critics)
        )
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.model = [self.encoder, self.dynamics, self.reward, self.value, self.critics]
        self.adam("model_optimizer", [p for network in self.model for p in network.parameters()], config.critic_lr)
        self.adam("actor_optimizer", self.policy.parameters(), config.actor_lr)

    def draw(self, replay: Replay) -> Batch:
        return replay.draw_sequences(self.config.batch_size, _HORIZON, self.online_ratio)

    def learn(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One step of the world model and its values on sequences [H, B, ·], then one of the policy."""
        obs, next_obs = self.normalizer(batch["observations"]), self.normalizer(batch["next_observations"])
        actions, rewards, gamma = batch["actions"], batch["rewards"], self.config.gamma
        is_one_episode = torch.cat([torch.ones_like(batch["ends"][:1]), 1 - batch["ends"][:-1]]).cumprod(0)
        weights = is_one_episode * _RHO ** torch.arange(_HORIZON, device=obs.device)[:, None, None]
        with torch.no_grad():
            next_latents = self.encoder_target(next_obs)
            target = rewards + gamma * (1 - batch["terminals"]) * self.value(self.encoder(next_obs))
        latents = [self.encoder(obs[0])]
        for step in range(_HORIZON):
            latents.append(self.dynamics(torch.cat([latents[-1], actions[step]], dim=-1)))
        before, after = torch.stack(latents[:-1]), torch.stack(latents[1:])
        pairs = torch.cat([before, actions], dim=-1)
        with torch.no_grad():
            target_q = self._least_of_two(pairs)
        consistency = (after - next_latents).square().mean(-1, keepdim=True)
        reward_error = (self.reward(pairs) - rewards).square()
        critic_error = self._all_values(pairs).sub(target).square().sum(0)
        advantage = target_q - self.value(before)
        value_error = torch.where(advantage < 0, 1 - self.expectile, self.expectile) * advantage.square()
        per_step = {"consistency": consistency, "reward": reward_error, "critic": critic_error, "value": value_error}
        losses = {f"loss/{name}": (weights * error).sum(0).mean() for name, error in per_step.items()}
        model_loss = _CONSISTENCY * losses["loss/consistency"] + _REWARD * losses["loss/reward"]
        model_loss = model_loss + _VALUE * (losses["loss/critic"] + losses["loss/value"])
        self._step("model_optimizer", model_loss / _HORIZON)
        policy_loss = self._learn_policy(before.detach(), actions, weights)
        self.updates += 1
        if self.updates % 2 == 0:
            follow(self.encoder_target, self.encoder, self.config.tau)
            follow(self.targets, self.critics, self.config.tau)
        return {name: loss.detach() for name, loss in losses.items()} | {"loss/actor": policy_loss}

    def _learn_policy(self, latents: torch.Tensor, actions: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Weighted regression on the sequences' actions (eq. 7), with a Gaussian of σ = 1.

        Args:
            latents: [H, B, Z], without gradients.
            actions: [H, B, A].
            weights: ρ^t, 0 of what follows the end of an episode [H, B, 1].
        """
        with torch.no_grad():
            advantage = self._least_of_two(torch.cat([latents, actions], dim=-1)) - self.value(latents)
            weight = (self.advantage_temperature * advantage).exp().clamp(max=_LARGEST_WEIGHT)
        log_prob = -0.5 * (self.policy(latents).tanh() - actions).square().sum(-1, keepdim=True)
        loss = -(weights * weight * log_prob).mean()
        self._step("actor_optimizer", loss)
        return loss.detach()

    def _step(self, name: str, loss: torch.Tensor) -> None:
        optimizer = self.optims[name]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], _LARGEST_GRADIENT)
        optimizer.step()

    def _least_of_two(self, pairs: torch.Tensor) -> torch.Tensor:
        """The lesser value of two target critics, drawn from all."""
        drawn = torch.randperm(_CRITICS)[:2].tolist()
        return torch.minimum(*(self.targets[i](pairs) for i in drawn))

    def prior(self, obs: torch.Tensor) -> torch.Tensor:
        """The policy's own mean actions [B, A] for normalised observations [B, O], without a plan."""
        return self.policy(self.encoder(obs)).tanh()

    @torch.no_grad()
    def act(self, obs: torch.Tensor, deterministic: bool) -> torch.Tensor:
        start = self.encoder(obs)
        rows = len(start)
        latents, proposed = start.repeat_interleave(_PROPOSALS, 0), []
        for _ in range(_HORIZON):
            proposed.append(self._proposal(latents))
            latents = self.dynamics(torch.cat([latents, proposed[-1]], dim=-1))
        sampled = (_MAX_STD * torch.randn(_HORIZON, rows, _SAMPLES, self.action_dim, device=obs.device)).clamp(-1, 1)
        plans = torch.cat([sampled, torch.stack(proposed).view(_HORIZON, rows, _PROPOSALS, -1)], dim=2)
        values = self.value_of(start, plans)  # [B, N]
        best, places = values.topk(_ELITES, dim=1)
        first = plans[0].gather(1, places[..., None].expand(-1, -1, self.action_dim))  # [B, elites, A]
        odds = (_TEMPERATURE * (best - best[:, :1])).softmax(1)
        chosen = first[torch.arange(rows), torch.multinomial(odds, 1)[:, 0]]
        if deterministic:
            return chosen
        mean = (odds[..., None] * first).sum(1, keepdim=True)
        std = (odds[..., None] * (first - mean).square()).sum(1).sqrt().clamp(_MIN_STD, _MAX_STD)
        return (chosen + std * torch.randn_like(chosen)).clamp(-1, 1)

    def _proposal(self, latents: torch.Tensor) -> torch.Tensor:
        mean = self.policy(latents).tanh()
        return (mean + (_MIN_STD * torch.randn_like(mean)).clamp(-0.3, 0.3)).clamp(-1, 1)

    def value_of(self, start: torch.Tensor, plans: torch.Tensor) -> torch.Tensor:
        """What plans [H, B, N, A] are worth from latents [B, Z]: [B, N] (eq. 8)."""
        count = plans.shape[2]
        latents, total, discount = start.repeat_interleave(count, 0), torch.zeros((), device=start.device), 1.0
        for actions in plans.flatten(1, 2):
            pairs = torch.cat([latents, actions], dim=-1)
            total = total + discount * (self.reward(pairs) - self._cost(self._all_values(pairs)))
            latents, discount = self.dynamics(pairs), discount * self.config.gamma
        values = self._all_values(torch.cat([latents, self._proposal(latents)], dim=-1))
        last = values[torch.randperm(_CRITICS)[:2]].amin(0) - self._cost(values)
        return (total + discount * last).view(-1, count)

    def _all_values(self, pairs: torch.Tensor) -> torch.Tensor:
        """Every critic's values [C, ·, 1] of latents and actions [·, Z + A]."""
        return torch.stack([critic(pairs) for critic in self.critics])

    def _cost(self, values: torch.Tensor) -> torch.Tensor:
        return self.disagreement_cost * values.std(0)
