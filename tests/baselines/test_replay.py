"""What the baselines learn from: units, order, returns, and which rows a batch has."""

import numpy as np
import pytest
import torch
from agents import box_spec, journal_rows, random_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from doof_ext.baselines.replay import Replay, returns_to_go, reward_scale
from doof_ext.errors import UserError


def test_returns_are_those_of_a_loop():
    data = random_dataset(2, 1, 35, terminal=(1,))
    expected = []
    for step in range(35):
        total, factor = 0.0, 1.0
        for later in range(step, 35):
            total += factor * float(data.rewards[later])
            factor *= 0.9
            if data.terminals[later] or data.timeouts[later]:
                break
        expected.append(total)
    assert returns_to_go(data, data.rewards, 0.9) == pytest.approx(expected, rel=1e-5)


def test_actions_are_in_units_of_their_bounds_and_rewards_of_the_span():
    data = random_dataset(2, 2, 40)
    data.actions = 3 + 2 * data.actions
    replay = Replay(data, box_spec(2, 2, low=1.0, high=5.0), 5, gamma=0.9, normalize_rewards=True)
    np.testing.assert_allclose(replay.actions[:40], (data.actions - 3) / 2, atol=1e-6)
    totals = [data.rewards[start : start + 10].sum() for start in range(0, 40, 10)]
    np.testing.assert_allclose(replay.rewards[:40, 0], data.rewards * 1000 / (max(totals) - min(totals)), rtol=1e-4)


def test_an_unfinished_episode_is_no_part_of_the_span():
    whole = random_dataset(2, 1, 40)
    longer = random_dataset(2, 1, 43)
    longer.rewards[:40], longer.rewards[40:] = whole.rewards, -100.0
    scales = [Replay(of, box_spec(2, 1), 5, 0.9, normalize_rewards=True).reward_scale for of in (whole, longer)]
    assert scales[0] == pytest.approx(scales[1])


def test_an_episode_that_is_cut_before_the_time_limit_is_no_part_of_the_span():
    """A recipe's streams end in the middle of an episode, with a timeout."""
    data = random_dataset(2, 1, 40)
    data.rewards[35:] = -100.0
    data.timeouts[[33, 34]] = [False, True]
    data.timeouts[29], data.terminals[29] = False, True
    whole = [data.rewards[start : start + 10].sum() for start in (0, 10, 20)]
    assert reward_scale(data, 10) == pytest.approx(1000 / (max(whole) - min(whole)), rel=1e-5)
    assert reward_scale(data, 10) != pytest.approx(reward_scale(data, None))
    data.terminals[:] = False
    data.timeouts[29] = True
    assert reward_scale(data, 500) == pytest.approx(reward_scale(data, None))  # where none is whole


def test_an_episode_that_a_resume_cut_has_an_end():
    replay = Replay(random_dataset(2, 1, 40), box_spec(2, 1), 25, gamma=0.9)
    online = random_dataset(2, 1, 25, episode=7, seed=1)
    rows = journal_rows(online)
    rows[3]["starts"] = True  # the environment could not be restored
    for row in rows:
        replay.add_step(row)
    assert np.flatnonzero(replay.ends[40:, 0]).tolist() == [2, 6, 13, 20]
    rewards = online.rewards.astype(np.float64)
    assert float(replay.returns[40]) == pytest.approx(rewards[0] + 0.9 * rewards[1] + 0.81 * rewards[2], rel=1e-5)
    assert float(replay.returns[42]) == pytest.approx(rewards[2], rel=1e-5)


def test_alike_returns_have_no_span():
    data = random_dataset(2, 1, 40)
    data.rewards[:] = 1.0
    with pytest.raises(UserError, match="give --normalize-rewards false"):
        Replay(data, box_spec(2, 1), 5, gamma=0.9, normalize_rewards=True)


def test_online_steps_have_their_returns_once_the_episode_has_ended():
    data, online = random_dataset(2, 1, 40), random_dataset(2, 1, 25, terminal=(0,), seed=1)
    replay = Replay(data, box_spec(2, 1), 25, gamma=0.9)
    expected = returns_to_go(online, online.rewards, 0.9)
    for taken, row in enumerate(journal_rows(online), start=1):
        replay.add_step(row)
        ended = taken // 10 * 10
        np.testing.assert_allclose(replay.returns[40 : 40 + ended, 0], expected[:ended], rtol=1e-5)
        assert torch.isneginf(replay.returns[40 + ended : 40 + taken]).all()
    assert len(replay) == 65
    for name in ("observations", "actions", "next_observations"):
        np.testing.assert_allclose(getattr(replay, name)[40:], getattr(online, name), atol=1e-6)
    np.testing.assert_array_equal(replay.terminals[40:, 0], online.terminals)


@settings(deadline=None)
@given(st.integers(1, 64), st.floats(0, 1), st.integers(0, 20))
def test_a_batch_has_its_part_of_online_rows(count, ratio, taken):
    data, online = random_dataset(1, 1, 40), random_dataset(1, 1, 20, seed=1)
    data.rewards[:], online.rewards[:] = 0.0, 1.0
    replay = Replay(data, box_spec(1, 1), 20, gamma=0.9)
    for row in journal_rows(online)[:taken]:
        replay.add_step(row)
    batch = replay.draw(count, ratio)
    assert len(batch["rewards"]) == count
    assert int(batch["rewards"].sum()) == (int(count * ratio) if taken else 0)


def test_without_a_ratio_every_row_is_as_likely():
    data, online = random_dataset(1, 1, 30), random_dataset(1, 1, 10, seed=1)
    data.rewards[:], online.rewards[:] = 0.0, 1.0
    replay = Replay(data, box_spec(1, 1), 20, gamma=0.9)
    for row in journal_rows(online):
        replay.add_step(row)
    torch.manual_seed(0)
    assert float(replay.draw(40_000)["rewards"].mean()) == pytest.approx(0.25, abs=0.01)
