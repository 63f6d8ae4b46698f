"""PEX: who acts, who learns, and what stays."""

import pytest
import torch
from agents import box_spec, make_agent, random_dataset

from doof_ext.baselines.pex import PEX
from doof_ext.baselines.replay import Replay


@pytest.fixture
def agent(baseline):
    agent = make_agent(PEX, baseline("pex"))
    agent.begin_pretraining(10)
    replay = Replay(random_dataset(3, 2, 40), box_spec(3, 2), 5, gamma=0.99)
    for _ in range(10):
        agent.learn(replay.draw(32))
    return agent


def test_before_the_online_steps_it_is_iql(agent):
    obs = torch.randn(5, 3)
    torch.testing.assert_close(agent.act(obs, True), agent.policy.act(obs, True))


def test_the_frozen_policy_is_the_pretrained_one_and_the_new_one_is_not(agent):
    pretrained = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    agent.begin_online(5)
    for name, value in agent.offline_policy.state_dict().items():
        assert torch.equal(value, pretrained[name])
    assert not torch.equal(agent.policy.mean[0].weight, pretrained["mean.0.weight"])
    replay = Replay(random_dataset(3, 2, 40), box_spec(3, 2), 5, gamma=0.99)
    started = agent.policy.mean[0].weight.clone()
    agent.learn(replay.draw(32))
    for name, value in agent.offline_policy.state_dict().items():
        assert torch.equal(value, pretrained[name])
    assert not torch.equal(agent.policy.mean[0].weight, started)


def test_evaluated_it_is_worth_at_least_the_frozen_policy_by_its_critics(agent):
    agent.begin_online(5)
    obs = torch.randn(200, 3)
    with torch.no_grad():
        own, frozen = agent.act(obs, True), agent.offline_policy.act(obs, True)
        value, frozen_value = (agent.critics(obs, actions).amin(0) for actions in (own, frozen))
    assert (value >= frozen_value).all()
    assert (value > frozen_value).any() and (value == frozen_value).any()


def test_the_choice_has_the_odds_of_the_values(agent):
    agent.begin_online(5)
    agent.selection_temperature = 2.0
    obs = torch.randn(1, 3).expand(4000, -1)
    frozen = agent.offline_policy.act(obs[:1], True)
    torch.manual_seed(0)
    with torch.no_grad():
        taken = agent.act(obs, deterministic=False)
        chosen = ((taken - frozen).abs() < 1e-5).all(1).float().mean()
        torch.manual_seed(0)
        own = agent.policy.act(obs, deterministic=False)
        gap = agent.critics(obs, own).amin(0) - agent.critics(obs[:1], frozen).amin(0)
    assert float(chosen) == pytest.approx(float((-2.0 * gap).sigmoid().mean()), abs=0.03)


def test_weights_are_those_of_the_actions_taken(agent, monkeypatch):
    """The regression is on the choice's own actions, with the advantage of those, not of D's."""
    agent.begin_online(5)
    replay = Replay(random_dataset(3, 2, 40), box_spec(3, 2), 5, gamma=0.99)
    batch, seen = replay.draw(32), []
    log_prob = agent.policy.log_prob
    monkeypatch.setattr(agent.policy, "log_prob", lambda obs, a: seen.append(a) or log_prob(obs, a))
    agent.learn(batch)
    assert not torch.equal(seen[0], batch["actions"])
