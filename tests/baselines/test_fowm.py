"""FOWM's losses beside loops over sequences and steps, its plans, and which rows a sequence has."""

import copy
import math

import numpy as np
import pytest
import torch
from agents import box_spec, journal_rows, make_agent, random_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from doof_ext.baselines.fowm import FOWM
from doof_ext.baselines.replay import Replay
from doof_ext.errors import UserError


@pytest.fixture
def agent(baseline):
    agent = make_agent(FOWM, baseline("fowm", normalize_observations=False))
    for network in (agent.reward, *agent.critics, *agent.targets):  # where the authors start from 0
        torch.nn.init.normal_(network[-1].weight, std=0.3)
    return agent


def _replay(steps=40, online=0):
    data = random_dataset(3, 2, steps, terminal=(1, 2))
    replay = Replay(data, box_spec(3, 2), 30, gamma=0.99)
    taken = random_dataset(3, 2, 30, episode=7, terminal=(0,), seed=3)
    for row in journal_rows(taken)[:online]:
        replay.add_step(row)
    return replay


@settings(deadline=None)
@given(st.integers(0, 30), st.floats(0, 1))
def test_sequences_are_rows_in_order_of_d_or_of_d_on(online, ratio):
    replay = _replay(online=online)
    batch = replay.draw_sequences(12, 5, ratio)
    assert batch["observations"].shape == (5, 12, 3)
    rows = replay._rows[: len(replay)]
    expected_online = int(12 * ratio) if online >= 5 else 0
    found_online = 0
    for sequence in range(12):
        first = batch["observations"][0, sequence]
        (start,) = np.flatnonzero((replay.observations[: len(replay)] == first).all(1))
        found_online += start >= 40
        assert start + 5 <= 40 or (start >= 40 and start + 5 <= len(replay))
        for name in ("actions", "rewards", "ends", "next_observations"):
            torch.testing.assert_close(batch[name][:, sequence], replay.columns(rows)[name][start : start + 5])
    assert found_online == expected_online


def test_the_policys_loss_is_that_of_a_loop(agent):
    """Eq. 7 with weights of at most 100, and 0 after an episode's end; no gradient leaves the policy."""
    torch.manual_seed(1)
    batch = _replay().draw_sequences(6, 5)
    latents, actions = torch.rand(5, 6, 50), batch["actions"]
    inside = torch.cat([torch.ones(1, 6, 1), 1 - batch["ends"][:-1]]).cumprod(0)
    before = copy.deepcopy(agent)
    agent.advantage_temperature = before.advantage_temperature = 40.0  # so that some weights are cut
    torch.manual_seed(2)
    found = agent._learn_policy(latents, actions, inside * 0.5 ** torch.arange(5.0)[:, None, None])
    torch.manual_seed(2)
    first, second = torch.randperm(5)[:2].tolist()
    total, cut = 0.0, 0
    for t in range(5):
        for b in range(6):
            pair = torch.cat([latents[t, b], actions[t, b]])
            q = min(float(before.targets[i](pair)) for i in (first, second))
            weight = math.exp(min(40.0 * (q - float(before.value(latents[t, b]))), 50.0))
            cut += weight > 100
            error = float((before.policy(latents[t, b]).tanh() - actions[t, b]).square().sum())
            total += float(inside[t, b, 0]) * 0.5**t * min(weight, 100.0) * 0.5 * error / 30
    assert float(found) == pytest.approx(total, rel=1e-4) and 0 < cut < 30 and inside.min() == 0
    for name, parameter in agent.named_parameters():
        assert torch.equal(parameter, before.get_parameter(name)) != name.startswith("policy."), name


def test_the_losses_are_those_of_a_loop(agent):
    torch.manual_seed(1)
    batch = _replay().draw_sequences(6, 5)
    before = copy.deepcopy(agent)
    torch.manual_seed(2)
    found = agent.learn(batch)
    torch.manual_seed(2)
    first, second = torch.randperm(5)[:2].tolist()  # the draw for V's target
    expected = dict.fromkeys(("consistency", "reward", "critic", "value"), 0.0)
    with torch.no_grad():
        for sequence in range(6):
            z, alive = before.encoder(batch["observations"][0, sequence][None]), 1.0
            for step in range(5):
                row = {name: column[step, sequence][None] for name, column in batch.items()}
                pair, next_obs = torch.cat([z, row["actions"]], 1), row["next_observations"]
                bootstrapped = (1 - float(row["terminals"])) * float(before.value(before.encoder(next_obs)))
                target = float(row["rewards"]) + 0.99 * bootstrapped
                weight = alive * 0.5**step / 6
                z_next = before.dynamics(pair)
                error = (z_next - before.encoder_target(next_obs)).square().mean()
                expected["consistency"] += weight * float(error)
                expected["reward"] += weight * (float(before.reward(pair)) - float(row["rewards"])) ** 2
                expected["critic"] += weight * sum((float(q(pair)) - target) ** 2 for q in before.critics)
                gap = min(float(before.targets[i](pair)) for i in (first, second)) - float(before.value(z))
                expected["value"] += weight * (0.7 if gap >= 0 else 0.3) * gap**2
                alive *= 1 - float(row["ends"])
                z = z_next
    for name, value in expected.items():
        assert float(found[f"loss/{name}"]) == pytest.approx(value, rel=1e-4), name


def test_a_plan_is_worth_its_rewards_and_last_value_less_disagreement(agent):
    start, plans = torch.rand(2, 50), torch.rand(5, 2, 3, 2) * 2 - 1
    agent.disagreement_cost = 0.7
    torch.manual_seed(0)
    with torch.no_grad():
        found = agent.value_of(start, plans)
        torch.manual_seed(0)
        noise = 0.05 * torch.randn(6, 2)  # of the last actions, drawn for all plans at once
        first, second = torch.randperm(5)[:2].tolist()
        for row in range(2):
            for plan in range(3):
                z, total = start[row][None], 0.0
                for step in range(5):
                    pair = torch.cat([z, plans[step, row, plan][None]], 1)
                    values = torch.tensor([float(q(pair)) for q in agent.critics])
                    total += 0.99**step * (float(agent.reward(pair)) - 0.7 * float(values.std()))
                    z = agent.dynamics(pair)
                action = (agent.policy(z).tanh() + noise[3 * row + plan].clamp(-0.3, 0.3)).clamp(-1, 1)
                values = torch.tensor([float(q(torch.cat([z, action], 1))) for q in agent.critics])
                total += 0.99**5 * (float(min(values[first], values[second])) - 0.7 * float(values.std()))
                assert float(found[row, plan]) == pytest.approx(total, rel=1e-4, abs=1e-5)


def test_a_plan_is_better_than_the_policy_by_the_model(agent):
    agent.disagreement_cost = 0.0
    obs = torch.randn(20, 3)
    with torch.no_grad():
        latents = agent.encoder(obs)
        rewards = [agent.reward(torch.cat([latents, a], 1)).mean() for a in (agent.act(obs, True), agent.prior(obs))]
    assert rewards[0] > rewards[1]
    assert math.isfinite(float(rewards[0])) and bool((agent.act(obs, False).abs() <= 1).all())


def test_data_shorter_than_a_sequence_is_one_line(baseline):
    with pytest.raises(UserError, match="learns from 5 steps in a row, and the data has 3"):
        make_agent(FOWM, baseline("fowm"), steps=3)


def test_the_models_loss_falls(agent):
    torch.manual_seed(0)
    replay = _replay()
    losses = [agent.learn(agent.draw(replay)) for _ in range(200)]
    for name in ("loss/reward", "loss/consistency"):
        early, late = (np.mean([float(loss[name]) for loss in part]) for part in (losses[:20], losses[-20:]))
        assert late < 0.8 * early, name
