"""Evaluation on D4RL's scale."""

import numpy as np
import pytest

from doof_ext.errors import DivergenceError
from doof_ext.evaluation.returns import Evaluation, StageScores, mean_of_last_10, run_episodes
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


def test_lengths_are_the_steps_of_each_episode(env):
    class Counting(_StandingStill):
        steps = 0

        def select_action(self, obs, deterministic):
            self.steps += len(obs)
            return super().select_action(obs, deterministic)

    policy = Counting()
    result = evaluate(policy, env, episodes=4)
    assert sum(result.lengths) == policy.steps and len(result.lengths) == 4 and min(result.lengths) > 1


def test_an_episode_is_its_seeds_whatever_runs_beside_it(env):
    together = run_episodes(_StandingStill(), env, [3, 4, 5])
    apart = [run_episodes(_StandingStill(), env, [seed]) for seed in (3, 4, 5)]
    assert together == ([returns for (returns,), _ in apart], [lengths for _, (lengths,) in apart])
    assert len(set(together[0])) == 3


@pytest.mark.parametrize(("count", "score"), [(1, 0.0), (3, 1.0), (10, 4.5), (25, 19.5)])
def test_a_stages_score_is_the_mean_of_its_last_ten_evaluations(count, score):
    assert mean_of_last_10([float(epoch) for epoch in range(count)]) == score


def test_a_stages_scores_have_the_last_and_the_best_beside_the_mean():
    scores = StageScores()
    for mean in (90.0, *range(12)):
        scores.add(Evaluation([mean * 2], [7], mean, 0.5))
    assert (scores.last_10, scores.last.mean, scores.best) == (6.5, 11, 90.0)
    again = StageScores()
    again.load_state_dict(scores.state_dict())
    assert again.means == scores.means and again.last == scores.last
    again.load_state_dict(StageScores().state_dict())
    assert again.last is None and not again.means


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
