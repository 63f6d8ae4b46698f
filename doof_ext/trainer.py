"""One training loop over (real rows, model rollouts); exploration and finetuning are its settings."""

from dataclasses import dataclass

import numpy as np
import torch

from doof_ext import kit
from doof_ext.acting import start_episode, take_step
from doof_ext.errors import DivergenceError
from doof_ext.replay import Mixture, split_counts
from doof_ext.sac import MeanLosses
from doof_ext.state import Part, RunState, Values


@dataclass
class Evaluation:
    """Real episodes of a policy's mean actions, on D4RL's scale × 100."""

    returns: list[float]  # raw, one per episode
    mean: float  # normalised
    std: float  # normalised: scaled, without the score's offset


def evaluate(policy, env, episodes) -> Evaluation:
    """Runs ``episodes`` episodes of the policy's mean action, side by side where there are several simulators.

    Each is seeded from NumPy's global generator, so that nothing else of the environment's past matters.
    """
    seeds = np.random.randint(2**31, size=episodes)
    returns, worlds = np.zeros(episodes), env.worlds(episodes)
    for first in range(0, episodes, len(worlds)):
        running = {}  # episode: its world and its present observation
        for episode, world in zip(range(first, episodes), worlds, strict=False):
            world.seed(int(seeds[episode]))
            running[episode] = world, start_episode(world)
        while running:
            actions = policy.select_action(np.stack([obs for _, obs in running.values()]), deterministic=True)
            for (episode, (world, _)), action in zip(list(running.items()), actions, strict=True):
                obs, reward, done, _ = take_step(world, action)
                returns[episode] += reward
                running[episode] = world, obs
                if done:
                    del running[episode]
    score, returns = env.get_normalized_score, returns.tolist()
    return Evaluation(returns, 100 * score(np.mean(returns)), 100 * np.std(returns) * (score(1.0) - score(0.0)))


class DOOFTrainer(kit.MBPolicyTrainer):
    """The kit's trainer with exact batch mixtures, start states from several buffers, and a logger left open.

    Real rows come from ``real_parts``, a list of (buffer, fraction of the batch); rollouts start from
    ``start_parts``, likewise. Rows whose reward is shaped by u come from ``shaped_parts`` and, for what the fractions
    leave of a batch, from the fake buffer: these are what the policy learns from as ``batch["fake"]``.
    """

    stage, round = 1, 1

    def __init__(
        self, policy, eval_env, real_buffer, fake_buffer, logger, rollout_setting, epoch=1000, step_per_epoch=1000,
        batch_size=256, real_ratio=0.05, eval_episodes=10, lr_scheduler=None, dynamics_update_freq=0,
        real_parts=None, shaped_parts=(), start_parts=None, first_timestep=0, on_epoch=None, state=None,
    ):  # fmt: skip
        """The kit's arguments, and: see the class; the timestep its curve goes on from; ``on_epoch(epoch, score)``;
        the run's state, to go on from and to save to."""
        super().__init__(
            policy, eval_env, real_buffer, fake_buffer, logger, rollout_setting, epoch, step_per_epoch,
            batch_size, real_ratio, eval_episodes, lr_scheduler, dynamics_update_freq,
        )  # fmt: skip
        real_parts = real_parts or [(real_buffer, real_ratio)]
        parts = [*real_parts, *shaped_parts, (fake_buffer, None)]
        counts = split_counts(batch_size, [fraction for _, fraction in parts[:-1]])
        self.batches = Mixture([(buffer, count) for (buffer, _), count in zip(parts, counts, strict=True)])
        self.real_rows = sum(counts[: len(real_parts)])
        start_parts = start_parts or [(real_buffer, 1.0)]
        *start_counts, rest = split_counts(rollout_setting[1], [fraction for _, fraction in start_parts])
        start_counts[0] += rest
        self.starts = Mixture([(part[0], count) for part, count in zip(start_parts, start_counts, strict=True)])
        self.fake_buffer, self.logger, self.eval_env = fake_buffer, logger, eval_env
        self.rollout_setting, self.epoch, self.step_per_epoch = rollout_setting, epoch, step_per_epoch
        self.eval_episodes, self.first_timestep, self.on_epoch = eval_episodes, first_timestep, on_epoch
        self.shaped_buffers = [buffer for buffer, _ in shaped_parts]
        self.evaluation = None  # of the last epoch
        self.state = state or RunState()

    def train(self):
        """Runs all epochs; returns {"last_10_performance"}. ``evaluation`` holds the last epoch's."""
        rollout_freq, _, rollout_length = self.rollout_setting
        losses, progress = MeanLosses(), Values(epoch=0, step=0, scores=[], rollout_info={}, evaluation={})
        ended = self.state.enter("policy", self._parts(losses, progress))
        if progress.evaluation:
            self.evaluation = Evaluation(**progress.evaluation)
        while not ended and progress.epoch < self.epoch:
            where = f"epoch {progress.epoch + 1} of stage {self.stage}"
            while progress.step < self.step_per_epoch:
                if (progress.epoch * self.step_per_epoch + progress.step) % rollout_freq == 0:
                    progress.rollout_info = self._rollout(rollout_length, where)
                losses.add(self.policy.learn(self.batches.sample_split(self.real_rows)))
                progress.step += 1
                if progress.step < self.step_per_epoch:
                    self.state.step_ended()
            if self.lr_scheduler is not None:
                self.lr_scheduler.step()
            means = losses.read(where)
            self.policy.check_weights(where)
            self.evaluation = evaluate(self.policy, self.eval_env, self.eval_episodes)
            progress.evaluation = vars(self.evaluation)
            progress.scores = [*progress.scores[-9:], self.evaluation.mean]
            progress.epoch, progress.step = progress.epoch + 1, 0
            self._log(self.first_timestep + progress.epoch * self.step_per_epoch, means, progress.rollout_info)
            progress.rollout_info = {}
            if self.on_epoch is not None:
                self.on_epoch(progress.epoch, self.evaluation)
            self.state.epoch_ended()
        if not ended:
            # stage 1 has yet to draw pairs from the fake buffer, which no longer is in a checkpoint once this has ended
            self.state.leave("policy", "progress", save=self.stage != 1)
        return {"last_10_performance": float(np.mean(progress.scores))}

    def _parts(self, losses, progress):
        """All that the rest of the training depends on."""
        policy = Part(self.policy.training_state, self.policy.load_training_state)
        parts = {"policy": policy, "progress": progress, "losses": losses, "fake_buffer": self.fake_buffer}
        if self.lr_scheduler is not None:
            parts["lr_scheduler"] = self.lr_scheduler
        return parts | {f"shaped_buffer_{index}": buffer for index, buffer in enumerate(self.shaped_buffers)}

    def _rollout(self, length, where):
        transitions, info = self.policy.rollout(self.starts.sample()["observations"], length)
        for name, column in transitions.items():
            if not column.isfinite().all():
                raise DivergenceError(f"the model's {name} are not finite in {where}")
        self.fake_buffer.add_batch(**transitions)
        return info

    def _log(self, timestep, means, rollout_info):
        row = {
            "eval/normalized_episode_reward": self.evaluation.mean,
            "eval/normalized_episode_reward_std": self.evaluation.std,
            "eval/episode_reward": float(np.mean(self.evaluation.returns)),
            "stage": self.stage, "round": self.round, **means,
            **{f"rollout_info/{name}": value for name, value in rollout_info.items()},
        }  # fmt: skip
        for name, value in row.items():
            self.logger.logkv(name, value)
        self.logger.set_timestep(timestep)
        self.logger.dumpkvs(exclude=["dynamics_training_progress", "consoleout_backup"])


class ExplorationTrainer(DOOFTrainer):
    """Stage 2: SAC on 2.5 % D, 2.5 % D_u, 95 % rollouts, all but D rewarded with r + λ_on·u (eq. 9)."""

    stage = 2


class PolicyFinetuneTrainer(DOOFTrainer):
    """Stage 5: MOPO in the finetuned model, 2.5 % D and 97.5 % rollouts that start half from D, half from D_on."""

    stage = 5


def cosine_schedule(optimizer, epochs):
    """The kit's MOPO schedule: the learning rate falls to 0 on a cosine over all epochs."""
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
