"""The returns of a policy in the real environment, and the score that a stage's evaluations make up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from doof_ext.tasks.interaction import reset_env, step_env


@dataclass
class Evaluation:
    """Real episodes of a policy's mean actions.

    Attributes:
        returns: Raw, one per episode.
        lengths: Steps of each episode.
        mean: The mean return as D4RL's normalised score × 100.
        std: The returns' standard deviation on that scale, without the score's offset.
    """

    returns: list[float]
    lengths: list[int]
    mean: float
    std: float

    @classmethod
    def of_episodes(cls, env: Any, returns: Sequence[float], lengths: Sequence[int]) -> Evaluation:
        """What episodes come to that ``env`` scores."""
        score = env.get_normalized_score
        std = 100 * np.std(returns) * (score(1.0) - score(0.0))
        return cls(list(returns), list(lengths), 100 * score(np.mean(returns)), std)


class StageScores:
    """The evaluations of a policy over a stage, one per epoch; a component of the run's state.

    Attributes:
        means: The mean score of each evaluation; none where the environment is not to be touched.
        last: The last evaluation; None before the first.
    """

    def __init__(self) -> None:
        self.means: list[float] = []
        self.last: Evaluation | None = None

    def add(self, evaluation: Evaluation) -> None:
        """Takes in the evaluation of the next epoch."""
        self.means.append(float(evaluation.mean))
        self.last = evaluation

    def keep_last(self) -> None:
        """Forgets all evaluations but the last, of a policy that is another one than those before it."""
        self.means = self.means[-1:]

    @property
    def last_10(self) -> float | None:
        """The stage's score, see :func:`mean_of_last_10`; None without evaluations."""
        return mean_of_last_10(self.means) if self.means else None

    @property
    def best(self) -> float | None:
        """The highest mean of any evaluation; None without evaluations."""
        return max(self.means, default=None)

    def state_dict(self) -> dict[str, Any]:
        """All evaluations, the last one whole."""
        return {"means": self.means, "last": None if self.last is None else vars(self.last)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""
        self.means = list(state["means"])
        self.last = None if state["last"] is None else Evaluation(**state["last"])


def mean_of_last_10(means: Sequence[float]) -> float:
    """The score of a stage: the mean of its last ten evaluations, of all where there are fewer; the kit's measure.

    Args:
        means: The mean score of each evaluation, in order.
    """
    return float(np.mean(means[-10:]))


def evaluate(policy: Any, env: Any, episodes: int) -> Evaluation:
    """Runs episodes of the policy's mean action, side by side where there are several simulators.

    Each is seeded from NumPy's global generator, so that the result does not depend on the environment's past.

    Args:
        policy: Anything with the kit's ``select_action``.
        env: A task's environment (see doof_ext.tasks.make_env).
        episodes: How many.

    Raises:
        DivergenceError: An action does not fit the action space; it is not taken.
        EnvironmentFailedError: The environment fails.
    """
    return Evaluation.of_episodes(env, *run_episodes(policy, env, np.random.randint(2**31, size=episodes)))


def run_episodes(policy: Any, env: Any, seeds: Sequence[int] | np.ndarray) -> tuple[list[float], list[int]]:
    """As :func:`evaluate`, with the seed of each episode given; returns the raw return and the steps of each."""
    episodes = len(seeds)
    returns, lengths, parallel_envs = [0.0] * episodes, [0] * episodes, env.parallel_envs(episodes)
    for first in range(0, episodes, len(parallel_envs)):
        running: dict[int, tuple[Any, np.ndarray]] = {}  # by episode: its environment and present observation
        for episode, simulator in zip(range(first, episodes), parallel_envs, strict=False):
            simulator.seed(int(seeds[episode]))
            running[episode] = simulator, reset_env(simulator)
        while running:
            actions = policy.select_action(np.stack([obs for _, obs in running.values()]), deterministic=True)
            for (episode, (simulator, _)), action in zip(list(running.items()), actions, strict=True):
                obs, reward, done, _ = step_env(simulator, action)
                returns[episode] += float(reward)
                lengths[episode] += 1
                running[episode] = simulator, obs
                if done:
                    del running[episode]
    return returns, lengths
