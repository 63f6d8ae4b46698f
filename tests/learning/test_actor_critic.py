"""The fast SAC step against the kit's own on the same weights, batch and noise (embedded or installed kit)."""

import copy

import pytest
import torch

from doof_ext import kit
from doof_ext.errors import DivergenceError
from doof_ext.learning.actor_critic import FastSAC, MeanLosses, NetworkStack


class FastPolicy(FastSAC, kit.SACPolicy):
    _scale_slope = 1.0

    @staticmethod
    def _scale(squashed):
        return squashed


def _networks(device="cpu"):
    torch.manual_seed(1)
    backbone = kit.MLP(5, [32, 24])
    actor = kit.ActorProb(backbone, kit.TanhDiagGaussian(24, 2, unbounded=True, conditioned_sigma=True), device)
    return actor, *(kit.Critic(kit.MLP(7, [32, 24]), device) for _ in range(2))


def _policy(policy_class, nets, auto_alpha=True):
    nets = copy.deepcopy(nets)
    optims = [torch.optim.Adam(net.parameters(), lr=lr) for net, lr in zip(nets, (1e-3, 3e-3, 3e-3), strict=True)]
    log_alpha = torch.full((1,), -0.5, requires_grad=True, device=next(nets[0].parameters()).device)
    alpha = (-2.0, log_alpha, torch.optim.Adam([log_alpha], lr=1e-2)) if auto_alpha else 0.2
    return policy_class(*nets, *optims, gamma=0.97, tau=0.01, alpha=alpha)


def _batch(seed, device="cpu"):
    torch.manual_seed(seed)
    batch = {
        "observations": torch.randn(64, 5),
        "actions": torch.rand(64, 2) * 2 - 1,
        "next_observations": torch.randn(64, 5),
        "rewards": torch.randn(64, 1),
        "terminals": (torch.rand(64, 1) < 0.2).float(),
    }
    return {name: column.to(device) for name, column in batch.items()}


@pytest.mark.parametrize("auto_alpha", [True, False])
def test_losses_and_weights_agree_with_the_kit_over_steps(auto_alpha, device):
    nets = _networks(device)
    plain, fast = _policy(kit.SACPolicy, nets, auto_alpha), _policy(FastPolicy, nets, auto_alpha)
    for step in range(10):
        batch = _batch(step, device)
        torch.manual_seed(step)
        expected = plain.learn(batch)
        torch.manual_seed(step)
        losses = fast.sac_step(batch)
        assert set(losses) == set(expected)
        for name, value in expected.items():
            assert float(losses[name]) == pytest.approx(value, rel=2e-4, abs=2e-5), name
    expected, state = plain.state_dict(), fast.state_dict()
    assert set(state) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=1e-3, atol=2e-5, msg=name)


def test_the_kits_critics_are_the_networks_that_are_trained():
    fast = _policy(FastPolicy, _networks())
    batch = _batch(0)
    fast.sac_step(batch)
    both = fast._critics(batch["observations"], batch["actions"])
    torch.testing.assert_close(both[0], fast.critic1(batch["observations"], batch["actions"]))
    torch.testing.assert_close(both[1], fast.critic2(batch["observations"], batch["actions"]))


def test_a_copy_trains_its_own_networks():
    policy, batch = _policy(FastPolicy, _networks()), _batch(0)
    policy.sac_step(batch)  # the optimisers have a state
    twin = copy.deepcopy(policy)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    torch.manual_seed(1)
    twin.sac_step(batch)
    for name, value in before.items():
        torch.testing.assert_close(policy.state_dict()[name], value, rtol=0, atol=0)
        assert not torch.equal(twin.state_dict()[name], value), name
    torch.manual_seed(1)
    policy.sac_step(batch)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(policy.state_dict()[name], value, rtol=0, atol=0)


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="linear layers with ReLU"):
        NetworkStack.of_critics([kit.Critic(kit.MLP(7, [8], activation=torch.nn.Tanh), "cpu")])


def test_mean_losses_are_means_and_stop_at_nan():
    losses = MeanLosses()
    for value in (1.0, 2.0, 6.0):
        losses.add({"loss/actor": torch.tensor(value)})
    assert losses.read("epoch 1") == {"loss/actor": 3.0}
    losses.add({"loss/actor": torch.tensor(float("nan"))})
    with pytest.raises(DivergenceError, match=r"loss/actor is nan in epoch 2"):
        losses.read("epoch 2")


def test_restored_sums_are_the_means_own_and_not_the_checkpoints():
    losses, restored = MeanLosses(), MeanLosses("cpu")
    losses.add({"loss": torch.tensor(1.0)})
    saved = losses.state_dict()
    restored.load_state_dict(saved)
    restored.add({"loss": torch.tensor(4.0)})
    assert restored.read("now") == {"loss": 2.5} and float(saved["sums"]["loss"]) == 1.0
