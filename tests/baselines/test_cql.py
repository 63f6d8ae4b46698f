"""CQL's and Cal-QL's losses beside loops over rows and actions."""

import copy
import math

import numpy as np
import pytest
import torch
from agents import box_spec, make_agent, random_dataset

from doof_ext.baselines.cal_ql import CalQL
from doof_ext.baselines.cql import CQL
from doof_ext.baselines.replay import Replay
from doof_ext.errors import UserError


@pytest.fixture
def batch():
    replay = Replay(random_dataset(3, 2, 40, terminal=(1, 2)), box_spec(3, 2), 5, gamma=0.99)
    return replay.draw(6)


def _density(policy, obs, raw):
    """log π(tanh raw | s) by torch's distributions."""
    mean, log_std = policy.network(obs).chunk(2, dim=-1)
    normal = torch.distributions.Normal(mean, log_std.exp())
    tanh = torch.distributions.transforms.TanhTransform(cache_size=1)
    return torch.distributions.TransformedDistribution(normal, tanh).log_prob(tanh(raw)).sum(-1)


def test_samples_have_their_density(baseline):
    agent = make_agent(CQL, baseline("cql"))
    obs = torch.randn(7, 3)
    actions, log_probs = agent.policy.sample(obs, 4)
    assert actions.shape == (4, 7, 2) and log_probs.shape == (4, 7, 1)
    expected = torch.stack([_density(agent.policy, obs, draw.double().atanh().float()) for draw in actions])
    torch.testing.assert_close(log_probs[..., 0], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", [CQL, CalQL])
@pytest.mark.parametrize("max_q_backup", [False, True])
def test_the_critics_loss_is_that_of_a_loop(baseline, batch, method, max_q_backup):
    name = "cql" if method is CQL else "cal-ql"
    agent = make_agent(method, baseline(name, max_q_backup=max_q_backup, conservatism=2.5))
    before = copy.deepcopy(agent)
    obs, next_obs = agent.normalizer(batch["observations"]), agent.normalizer(batch["next_observations"])
    torch.manual_seed(4)
    found = agent.learn(batch)
    torch.manual_seed(4)  # the same draws, in the same order
    with torch.no_grad():
        before.policy.sample(obs)
        next_actions, _ = before.policy.sample(next_obs, 3 if max_q_backup else 1)
        uniform = torch.empty(3, 6, 2).uniform_(-1, 1)
        ours, log_ours = before.policy.sample(obs, 3)
        theirs, log_theirs = before.policy.sample(next_obs, 3)
        bellman = conservative = 0.0
        for i in range(2):
            for row in range(6):
                q = lambda critics, s, a, i=i: float(critics(s[None], a[None])[i])  # noqa: E731
                values = [
                    min(float(v) for v in before.targets(next_obs[row][None], actions[row][None]))
                    for actions in next_actions
                ]
                target = float(batch["rewards"][row]) + 0.99 * (1 - float(batch["terminals"][row])) * max(values)
                value = q(before.critics, obs[row], batch["actions"][row])
                bellman += (value - target) ** 2 / 6
                floor = float(batch["returns"][row]) if method is CalQL else -math.inf
                terms = [q(before.critics, obs[row], a[row]) - math.log(0.5**2) for a in uniform]
                for actions, log_probs in ((ours, log_ours), (theirs, log_theirs)):
                    terms += [
                        max(q(before.critics, obs[row], a[row]), floor) - float(p[row])
                        for a, p in zip(actions, log_probs, strict=True)
                    ]
                conservative += (math.log(sum(map(math.exp, terms))) - value) / 6
    assert float(found["loss/critic"]) == pytest.approx(bellman, rel=1e-4)
    assert float(found["loss/conservative"]) == pytest.approx(conservative, rel=1e-4)


def test_each_network_learns_from_its_own_loss(baseline, batch):
    """The step's gradients are those of the losses, one network at a time."""
    agent = make_agent(CQL, baseline("cql"))
    before = copy.deepcopy(agent)
    torch.manual_seed(4)
    agent.learn(batch)
    torch.manual_seed(4)
    obs = before.normalizer(batch["observations"])
    actions, log_probs = (draw[0] for draw in before.policy.sample(obs))
    loss = (log_probs - before.critics(obs, actions).amin(0)).mean()  # α = e⁰
    expected = torch.autograd.grad(loss, list(before.policy.parameters()))
    for parameter, gradient in zip(agent.policy.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    entropy_gap = float(log_probs.detach().mean()) - 2
    assert float(agent.log_alpha.grad) == pytest.approx(-entropy_gap, rel=1e-4)


def test_values_fall_where_d_has_no_actions_and_the_floor_holds_them(baseline):
    """On data whose every action is one of two, CQL's values of others fall; Cal-QL's stay at the returns."""
    data = random_dataset(1, 1, 400, seed=2)
    data.actions = np.sign(data.actions)
    data.rewards[:] = 1.0
    replay = Replay(data, box_spec(1, 1), 1, gamma=0.9)
    values = {}
    for method, name in ((CQL, "cql"), (CalQL, "cal-ql")):
        torch.manual_seed(0)
        agent = method(baseline(name, conservatism=5.0, gamma=0.9, critic_lr=3e-3), box_spec(1, 1), data)
        for _ in range(400):
            agent.learn(replay.draw(64))
        obs = agent.normalizer(replay.observations[:200])
        with torch.no_grad():
            actions = agent.policy.sample(obs)[0][0]
            values[name] = float((agent.critics(obs, actions).amin(0) - replay.returns[:200]).mean())
    assert values["cql"] < -1
    assert values["cal-ql"] > values["cql"] + 1


def test_calibration_needs_the_ends_of_episodes(baseline):
    data = random_dataset(2, 1, 30)
    data.timeouts[:] = False
    with pytest.raises(UserError, match="no episode ends; use --algo cql"):
        CalQL(baseline("cal-ql"), box_spec(2, 1), data)
