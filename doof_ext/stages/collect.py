"""Stage 3, online collection (Appendix B.3): acting only, nothing is trained."""

import os
import zlib

import numpy as np
import torch

from doof_ext.acting import start_episode, take_step
from doof_ext.data.dataset import Dataset
from doof_ext.data.journal import OnlineJournal
from doof_ext.progress import StageProgress
from doof_ext.state import RunState

_SNAPSHOT = "snapshot/"


class OnlineCollector:
    """Acts with a policy in the real environment and keeps every step."""

    def __init__(self, policy, env, deterministic=False):
        self.policy, self.env, self.deterministic = policy, env, deterministic

    def collect(self, steps, on_step=None, journal=None, seed=None) -> Dataset:
        """Takes environment steps until there are ``steps``; the last episode is cut there (a timeout, not a terminal).

        Args: the steps; ``on_step(return_of_ended_episode or None)``, called after each; a journal that gets every
        step as it happens, and may hold the first ones from before: only the rest is taken then. The running episode
        goes on where the environment can be restored, and is cut where it cannot. With a ``seed`` (a list of integers),
        a step's action depends on it, the step's number and the observation alone, an episode's start likewise.

        Raises: DivergenceError before an action that is not finite or outside the action space reaches the
        environment; EnvironmentFailedError where that raises.
        """
        env, journal = self.env, OnlineJournal() if journal is None else journal
        obs, episode_return = self._go_on(journal.rows)
        seeds = None if seed is None else np.random.SeedSequence(seed).generate_state(2 * steps).reshape(-1, 2)
        for step in range(len(journal), steps):
            starts = obs is None
            if seeds is not None:
                torch.manual_seed(int(seeds[step, 0]))
            if starts:
                if seeds is not None:
                    env.seed(int(seeds[step, 1]))
                obs, episode_return = start_episode(env), 0.0
            state = env.state()
            action = self.policy.select_action(np.asarray(obs).reshape(1, -1), self.deterministic).flatten()
            next_obs, reward, done, info = take_step(env, action)
            truncated = bool(done and info["TimeLimit.truncated"])
            row = dict(observations=np.asarray(obs, np.float64), actions=action,
                       next_observations=np.asarray(next_obs, np.float64), rewards=np.float64(reward),
                       terminals=done and not truncated, truncated=truncated, starts=starts)  # fmt: skip
            snapshot = {f"{_SNAPSHOT}{name}": value for name, value in env.snapshot().items()}
            journal.append(row | state | snapshot, sync=done)
            episode_return += reward
            obs = None if done else next_obs
            if on_step is not None:
                on_step(episode_return if done else None)
        journal.close()
        return journal.dataset()

    def _go_on(self, rows):
        """The observation that the environment is restored to, None where an episode has to start, and its return."""
        if not rows or rows[-1]["terminals"] or rows[-1]["truncated"]:
            return None, 0.0
        snapshot = {name.removeprefix(_SNAPSHOT): x for name, x in rows[-1].items() if name.startswith(_SNAPSHOT)}
        if not snapshot:
            return None, 0.0
        self.env.restore(snapshot)
        first = max(index for index, row in enumerate(rows) if row["starts"])
        return rows[-1]["next_observations"], sum(float(row["rewards"]) for row in rows[first:])


def collect(config, policy, env, logger, state=None, round=1) -> Dataset:
    """D_on: ``online_steps`` transitions of the policy (sampled actions) in the real environment."""
    state = state or RunState()
    journal = OnlineJournal(os.path.join(logger.checkpoint_dir, f"online-{round}.journal"), logger.log)
    found = len(journal)
    with StageProgress("3 collect", config.online_steps, logger, unit="step") as progress:
        last = {}

        def on_step(episode_return):
            if episode_return is not None:
                last["score"] = f"{100 * env.get_normalized_score(episode_return):.1f}"
            progress.reach(len(journal), **last)
            state.step_ended()

        collector = OnlineCollector(policy, env, config.collect_deterministic)
        seed = [config.seed, round, zlib.crc32(b"collect")]
        dataset = collector.collect(config.online_steps, on_step, journal, seed)
    if found < len(dataset):
        ends = int((dataset.terminals | dataset.timeouts).sum())
        logger.log(f"3 collect: {len(dataset)} environment steps in {ends} episodes")
    dataset.metadata = {"task": config.task, "physics": env.physics, "seed": config.seed, "collected_by": "doof_ext"}
    return dataset
