"""One training loop over real rows and model rollouts; exploration and finetuning are its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from doof_ext import kit
from doof_ext.checkpointing.training_state import Counters, StateAdapter, Stateful, TrainingState
from doof_ext.errors import DivergenceError
from doof_ext.evaluation.model_return import ModelReturn, ModelReturns
from doof_ext.evaluation.returns import Evaluation, StageScores, evaluate
from doof_ext.learning.actor_critic import MeanLosses
from doof_ext.learning.policy import ModelBasedPolicy
from doof_ext.learning.replay_buffer import Mixture, TensorReplayBuffer, split_counts

Sources = Sequence[tuple[TensorReplayBuffer, float]]
"""Buffers, and the fraction of a batch that is drawn from each."""


class PolicyObserver(Stateful, Protocol):
    """What takes in the policy of each epoch, and is kept with the training."""

    def consider(
        self, epoch: int, policy: ModelBasedPolicy, scores: StageScores, estimate: ModelReturn | None
    ) -> None: ...


class DOOFTrainer(kit.MBPolicyTrainer):
    """The kit's trainer with exact batch mixtures, start states from several buffers, and a logger left open.

    The kit's arguments, and:

    Args:
        real_sources: Buffers of real rows; by default the real buffer at ``real_ratio``.
        bonus_sources: Buffers of recorded rows whose reward has u in it. With the rows of the fake buffer, which fills
            what the fractions leave of a batch, they are what the policy learns from as ``batch["fake"]``.
        start_sources: Buffers that rollouts start from; by default the real buffer alone.
        first_timestep: Where the curve continues.
        eval_episodes: Episodes of the evaluation after each epoch; with 0 the environment is not touched.
        on_epoch: Called after each epoch with its number, the evaluation and the model's estimate, None without one.
        model_return: What estimates the policy's return in the dynamics after each epoch; None for nothing.
        state: The run's state, to resume from and to save to.
        round: The round of stages 2-5, for the log.
        observer: Takes in the policy of each epoch; a component of the state.
        name: Of this training in the state.
        logs_curve: Whether its epochs are rows of the run's curve.
    """

    stage = 1

    def __init__(
        self,
        policy: ModelBasedPolicy,
        eval_env: Any,
        real_buffer: TensorReplayBuffer,
        fake_buffer: TensorReplayBuffer,
        logger: Any,
        rollout_setting: tuple[int, int, int],
        epoch: int = 1000,
        step_per_epoch: int = 1000,
        batch_size: int = 256,
        real_ratio: float = 0.05,
        eval_episodes: int = 10,
        lr_scheduler: Any = None,
        dynamics_update_freq: int = 0,
        real_sources: Sources | None = None,
        bonus_sources: Sources = (),
        start_sources: Sources | None = None,
        first_timestep: int = 0,
        on_epoch: Callable[[int, Evaluation | None, ModelReturn | None], object] | None = None,
        model_return: ModelReturns | None = None,
        state: TrainingState | None = None,
        round: int = 1,
        observer: PolicyObserver | None = None,
        name: str = "policy",
        logs_curve: bool = True,
    ) -> None:
        super().__init__(
            policy,
            eval_env,
            real_buffer,
            fake_buffer,
            logger,
            rollout_setting,
            epoch,
            step_per_epoch,
            batch_size,
            real_ratio,
            eval_episodes,
            lr_scheduler,
            dynamics_update_freq,
        )
        real_sources = real_sources or [(real_buffer, real_ratio)]
        recorded = [*real_sources, *bonus_sources]
        *counts, fake_rows = split_counts(batch_size, [fraction for _, fraction in recorded])
        rows = [(buffer, count) for (buffer, _), count in zip(recorded, counts, strict=True)]
        self.batches = Mixture([*rows, (fake_buffer, fake_rows)])
        self.real_rows, self._has_rollouts = sum(counts[: len(real_sources)]), fake_rows > 0
        start_sources = start_sources or [(real_buffer, 1.0)]
        *start_counts, rest = split_counts(rollout_setting[1], [fraction for _, fraction in start_sources])
        start_counts[0] += rest
        self.starts = Mixture([(source[0], n) for source, n in zip(start_sources, start_counts, strict=True)])
        self.policy, self.fake_buffer, self.logger, self.eval_env = policy, fake_buffer, logger, eval_env
        self.rollout_setting, self.epoch, self.step_per_epoch = rollout_setting, epoch, step_per_epoch
        self.eval_episodes, self.first_timestep, self.on_epoch = eval_episodes, first_timestep, on_epoch
        self.model_return = model_return
        self.bonus_buffers = [buffer for buffer, _ in bonus_sources]
        self.scores = StageScores()
        self.state, self.round = state or TrainingState(), round
        self.observer, self.name, self.logs_curve = observer, name, logs_curve

    def train(self) -> dict[str, float]:
        """Runs all epochs; returns {"last_10_performance"}, {} without. ``scores`` holds all evaluations."""
        rollout_freq, _, rollout_length = self.rollout_setting
        losses = MeanLosses(self.policy.dynamics.device)
        progress = Counters(epoch=0, step=0, rollout_info={})
        complete = self.state.restore(self.name, self._components(losses, progress))
        while not complete and progress.epoch < self.epoch:
            where = f"epoch {progress.epoch + 1} of stage {self.stage}"
            while progress.step < self.step_per_epoch:
                gradient_steps = progress.epoch * self.step_per_epoch + progress.step
                if self._has_rollouts and gradient_steps % rollout_freq == 0:
                    progress.rollout_info = self._rollout(rollout_length, where)
                losses.add(self.policy.learn(self.batches.sample_split(self.real_rows)))
                progress.step += 1
                if progress.step < self.step_per_epoch:
                    self.state.after_step()
            if self.lr_scheduler is not None:
                self.lr_scheduler.step()
            means = losses.read(where)
            self.policy.check_weights(where)
            evaluation = None
            if self.eval_episodes:
                evaluation = evaluate(self.policy, self.eval_env, self.eval_episodes)
                self.scores.add(evaluation)
            estimate = None if self.model_return is None else self.model_return(self.policy, self.policy.dynamics)
            progress.epoch, progress.step = progress.epoch + 1, 0
            timestep = self.first_timestep + progress.epoch * self.step_per_epoch
            if self.logs_curve:
                self._log(timestep, evaluation, estimate, means, progress.rollout_info)
            progress.rollout_info = {}
            if self.observer is not None:
                self.observer.consider(progress.epoch, self.policy, self.scores, estimate)
            if self.on_epoch is not None:
                self.on_epoch(progress.epoch, evaluation, estimate)
            self.state.after_epoch()
        if not complete:
            # stage 1 has yet to draw pairs from the fake buffer, which a checkpoint after this commit no longer holds
            kept = ["policy", "scores", *(["observer"] if self.observer is not None else [])]
            self.state.commit(*kept, save=self.stage != 1)
        return {} if self.scores.last_10 is None else {"last_10_performance": self.scores.last_10}

    def _components(self, losses: MeanLosses, progress: Counters) -> dict[str, Stateful]:
        """All that the rest of the training depends on."""
        components: dict[str, Stateful] = {
            "policy": StateAdapter(self.policy.training_state, self.policy.load_training_state),
            "progress": progress,
            "scores": self.scores,
            "losses": losses,
            "fake_buffer": self.fake_buffer,
        }
        if self.lr_scheduler is not None:
            components["lr_scheduler"] = self.lr_scheduler
        if self.observer is not None:
            components["observer"] = self.observer
        return components | {f"bonus_buffer_{index}": buffer for index, buffer in enumerate(self.bonus_buffers)}

    def _rollout(self, length: int, where: str) -> dict[str, float]:
        transitions, info = self.policy.rollout(self.starts.sample()["observations"], length)
        for name, column in transitions.items():
            if not column.isfinite().all():
                raise DivergenceError(f"the model's {name} are not finite in {where}")
        self.fake_buffer.add_batch(**transitions)
        return info

    def _log(
        self,
        timestep: int,
        evaluation: Evaluation | None,
        estimate: ModelReturn | None,
        losses: dict[str, float],
        rollout_info: dict[str, float],
    ) -> None:
        row: dict[str, float] = {}
        if estimate is not None:
            figures = estimate.figures
            row["eval/model_return"] = figures.pop("mean")
            row |= {f"eval/model_return_{name}": value for name, value in figures.items()}
        row |= {
            "stage": self.stage,
            "round": self.round,
            **losses,
            **{f"rollout_info/{name}": value for name, value in rollout_info.items()},
        }
        log_epoch(self.logger, timestep, evaluation, row)


class ExplorationTrainer(DOOFTrainer):
    """Stage 2: SAC on 2.5 % D, 2.5 % D_u, 95 % rollouts, all but D rewarded with r + λ_on·u (eq. 9)."""

    stage = 2


class PolicyFinetuneTrainer(DOOFTrainer):
    """Stage 5: MOPO in the finetuned model, 2.5 % D and 97.5 % rollouts that start half from D, half from D_on."""

    stage = 5


def log_epoch(logger: Any, timestep: int, evaluation: Evaluation | None, row: Mapping[str, float]) -> None:
    """Writes a row of a training's curve: the evaluation's figures, where there is one, and ``row``'s."""
    figures: dict[str, float] = {}
    if evaluation is not None:
        figures = {
            "eval/normalized_episode_reward": evaluation.mean,
            "eval/normalized_episode_reward_std": evaluation.std,
            "eval/episode_reward": float(np.mean(evaluation.returns)),
            "eval/episode_length": float(np.mean(evaluation.lengths)),
            "eval/episode_length_std": float(np.std(evaluation.lengths)),
        }
    for name, value in {**figures, **row}.items():
        logger.logkv(name, value)
    logger.set_timestep(timestep)
    logger.dumpkvs(exclude=["dynamics_training_progress", "consoleout_backup"])
