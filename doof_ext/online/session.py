"""Stage 3 in a control loop that is not ours: actions from π_u, every step in the run's own journal."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from types import TracebackType
from typing import Any

import numpy as np

from doof_ext.algorithm.collect import collection_seed, step_seeds
from doof_ext.algorithm.limits import LimitedCollection, Limits
from doof_ext.data.dataset import LARGEST
from doof_ext.data.journal import OnlineJournal
from doof_ext.deploy.run_policy import RunPolicy, read_policy
from doof_ext.errors import DivergenceError, RunStoppedError, UserError
from doof_ext.experiment import run_directory
from doof_ext.experiment.artifacts import RunFiles
from doof_ext.experiment.online_record import (
    OnlineRecord,
    check_waits,
    reached,
    read_online_record,
    write_online_record,
)
from doof_ext.files import read_json
from doof_ext.learning.acting import StepActor

_ROUNDING = 1e-4  # of an observation, or of 1: not another observation


class OnlineSession:
    """The online steps of a run that was stopped with ``--stop-after explore``, taken in a control loop of your own.

        with OnlineSession(run) as session:
            observation = ...                              # the system at the start of an episode
            while session.remaining:
                action = session.act(observation)          # of the exploration policy
                observation, reward, terminal, truncated = ...  # your system takes it
                session.record(observation, reward, terminal, truncated)
                if session.starts_episode:
                    observation = ...                      # the system at the start of the next one

    A step is in the run's journal before ``record`` returns: it survives a kill of the process, and from the end of its
    episode on a loss of power. After a crash, a session of a new process goes on at the next step, in a new episode.
    Actions depend on the run's seed, the round, the step's number and the observation alone; they are those that the
    run itself would take on the CPU, within the limits that the run has (``--return-floor`` and others). The run is
    locked until the session is closed, which the last step does; the run is then resumed with ``--resume``. No
    environment is made.

    Args:
        run: The run directory.
        steps: How many steps there are to be in all, those of earlier sessions included; at least 2. By default what an
            earlier session of the round was given, else the round's part of the run's ``--online-steps``.

    Attributes:
        steps: How many steps there are to be in all.
        starts_episode: Whether the next observation that ``act`` takes starts an episode.

    Raises:
        UserError: There is no such run, it does not wait for online steps or has them already, a file is damaged, or
            another process is at work in it.
    """

    def __init__(self, run: str | os.PathLike[str], steps: int | None = None) -> None:
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 2):
            raise UserError(f"steps is {steps}; it must be a whole number, at least 2")
        self.starts_episode = True
        self._pending: tuple[np.ndarray, np.ndarray] | None = None  # observation and action of a step being taken
        self._is_open = False
        self._closing = contextlib.ExitStack()
        policy = read_policy(run, "exploration")
        self._obs_dim, self._deterministic = policy.task.obs_dim, policy.config.collect_deterministic
        self._actor = StepActor(policy.actor, *policy.bounds)
        self._base: StepActor | None = None
        self._bounds = policy.bounds
        with contextlib.ExitStack() as opened:
            opened.enter_context(run_directory.lock(policy.files.directory))
            self._round = self._find_round(policy.files)
            self._journal = OnlineJournal(policy.files.journal(self._round))
            self.steps = self._take_up(policy, steps)
            self._within = self._limited(policy)
            opened.callback(self._journal.close)
            self._seeds = step_seeds(collection_seed(policy.config.seed, self._round), self.steps)
            self._is_open = True
            self._closing = opened.pop_all()
        if not self.remaining:
            self.close()

    def _find_round(self, files: RunFiles) -> int:
        if os.path.exists(files.summary):
            raise UserError(f"{files.directory} is complete: online steps come too late")
        stage, round = reached(files.checkpoints)
        check_waits(files.directory, stage, round)
        return round

    def _take_up(self, policy: RunPolicy, asked: int | None) -> int:
        """Records the session in the run; returns how many steps there are to be in all."""
        files = policy.files
        path = files.online_record(self._round)
        record, taken = read_online_record(path), len(self._journal)
        if record is None and taken:
            raise UserError(f"{files.directory} has begun stage 3 in its own environment: --resume takes the rest")
        if record is not None and (record.source != "session" or record.sha256 is not None):
            raise UserError(f"{files.directory} has its online steps already: --resume goes on with stage 4")
        if asked is not None:
            steps = int(asked)
        else:
            steps = policy.config.steps_of_round(self._round) if record is None else record.steps
        if taken > steps:
            raise UserError(f"steps is {steps}, but {taken} are taken already")
        if record is None or record.steps != steps:
            write_online_record(path, OnlineRecord("session", steps))
        return steps

    def _limited(self, policy: RunPolicy) -> LimitedCollection:
        """The collection's limits, with π_off where they may call for it."""
        config, base_return = policy.config, None
        if config.return_floor is not None:
            base_return = read_json(policy.files.base_return(self._round)).get("base_return")
            if not _is_number(base_return):
                raise UserError(f"{policy.files.base_return(self._round)} is damaged: there is no return for the floor")
        limits = Limits.of(config, base_return)
        if config.return_floor is not None or config.explore_share is not None:
            base = read_policy(policy.files.directory, "pretrained" if self._round == 1 else "finetuned")
            self._base = StepActor(base.actor, *base.bounds)
        return LimitedCollection(limits, self._journal.rows)

    def __len__(self) -> int:
        """How many steps are recorded."""
        return len(self._journal)

    @property
    def remaining(self) -> int:
        """How many steps are left to take."""
        return self.steps - len(self)

    @property
    def reset_seed(self) -> int:
        """A seed to reset a simulator with where an episode starts: the one that the run itself would use."""
        self._check_open()
        return int(self._seeds[len(self), 1])

    def act(self, observation: Any) -> np.ndarray:
        """The action to take now.

        Args:
            observation: The system's, [O], in the units of the data: within an episode the one that was recorded last.
                Another one, as of sensors read anew, is warned of, since steps that do not follow one another may be
                refused.

        Returns:
            The action [A], float32, within the task's bounds.

        Raises:
            UserError: The observation has another shape or a number in it is not finite; the step before is not
                recorded; all steps are taken.
            DivergenceError: The policy's action is not finite.
        """
        self._check_open()
        if self._pending is not None:
            raise UserError("act was called twice: record the step first, or call end_episode, which drops it")
        obs = self._checked("observation", observation)
        self._warn_of_a_gap(obs)
        seed = None if self._deterministic else int(self._seeds[len(self), 0])
        base = None if self._base is None else self._base.act
        action = self._within.act(self._actor.act, base, obs, self.starts_episode, seed)
        low, high = self._bounds
        if not ((action >= low) & (action <= high)).all():  # False for NaN, too
            raise DivergenceError(f"the policy's action {action} does not fit the action space; do not take it")
        self._pending = obs, action
        return action.copy()

    def _warn_of_a_gap(self, obs: np.ndarray) -> None:
        if self.starts_episode:
            return
        gap = abs(obs - self._journal.rows[-1]["next_observations"])
        if not (gap <= _ROUNDING * np.maximum(abs(obs), 1)).all():
            warnings.warn(
                f"act was given another observation than was recorded last, {gap.max():.2g} away in dimension "
                f"{gap.argmax()}: give it the recorded one, or call end_episode where another episode begins",
                stacklevel=3,
            )

    def record(self, next_observation: Any, reward: float, terminal: bool, truncated: bool) -> None:
        """Writes the step that was taken with the last action into the run's journal.

        Args:
            next_observation: What the system was observed in after it, [O].
            reward: Its reward.
            terminal: Whether it led into a terminal state, as the task's termination rule has it.
            truncated: Whether the episode ends here for another reason, such as a time limit. The run's stop rule
                may end it, too: ``starts_episode`` then says so.

        Raises:
            UserError: There was no ``act``, or an argument is not of its kind; nothing is written.
            RunStoppedError: The journal cannot be written; the session is closed. Or the run's stop rule has no
                answer; nothing is written.
        """
        self._check_open()
        if self._pending is None:
            raise UserError("record was called without act: there is no action that the step was taken with")
        next_obs = self._checked("next_observation", next_observation)
        if np.ndim(reward) != 0 or not _is_number(reward):
            raise UserError(f"the reward is {reward!r}; it must be one finite number")
        for name, flag in (("terminal", terminal), ("truncated", truncated)):
            if np.ndim(flag) != 0 or flag not in (False, True):
                raise UserError(f"{name} is {flag!r}; it must be True or False")
        obs, action = self._pending
        ends = bool(terminal or truncated)
        limited = self._within.columns(obs, action, next_obs, ends)
        stopped = limited.get("stopped", False)
        ends |= stopped
        row = {
            "observations": obs,
            "actions": action,
            "next_observations": next_obs,
            "rewards": np.float64(reward),
            "terminals": bool(terminal),
            "truncated": bool((truncated or stopped) and not terminal),
            "starts": self.starts_episode,
            **limited,
        }
        try:
            self._journal.append(row, sync=ends)
            self._within.took(row)
            self._pending, self.starts_episode = None, ends
            if not self.remaining:
                self.close()
        except OSError as error:
            with contextlib.suppress(OSError):
                self.close()
            reason = error.strerror or error
            raise RunStoppedError(f"the journal cannot be written ({reason}); the steps before are kept") from error

    def end_episode(self) -> None:
        """Ends the episode where it is, as a truncation; an action that was not recorded is dropped."""
        self._pending, self.starts_episode = None, True

    def close(self) -> None:
        """Syncs the journal and frees the run."""
        self._is_open = False
        self._closing.close()

    def __enter__(self) -> OnlineSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if not self.remaining:
            raise UserError(f"all {self.steps} steps are taken: --resume goes on with stage 4")
        if not self._is_open:
            raise UserError("the session is closed: open another one, it goes on at the next step")

    def _checked(self, name: str, observation: Any) -> np.ndarray:
        try:
            obs = np.array(observation, np.float64)
        except (ValueError, TypeError) as error:
            raise UserError(f"the {name} is no array of numbers ({error})") from error
        if obs.shape != (self._obs_dim,):
            raise UserError(f"the {name} has shape {list(obs.shape)}; it must be [{self._obs_dim}]")
        if not (abs(obs) < LARGEST).all():
            place = int(np.flatnonzero(~(abs(obs) < LARGEST))[0])
            raise UserError(f"the {name} is not finite, or too large, in its dimension {place}")
        return obs


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(value) and abs(value) < LARGEST
    except TypeError:
        return False
