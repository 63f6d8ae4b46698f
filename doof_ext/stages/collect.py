"""Stage 3, online collection (Appendix B.3): acting only, nothing is trained."""

import numpy as np

from doof_ext.data.dataset import Dataset
from doof_ext.errors import DivergenceError
from doof_ext.progress import StageProgress


class OnlineCollector:
    """Acts with a policy in the real environment and keeps every step."""

    def __init__(self, policy, env, deterministic=False):
        self.policy, self.env, self.deterministic = policy, env, deterministic

    def collect(self, steps, on_step=None) -> Dataset:
        """Takes exactly ``steps`` environment steps; the last episode is cut there (a timeout, not a terminal).

        ``on_step(return_of_ended_episode or None)`` is called after each. Raises DivergenceError before an action
        that is not finite or outside the action space reaches the environment.
        """
        env, space = self.env, self.env.action_space
        records, episode_return, obs = [], 0.0, env.reset()
        for step in range(steps):
            state = env.state()
            action = self.policy.select_action(np.asarray(obs).reshape(1, -1), self.deterministic).flatten()
            if not (np.isfinite(action).all() and (action >= space.low).all() and (action <= space.high).all()):
                raise DivergenceError(f"action {action} does not fit the action space; step {step} was not taken")
            next_obs, reward, done, info = env.step(action)
            terminal = done and not info["TimeLimit.truncated"]
            timeout = not terminal and (done or step == steps - 1)
            records.append((obs, action, next_obs, reward, terminal, timeout, *state.values()))
            episode_return += reward
            if on_step is not None:
                on_step(episode_return if done else None)
            if done:
                episode_return = 0.0
            obs = env.reset() if done and step < steps - 1 else next_obs
        columns = [np.array(column) for column in zip(*records, strict=True)]
        obss, actions, next_obss, rewards = (column.astype(np.float32) for column in columns[:4])
        states = dict(zip(state, columns[6:], strict=True))
        return Dataset(obss, actions, next_obss, rewards, *columns[4:6], states=states)


def collect(config, policy, env, logger) -> Dataset:
    """D_on: ``online_steps`` transitions of the policy (sampled actions) in the real environment."""
    with StageProgress("3 collect", config.online_steps, logger, unit="step") as progress:
        last = {}

        def on_step(episode_return):
            if episode_return is not None:
                last["score"] = f"{100 * env.get_normalized_score(episode_return):.1f}"
            progress.advance(**last)

        dataset = OnlineCollector(policy, env, config.collect_deterministic).collect(config.online_steps, on_step)
    ends = int((dataset.terminals | dataset.timeouts).sum())
    logger.log(f"3 collect: {len(dataset)} environment steps in {ends} episodes")
    dataset.metadata = {"task": config.task, "physics": env.physics, "seed": config.seed, "collected_by": "doof_ext"}
    return dataset
