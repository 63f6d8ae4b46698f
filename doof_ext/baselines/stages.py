"""The stages of a baseline's run: pretraining on D, online finetuning, offline finetuning on D and D_on."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from doof_ext.algorithm.collect import OnlineCollector, collection_seed
from doof_ext.algorithm.context import RunContext
from doof_ext.baselines.agent import Agent
from doof_ext.baselines.replay import Replay
from doof_ext.checkpointing.random_state import generators_kept, seed_torch
from doof_ext.checkpointing.training_state import Counters, StateAdapter
from doof_ext.data.dataset import Dataset
from doof_ext.errors import UserError
from doof_ext.evaluation.returns import Evaluation, StageScores, run_episodes
from doof_ext.learning.actor_critic import Batch, MeanLosses
from doof_ext.learning.policy_trainer import log_epoch
from doof_ext.progress import StageProgress, policy_epochs

PRETRAIN, ONLINE, OFFLINE = 1, 3, 5
"""The stages' numbers on a curve: those of DOOF's that they stand beside."""


@dataclass
class Trained:
    """What a stage leaves."""

    policy: Agent  # as it was when the stage ended
    scores: StageScores
    gradient_steps: int
    env_steps: int = 0
    data: Dataset | None = None  # D_on, of the stage that collects it
    dynamics: None = None  # which DOOF's stage 1 leaves beside the policy

    @property
    def steps(self) -> dict[str, int]:
        """For the summary."""
        return {"gradient_steps": self.gradient_steps, "env_steps": self.env_steps}


class Training:
    """One training of an agent, epoch by epoch; a stage has one, and one for each of its preparations.

    Args:
        ctx: What the stages share.
        agent: What learns.
        replay: What it learns from.
        learn: Its step.
        number: The stage's, on the curve.
        title: For the progress bar.
        steps: How many; the last epoch may be a part of one.
        is_scored: Whether the policy is evaluated after each epoch, and the epoch is a row of the curve.
    """

    def __init__(
        self,
        ctx: RunContext,
        agent: Agent,
        replay: Replay,
        learn: Callable[[Batch], dict[str, torch.Tensor]],
        number: int,
        title: str,
        steps: int,
        is_scored: bool = True,
    ) -> None:
        self.ctx, self.agent, self.replay, self.learn, self.number = ctx, agent, replay, learn, number
        self.steps, self.is_scored = steps, is_scored
        self.scores, self.counts = StageScores(), Counters(steps=0)
        self.losses = MeanLosses(replay.device)
        self.progress = StageProgress(title, -(-steps // ctx.config.step_per_epoch), ctx.logger)
        self._report = policy_epochs(self.progress)

    def restore(self, name: str) -> bool:
        """Takes the training up where the run's state has it, under a name; returns whether it is complete."""
        components: dict[str, Any] = {
            "agent": StateAdapter(self.agent.training_state, self.agent.load_training_state),
            "scores": self.scores,
            "counts": self.counts,
            "losses": self.losses,
        }
        return self.ctx.state.restore(name, components)

    def commit(self) -> None:
        """Marks the training as complete."""
        self.ctx.state.commit("agent", "scores")

    def step(self) -> None:
        """One gradient step; after the last of an epoch, or of all, its evaluation, row and checkpoint."""
        config, counts = self.ctx.config, self.counts
        self.losses.add(self.learn(self.agent.draw(self.replay)))
        counts.steps += 1
        if counts.steps % config.step_per_epoch == 0 or counts.steps == self.steps:
            self._end_epoch()
        else:
            self.ctx.state.after_step()

    def _end_epoch(self) -> None:
        ctx, steps = self.ctx, self.counts.steps
        epoch = -(-steps // ctx.config.step_per_epoch)
        where = f"epoch {epoch} of stage {self.number}"
        means = self.losses.read(where)
        self.agent.check_weights(where)
        evaluation = None
        if self.is_scored:
            if ctx.config.eval_episodes:
                seeds = np.random.randint(2**31, size=ctx.config.eval_episodes)  # others each time
                with generators_kept():  # a planner draws, and training is the same however many steps it plans
                    evaluation = Evaluation.of_episodes(ctx.env, *run_episodes(self.agent, ctx.env, seeds))
                self.scores.add(evaluation)
            row: dict[str, float] = {"stage": self.number, "round": 1, **means}
            log_epoch(ctx.logger, ctx.first_timestep + steps, evaluation, row)
        self._report(epoch, evaluation, None)
        ctx.state.after_epoch()


def pretrain(ctx: RunContext, agent: Agent, replay: Replay) -> Trained:
    """The method's own offline training on D."""
    per_epoch = ctx.config.step_per_epoch
    for name, learn, epochs in agent.preparations():
        title = f"1 pretrain {name}"
        _train(Training(ctx, agent, replay, learn, PRETRAIN, title, epochs * per_epoch, is_scored=False), name)
    steps = ctx.config.epoch * per_epoch
    agent.begin_pretraining(steps)
    training = Training(ctx, agent, replay, agent.learn, PRETRAIN, "1 pretrain policy", steps)
    _train(training, "policy")
    return Trained(copy.deepcopy(agent), training.scores, steps)


def _train(training: Training, name: str) -> None:
    complete = training.restore(name)
    with training.progress:
        while not complete and training.counts.steps < training.steps:
            training.step()
    if not complete:
        training.commit()


def finetune_online(ctx: RunContext, agent: Agent, replay: Replay, env: Any) -> Trained:
    """Environment steps of the policy as it learns, each followed by one gradient step.

    A step is in the journal before it is learned from. A run that is resumed learns again from those that its
    checkpoint does not know of, and then takes the rest: to the bit what an uninterrupted run does.

    Args:
        ctx: What the stages share.
        agent: The pretrained agent, which changes.
        replay: D; D_on joins it.
        env: Where steps are taken: not where the policy is evaluated, which would end the running episode.
    """
    config, journal = ctx.config, ctx.open_journal(1)
    steps = config.online_steps
    agent.begin_online(steps)
    training = Training(ctx, agent, replay, agent.learn, ONLINE, "3 finetune online", steps)
    complete = training.restore("policy")
    known = steps if complete else training.counts.steps
    if len(journal) < known:
        raise UserError(
            f"the checkpoint has learned from {known} online steps and their journal has {len(journal)}: its end was "
            "lost, and the run cannot be resumed"
        )
    for row in journal.rows[:known]:
        replay.add_step(row)
    seed = collection_seed(config.seed, 1)
    update_seeds = np.random.SeedSequence([config.seed, zlib.crc32(b"update")]).generate_state(steps)

    def learn(_: float | None = None) -> None:
        step = training.counts.steps
        if (step + 1) % config.step_per_epoch == 0 or step + 1 == steps:
            journal.sync()  # a checkpoint may follow, which must not know of more
        replay.add_step(journal.rows[step])
        agent.count_online_step()
        seed_torch(int(update_seeds[step]))
        training.step()

    with training.progress:
        while not complete and training.counts.steps < len(journal):
            learn()
        if not complete:
            OnlineCollector(agent, env).collect(steps, learn, journal, seed)
            training.commit()
    replay.end_episode()
    data = journal.dataset()
    data.metadata = {"task": config.task, "physics": env.physics, "seed": config.seed, "collected_by": "doof_ext"}
    return Trained(copy.deepcopy(agent), training.scores, steps, steps, data)


def finetune_offline(ctx: RunContext, agent: Agent, replay: Replay) -> Trained:
    """The method's gradient steps on D and D_on, without the environment."""
    steps = ctx.config.finetune_epochs * ctx.config.step_per_epoch
    training = Training(ctx, agent, replay, agent.learn, OFFLINE, "5 finetune offline", steps)
    _train(training, "policy")
    return Trained(copy.deepcopy(agent), training.scores, steps)
