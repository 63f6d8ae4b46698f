"""The returns of a policy in the real environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from doof_ext.tasks.interaction import reset_env, step_env


@dataclass
class Evaluation:
    """Real episodes of a policy's mean actions.

    Attributes:
        returns: Raw, one per episode.
        mean: Their mean as D4RL's normalised score × 100.
        std: Their standard deviation on that scale, without the score's offset.
    """

    returns: list[float]
    mean: float
    std: float


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
    seeds = np.random.randint(2**31, size=episodes)
    returns, parallel_envs = np.zeros(episodes), env.parallel_envs(episodes)
    for first in range(0, episodes, len(parallel_envs)):
        running: dict[int, tuple[Any, np.ndarray]] = {}  # by episode: its environment and present observation
        for episode, simulator in zip(range(first, episodes), parallel_envs, strict=False):
            simulator.seed(int(seeds[episode]))
            running[episode] = simulator, reset_env(simulator)
        while running:
            actions = policy.select_action(np.stack([obs for _, obs in running.values()]), deterministic=True)
            for (episode, (simulator, _)), action in zip(list(running.items()), actions, strict=True):
                obs, reward, done, _ = step_env(simulator, action)
                returns[episode] += reward
                running[episode] = simulator, obs
                if done:
                    del running[episode]
    score = env.get_normalized_score
    std = 100 * np.std(returns) * (score(1.0) - score(0.0))
    return Evaluation(returns.tolist(), 100 * score(np.mean(returns)), std)
