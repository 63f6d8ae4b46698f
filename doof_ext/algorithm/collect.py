"""Stage 3, online collection (Appendix B.3): acting only, nothing is trained."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from doof_ext.algorithm.context import StageContext
from doof_ext.algorithm.limits import Act, LimitedCollection, Limits, limits_line
from doof_ext.checkpointing.random_state import seed_torch
from doof_ext.data.dataset import Dataset, concatenate
from doof_ext.data.journal import OnlineJournal
from doof_ext.evaluation.consistency import terminal_findings
from doof_ext.learning.factory import build_termination_fn
from doof_ext.learning.policy import ModelBasedPolicy
from doof_ext.progress import StageProgress
from doof_ext.tasks.interaction import reset_env, step_env

_SNAPSHOT = "snapshot/"


def collection_seed(seed: int, round: int) -> list[int]:
    """The seed of stage 3 in a round of a run."""
    return [seed, round, zlib.crc32(b"collect")]


def step_seeds(seed: Sequence[int], steps: int) -> np.ndarray:
    """Of each step the seed of its action, and that of an episode which starts with it: uint32 [steps, 2]."""
    return np.random.SeedSequence(list(seed)).generate_state(2 * steps).reshape(-1, 2)


@dataclass
class Collection:
    """The outputs of stage 3."""

    data: Dataset  # D_on, of all rounds so far
    env_steps: int  # of this round
    limited: dict[str, Any] | None = None  # what limits did in this round; None without

    @property
    def steps(self) -> dict[str, int]:
        """For the summary."""
        return {"env_steps": self.env_steps}


class OnlineCollector:
    """Acts with a policy in the real environment and keeps every step.

    Args:
        policy: What acts.
        env: A task's environment.
        deterministic: Whether it takes mean actions instead of sampled ones.
        limits: What keeps it within limits; off by default.
        base: The policy that acts where the limits keep ``policy`` from it.
    """

    def __init__(
        self, policy: Any, env: Any, deterministic: bool = False, limits: Limits | None = None, base: Any = None
    ) -> None:
        self.policy, self.env, self.deterministic = policy, env, deterministic
        self.limits, self.base = limits or Limits(), base

    def collect(
        self,
        steps: int,
        on_step: Callable[[float | None], object] | None = None,
        journal: OnlineJournal | None = None,
        seed: Sequence[int] | None = None,
    ) -> Dataset:
        """Takes environment steps until there are ``steps``; the last episode is cut there (a timeout, no terminal).

        Args:
            steps: How many.
            on_step: Called after each with the return of the episode that it ended, or None.
            journal: Records every step as it happens, and may hold the first ones from before: only the rest is taken
                then. The running episode is resumed where the environment can be restored, and cut where it cannot.
            seed: With one, a step's action depends on it, the step's number and the observation alone, and an
                episode's start likewise.

        Raises:
            DivergenceError: An action is not finite or outside the action space; it does not reach the environment.
            EnvironmentFailedError: The environment raises.
            RunStoppedError: The stop rule has no answer.
        """
        env, journal = self.env, OnlineJournal() if journal is None else journal
        obs, episode_return = self._resume(journal.rows)
        seeds = None if seed is None else step_seeds(seed, steps)
        within = LimitedCollection(self.limits, journal.rows)
        for step in range(len(journal), steps):
            starts = obs is None
            if seeds is not None:
                seed_torch(int(seeds[step, 0]))
            if starts:
                if seeds is not None:
                    env.seed(int(seeds[step, 1]))
                obs, episode_return = reset_env(env), 0.0
            state = env.state()
            action = within.act(self._act(self.policy), self._act(self.base), np.asarray(obs), starts, None)
            next_obs, reward, done, info = step_env(env, action)
            truncated = bool(done and info["TimeLimit.truncated"])
            limited = within.columns(np.asarray(obs), action, np.asarray(next_obs), done)
            if limited.get("stopped"):
                done = truncated = True
            row = {
                "observations": np.asarray(obs, np.float64),
                "actions": action,
                "next_observations": np.asarray(next_obs, np.float64),
                "rewards": np.float64(reward),
                "terminals": done and not truncated,
                "truncated": truncated,
                "starts": starts,
            }
            snapshot = {f"{_SNAPSHOT}{name}": value for name, value in env.snapshot().items()}
            row |= state | snapshot | limited
            journal.append(row, sync=done)
            within.took(row)
            episode_return += reward
            obs = None if done else next_obs
            if on_step is not None:
                on_step(episode_return if done else None)
        journal.close()
        return journal.dataset()

    def _act(self, policy: Any) -> Act:
        """What a policy does with an observation; torch's generator is seeded already."""
        return lambda obs, seed: policy.select_action(obs.reshape(1, -1), self.deterministic).flatten()

    def _resume(self, rows: list[dict[str, Any]]) -> tuple[np.ndarray | None, float]:
        """The observation that the environment is restored to, None where an episode has to start, and its return."""
        if not rows or rows[-1]["terminals"] or rows[-1]["truncated"]:
            return None, 0.0
        snapshot = {name.removeprefix(_SNAPSHOT): x for name, x in rows[-1].items() if name.startswith(_SNAPSHOT)}
        if not snapshot:
            return None, 0.0
        self.env.restore(snapshot)
        first = max(index for index, row in enumerate(rows) if row["starts"])
        return rows[-1]["next_observations"], sum(float(row["rewards"]) for row in rows[first:])


def collect(
    ctx: StageContext,
    policy: ModelBasedPolicy,
    earlier: Dataset | None = None,
    base: ModelBasedPolicy | None = None,
    base_return: float | None = None,
) -> Collection:
    """D_on: the round's transitions of the policy in the real environment, after those of earlier rounds.

    Where they were taken outside the run, nothing is left to take.

    Args:
        ctx: What the stages share.
        policy: π_u.
        earlier: D_on of earlier rounds.
        base: π_off, for the steps that the limits take from π_u.
        base_return: The mean return of its episodes, for ``config.return_floor``.
    """
    config, env = ctx.config, ctx.env
    limits = Limits.of(config, base_return)
    given = ctx.taken_outside(ctx.round)
    if given is not None:
        ctx.logger.log(f"3 collect: {len(given)} steps, taken outside this run")
        given.metadata = {**given.metadata, "task": config.task}
        return Collection(concatenate(earlier, given), len(given), _limited(ctx, limits))
    journal = ctx.open_journal(ctx.round)
    found, steps = len(journal), config.steps_of_round(ctx.round)
    with StageProgress("3 collect", steps, ctx.logger, unit="step") as progress:
        last = {}

        def on_step(episode_return: float | None) -> None:
            if episode_return is not None:
                last["score"] = f"{100 * env.get_normalized_score(episode_return):.1f}"
            progress.update(len(journal), **last)
            ctx.state.after_step()

        collector = OnlineCollector(policy, env, config.collect_deterministic, limits, base)
        collected = collector.collect(steps, on_step, journal, collection_seed(config.seed, ctx.round))
    if found < len(collected):
        ends = int((collected.terminals | collected.timeouts).sum())
        ctx.logger.log(f"3 collect: {len(collected)} environment steps in {ends} episodes")
        for line in terminal_findings(build_termination_fn(env.spec), collected, env.spec.max_episode_steps):
            ctx.logger.log(line)
    collected.metadata = {"task": config.task, "physics": env.physics, "seed": config.seed, "collected_by": "doof_ext"}
    return Collection(
        concatenate(earlier, collected), len(collected), _limited(ctx, limits, log=found < len(collected))
    )


def _limited(ctx: StageContext, limits: Limits, log: bool = True) -> dict[str, Any] | None:
    """What the limits did in the round, by its journal, with a line in the log."""
    report = None if limits.are_off else LimitedCollection(limits, ctx.open_journal(ctx.round).rows).report()
    if report is not None and log:
        ctx.logger.log(limits_line(report))
    return report
