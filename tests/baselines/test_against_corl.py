"""IQL's and SPOT's steps beside CORL's, whose numbers are in tests/fixtures/corl_steps.json."""

import json
import math

import pytest
import torch
from agents import make_agent
from conftest import ROOT
from torch import nn

from doof_ext.baselines.agent import frozen_copy
from doof_ext.baselines.iql import IQL
from doof_ext.baselines.spot import SPOT

OBS_DIM, ACTION_DIM, ROWS = 5, 2, 16
EXPECTED = json.loads((ROOT / "tests" / "fixtures" / "corl_steps.json").read_text())


def _values(shape, k):
    """Weights of an nn.Linear, or a vector, by a formula."""
    count = math.prod(shape)
    wave = 1.6 * torch.sin(torch.arange(count, dtype=torch.float64) * 0.7311 + k)
    return (wave / max(1.0, math.sqrt(shape[-1]))).reshape(shape).float()


def _set(parameters, first):
    for k, parameter in enumerate(parameters):
        parameter.data.copy_(_values(parameter.shape, first + k))


def _set_critics(critics, firsts):
    """Each critic of the batch as a network of its own, whose weights lie [outputs, inputs]."""
    for member, first in enumerate(firsts):
        for depth, (weight, bias) in enumerate(zip(critics.weights, critics.biases, strict=True)):
            weight.data[member] = _values(weight[member].T.shape, first + 2 * depth).T
            bias.data[member, 0] = _values(bias[member, 0].shape, first + 2 * depth + 1)


def _batch(seed):
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return {
        "observations": normal(ROWS, OBS_DIM),
        "actions": torch.rand(ROWS, ACTION_DIM, generator=generator) * 2 - 1,
        "rewards": normal(ROWS, 1),
        "next_observations": normal(ROWS, OBS_DIM),
        "terminals": (torch.rand(ROWS, 1, generator=generator) < 0.2).float(),
    }


def _sums(tensor):
    tensor = tensor.detach().double()
    return [float(tensor.sum()), float(tensor.abs().sum())]


def _assert_sums(tensors, expected):
    for tensor, sums in zip(tensors, expected, strict=True):
        assert _sums(tensor) == pytest.approx(sums, rel=1e-5, abs=1e-4)


def _members(critics, member):
    """A critic's parameters in the order of a network of its own."""
    return [part[member] for pair in zip(critics.weights, critics.biases, strict=True) for part in pair]


def test_four_steps_of_iql(baseline):
    agent = make_agent(IQL, baseline("iql", hidden_dims=(256, 256), normalize_observations=False), OBS_DIM, ACTION_DIM)
    _set_critics(agent.critics, (0, 6))
    _set(agent.value.parameters(), 100)
    _set([*agent.policy.mean.parameters()], 201)  # CORL's log σ comes first
    agent.policy.log_std.data.fill_(-0.2)
    frozen_copy(agent.critics, agent.targets)
    agent.begin_pretraining(10)
    expected = EXPECTED["iql"]
    for step, losses in enumerate(expected["losses"]):
        found = agent.learn(_batch(step))
        ours = [float(found[f"loss/{name}"]) for name in ("value", "critic", "actor")]
        assert ours == pytest.approx(losses, rel=1e-4), step
    _assert_sums([agent.policy.log_std, *agent.policy.mean.parameters()], expected["policy"].values())
    _assert_sums(agent.value.parameters(), expected["value"].values())
    for networks, name in ((agent.critics, "critics"), (agent.targets, "targets")):
        _assert_sums(_members(networks, 0) + _members(networks, 1), expected[name].values())


def test_steps_of_spot_and_its_density(baseline):
    settings = baseline("spot", hidden_dims=(256, 256), normalize_observations=False)
    agent = make_agent(SPOT, settings, OBS_DIM, ACTION_DIM)
    encoder = [layer for layer in agent.density.encoder if isinstance(layer, nn.Linear)]
    latent = 2 * ACTION_DIM
    for depth, layer in enumerate(encoder[:2]):
        _set([layer.weight, layer.bias], 300 + 2 * depth)
    for part, first in ((slice(latent), 304), (slice(latent, None), 306)):  # CORL has a head for each
        encoder[2].weight.data[part] = _values((latent, 750), first)
        encoder[2].bias.data[part] = _values((latent,), first + 1)
    _set(agent.density.decoder.parameters(), 308)
    for parameter in agent.density.parameters():
        parameter.data *= 0.25
    _set(agent.policy.parameters(), 400)
    _set_critics(agent.critics, (0, 50))
    frozen_copy(agent.policy, agent.policy_target)
    frozen_copy(agent.critics, agent.targets)
    expected = EXPECTED["spot"]
    for step, loss in enumerate(expected["density"]):
        torch.manual_seed(step)
        assert float(agent.learn_density(_batch(step))["loss/density"]) == pytest.approx(loss, rel=1e-4)
    for step, (critic_loss, _) in enumerate(expected["losses"]):
        torch.manual_seed(step)
        assert float(agent.learn(_batch(step))["loss/critic"]) == pytest.approx(critic_loss, rel=1e-4), step
    _assert_sums(agent.policy.parameters(), expected["policy"].values())
    _assert_sums(_members(agent.critics, 0), expected["critic1"].values())
    _assert_sums(_members(agent.critics, 1), expected["critic2"].values())
