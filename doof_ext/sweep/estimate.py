"""How long runs take, from a short measurement of the steps that they repeat.

What is measured is the time that a core works at a step, so that a machine busy with other things gives the same plan.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from doof_ext.config import BaselineConfig, Config, RunSettings
from doof_ext.config.settings import RATIOS
from doof_ext.data.dataset import Dataset
from doof_ext.sweep.plan import PlannedRun
from doof_ext.sweep.progress import Progress

UNCAPPED_EPOCHS = 50
"""What dynamics training counts for where its stopping rule alone ends it."""

_OWN_DATA = 100_000  # transitions of data whose number is not known before they are read
_SECONDS = 0.1  # that each kind of step is measured for
_ROWS = 5_000  # start states of the rollout that is measured
_STEPS_DEPEND_ON = (
    "algo",
    "uncertainty",
    "hidden_dims",
    "dynamics_hidden_dims",
    "n_ensemble",
    "batch_size",
    "rollout_batch_size",
    "rollout_length",
    "device",
    "sampled_actions",
)


@dataclass(frozen=True)
class Rates:
    """Seconds of what a run repeats.

    Attributes:
        gradient_step: A step of policy training.
        rollout: A rollout of all start states.
        dynamics_step: A step of dynamics training.
        env_step: A step of the environment.
        action: An action of the policy alone.
    """

    gradient_step: float
    rollout: float
    dynamics_step: float
    env_step: float
    action: float


@dataclass(frozen=True)
class StageCost:
    """A stage of a run, as Progress names it: ``epochs`` of ``seconds`` each."""

    stage: str
    round: int
    epochs: int
    seconds: float

    @property
    def total(self) -> float:
        return self.epochs * self.seconds


def measure(config: RunSettings) -> Rates:
    """Measures the steps of a run on real states of its environment, in two seconds or so.

    Raises:
        UserError: The environment or the device is not to be had here.
    """
    return _measure_baseline(config) if isinstance(config, BaselineConfig) else _measure_doof(config)


def _measure_doof(config: RunSettings) -> Rates:
    assert isinstance(config, Config)
    from doof_ext.baselines.in_model import policy_builder
    from doof_ext.learning.factory import build_dynamics
    from doof_ext.learning.replay_buffer import Mixture, TensorReplayBuffer
    from doof_ext.pipeline import prepare_torch
    from doof_ext.tasks import make_env

    prepare_torch(config)
    env = make_env(config.spec, seed=config.seed, physics=config.physics)
    started, data = time.thread_time(), _uniform_steps(env, 200)
    env_step = (time.thread_time() - started) / 200
    buffer = TensorReplayBuffer.from_dataset(data, device=config.device)
    dynamics = build_dynamics(config, env.spec)
    dynamics.scaler.fit(np.hstack([data["observations"], data["actions"]]))
    dynamics.fit_estimator(data)
    plain = dataclasses.replace(config, normalize_rewards=False) if config.normalize_rewards else config
    policy = policy_builder(plain, env.spec, _dataset(data))(config, env.spec, dynamics, -config.penalty_coef)
    real = int(config.batch_size * config.real_ratio)
    batches = Mixture([(buffer, real), (buffer, config.batch_size - real)])
    rows = min(config.rollout_batch_size, _ROWS)
    starts = buffer.sample(rows)["observations"]
    table = dynamics.training_table(data)
    drawn = np.random.default_rng(0).integers(len(table), size=(config.n_ensemble, config.batch_size))
    inputs, targets = dynamics.training_pairs(table[drawn])
    first = data["observations"][:1]
    env.close()
    return Rates(
        gradient_step=_seconds(lambda: policy.learn(batches.sample_split(real))),
        rollout=_seconds(lambda: policy.rollout(starts, config.rollout_length)) * config.rollout_batch_size / rows,
        dynamics_step=_seconds(lambda: dynamics.training_step(inputs, targets, config.logvar_loss_coef)),
        env_step=env_step,
        action=_seconds(lambda: policy.select_action(first, deterministic=True)),
    )


def _measure_baseline(config: BaselineConfig) -> Rates:
    from doof_ext.baselines.replay import Replay
    from doof_ext.baselines.run import build_agent
    from doof_ext.pipeline import prepare_torch
    from doof_ext.tasks import make_env

    prepare_torch(config)
    env = make_env(config.spec, seed=config.seed, physics=config.physics)
    started, rows = time.thread_time(), _uniform_steps(env, 200)
    env_step = (time.thread_time() - started) / 200
    dataset = _dataset(rows)
    replay = Replay(dataset, env.spec, 1, config.gamma, device=config.device)
    agent = build_agent(config, env.spec, dataset)
    env.close()
    return Rates(
        gradient_step=_seconds(lambda: agent.learn(agent.draw(replay))),
        rollout=0.0,
        dynamics_step=0.0,
        env_step=env_step,
        action=_seconds(lambda: agent.select_action(rows["observations"][:1], deterministic=True)),
    )


def _uniform_steps(env: Any, steps: int) -> dict[str, np.ndarray]:
    """Transitions of uniform actions, by the kit's names."""
    env.action_space.seed(0)
    columns: dict[str, list[Any]] = {
        name: [] for name in ("observations", "actions", "next_observations", "rewards", "terminals")
    }
    observation = env.reset()
    for _ in range(steps):
        action = env.action_space.sample()
        next_observation, reward, done, _ = env.step(action)
        row = (observation, action, next_observation, [reward], [done])
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
        observation = env.reset() if done else next_observation
    return {name: np.array(column, np.float32) for name, column in columns.items()}


def _dataset(rows: Mapping[str, np.ndarray]) -> Dataset:
    """Rows of :func:`_uniform_steps` with their episodes."""
    ends = np.arange(len(rows["rewards"])) == len(rows["rewards"]) - 1
    terminals = rows["terminals"][:, 0] > 0
    return Dataset(
        rows["observations"],
        rows["actions"],
        rows["next_observations"],
        rewards=rows["rewards"][:, 0],
        terminals=terminals,
        timeouts=ends & ~terminals,
    )


def _seconds(step: Callable[[], object]) -> float:
    step()  # the first one allocates
    started, count = time.thread_time(), 0
    while time.thread_time() < started + _SECONDS:
        step()
        count += 1
    return (time.thread_time() - started) / count


def measure_all(runs: Iterable[PlannedRun], threads: int, device: str | None = None) -> dict[PlannedRun, Rates]:
    """The rates of each run, on ``device`` or its own; runs whose steps are alike are measured once."""
    measured: dict[tuple[Any, ...], Rates] = {}
    rates = {}
    for run in runs:
        config = dataclasses.replace(run.config, threads=threads, device=device or run.config.device)
        alike = (config.spec.domain or config.task, *(getattr(config, name, None) for name in _STEPS_DEPEND_ON))
        if alike not in measured:
            measured[alike] = measure(config)
        rates[run] = measured[alike]
    return rates


def costs(config: RunSettings, rates: Rates, shared: bool = False) -> list[StageCost]:
    """The stages of a run, in order; without stage 1 where it is ``shared``, taken from another run.

    Episodes count with their time limit, so that tasks whose episodes end early are overestimated.
    """
    if isinstance(config, BaselineConfig):
        return _costs_of_baseline(config, rates, shared)
    assert isinstance(config, Config)
    steps = config.step_per_epoch
    limit = config.spec.max_episode_steps or config.max_episode_steps or 1000
    evaluation = limit * (config.eval_episodes * rates.env_step + rates.action)  # the episodes go side by side
    model_free_epoch = steps * rates.gradient_step + evaluation
    policy_epoch = model_free_epoch + steps * rates.rollout / config.rollout_freq
    plain_epoch = policy_epoch if config.real_ratio < 1 else model_free_epoch  # of stage 1, and what continues it
    rows = config.dataset_steps or config.spec.dataset_steps or _OWN_DATA
    batches = math.ceil(rows / config.batch_size)
    dynamics_epochs = config.dynamics_epochs or UNCAPPED_EPOCHS
    finetune_dynamics_epochs = config.finetune_dynamics_epochs or dynamics_epochs
    found = []
    if not shared:
        found.append(StageCost("1 pretrain dynamics", 1, dynamics_epochs, batches * rates.dynamics_step))
        found.append(StageCost("1 pretrain policy", 1, config.epoch, plain_epoch))
    for round in range(1, config.most_rounds + 1):
        if config.control is None:
            collecting = config.steps_of_round(round) * (rates.env_step + rates.action)
            if config.exploration_ratio == "auto":
                tries = len(RATIOS) * config.candidate_epochs
                found.append(StageCost("2 ratio", round, tries, policy_epoch - evaluation))
            found.append(StageCost("2 explore", round, config.explores * config.explore_epochs, policy_epoch))
            found.append(StageCost("3 collect", round, 1, collecting))
        if config.control != "extra-training":
            seconds = config.finetune_dynamics_steps * rates.dynamics_step
            found.append(StageCost("4 finetune dynamics", round, finetune_dynamics_epochs, seconds))
        finetune_epoch = plain_epoch if config.control == "extra-training" else policy_epoch
        found.append(StageCost("5 finetune policy", round, config.finetune_epochs, finetune_epoch))
    final = limit * (config.final_episodes * rates.env_step + math.ceil(config.final_episodes / 10) * rates.action)
    found.append(
        StageCost("final evaluation", config.most_rounds, 2 + config.explores, final)
    )  # ten episodes go side by side
    return found


def _costs_of_baseline(config: BaselineConfig, rates: Rates, shared: bool) -> list[StageCost]:
    limit = config.spec.max_episode_steps or config.max_episode_steps or 1000
    evaluation = limit * (config.eval_episodes * rates.env_step + rates.action)
    epoch = config.step_per_epoch * rates.gradient_step + evaluation
    online_epochs = math.ceil(config.online_steps / config.step_per_epoch)
    found = []
    if not shared:
        if config.density_epochs is not None:
            found.append(StageCost("1 pretrain density", 1, config.density_epochs, epoch - evaluation))
        found.append(StageCost("1 pretrain policy", 1, config.epoch, epoch))
    online_epoch = epoch + config.step_per_epoch * (rates.env_step + rates.action)
    found.append(StageCost("3 finetune online", 1, online_epochs, online_epoch))
    found.append(StageCost("5 finetune offline", 1, config.finetune_epochs, epoch))
    final = limit * (config.final_episodes * rates.env_step + math.ceil(config.final_episodes / 10) * rates.action)
    return [*found, StageCost("final evaluation", 1, 3, final)]


def seconds_done(stages: Sequence[StageCost], progress: Progress) -> float:
    """The part of the estimate that lies behind a run."""
    done = 0.0
    for cost in stages:
        if (cost.stage, cost.round) == (progress.stage, progress.round):
            return done + min(progress.epoch, cost.epochs) * cost.seconds
        done += cost.total
    return 0.0
