"""Evaluation on D4RL's scale."""

import numpy as np
import pytest

from doof_ext.errors import DivergenceError
from doof_ext.learning.policy_trainer import evaluate


class _StandingStill:
    def select_action(self, obs, deterministic):
        assert deterministic and obs.shape[1] == 11
        return np.zeros((len(obs), 3), np.float32)


def test_scores_and_spread_are_normalised_without_the_offset(env):
    result = evaluate(_StandingStill(), env, episodes=4)
    returns = np.array(result.returns)
    assert len(returns) == 4 and returns.std() > 0
    assert result.mean == pytest.approx(100 * (returns.mean() + 20.272305) / (3234.3 + 20.272305))
    assert result.std == pytest.approx(100 * returns.std() / (3234.3 + 20.272305))


def test_episodes_side_by_side_are_those_one_after_another(env):
    """The same seeds, a policy that looks at its observation, and one simulator instead of four."""

    class Leaning:
        def select_action(self, obs, deterministic):
            return np.tanh(np.asarray(obs, np.float32)[:, 1:4] * 3)

    np.random.seed(5)
    together = evaluate(Leaning(), env, episodes=4).returns
    assert len(env.parallel_envs(4)) == 4
    env.parallel_envs = lambda count: [env]
    np.random.seed(5)
    assert evaluate(Leaning(), env, episodes=4).returns == pytest.approx(together, rel=1e-9)


def test_a_nonfinite_action_never_reaches_the_environment(env):
    class Broken:
        def select_action(self, obs, deterministic):
            return np.full((len(obs), 3), np.nan)

    env.step = None  # would raise TypeError
    with pytest.raises(DivergenceError, match="does not fit the action space"):
        evaluate(Broken(), env, 1)
