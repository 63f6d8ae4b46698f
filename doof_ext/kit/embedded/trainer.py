"""The model-based training loop: roll out, mix real and fake rows, learn, evaluate."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from doof_ext.kit.embedded.buffer import ReplayBuffer
from doof_ext.kit.embedded.logger import Logger


class MBPolicyTrainer:
    """Trains a policy on ``real_ratio`` real rows and else on rollouts of its dynamics.

    Args:
        policy: Learns, selects actions and rolls itself out in its ``dynamics``.
        eval_env: The environment of evaluations, in the old gym protocol.
        real_buffer: Recorded transitions.
        fake_buffer: Receives the rollouts.
        logger: Records the curves, and names the folders of weights.
        rollout_setting: Steps between rollouts, start states of each, length.
        epoch: Number of epochs.
        step_per_epoch: Gradient steps of each.
        batch_size: Rows per gradient step.
        real_ratio: Fraction of real rows.
        eval_episodes: Episodes of each evaluation.
        lr_scheduler: Stepped after each epoch.
        dynamics_update_freq: Steps between calls of the policy's ``update_dynamics``; 0 for none.
    """

    real_buffer: Any  # ReplayBuffers; a subclass may need others
    fake_buffer: Any

    def __init__(
        self,
        policy: Any,
        eval_env: Any,
        real_buffer: ReplayBuffer,
        fake_buffer: ReplayBuffer,
        logger: Logger,
        rollout_setting: tuple[int, int, int],
        epoch: int = 1000,
        step_per_epoch: int = 1000,
        batch_size: int = 256,
        real_ratio: float = 0.05,
        eval_episodes: int = 10,
        lr_scheduler: Any = None,
        dynamics_update_freq: int = 0,
    ) -> None:
        self.policy, self.eval_env, self.logger = policy, eval_env, logger
        self.real_buffer, self.fake_buffer = real_buffer, fake_buffer
        self._rollout_freq, self._rollout_batch_size, self._rollout_length = rollout_setting
        self._dynamics_update_freq = dynamics_update_freq
        self._epoch, self._step_per_epoch = epoch, step_per_epoch
        self._batch_size, self._real_ratio = batch_size, real_ratio
        self._eval_episodes = eval_episodes
        self.lr_scheduler = lr_scheduler

    def train(self) -> dict[str, float]:
        """Runs all epochs; returns {"last_10_performance": mean normalised score × 100 of the last 10 epochs}."""
        scores: deque[float] = deque(maxlen=10)
        real_size = int(self._batch_size * self._real_ratio)
        started, num_timesteps = time.time(), 0
        for epoch in range(1, self._epoch + 1):
            self.policy.train()
            for _ in tqdm(range(self._step_per_epoch), desc=f"Epoch #{epoch}/{self._epoch}", disable=None):
                if num_timesteps % self._rollout_freq == 0:
                    self._refill_fake_buffer()
                real = self.real_buffer.sample(real_size)
                fake = self.fake_buffer.sample(self._batch_size - real_size)
                for name, value in self.policy.learn({"real": real, "fake": fake}).items():
                    self.logger.logkv_mean(name, value)
                num_timesteps += 1
                if self._dynamics_update_freq and num_timesteps % self._dynamics_update_freq == 0:
                    for name, value in self.policy.update_dynamics(self.real_buffer).items():
                        self.logger.logkv_mean(name, value)
            if self.lr_scheduler is not None:
                self.lr_scheduler.step()
            scores.append(self._log_evaluation(num_timesteps))
            torch.save(self.policy.state_dict(), os.path.join(self.logger.checkpoint_dir, "policy.pth"))
        self.logger.log(f"total time: {time.time() - started:.2f}s")
        torch.save(self.policy.state_dict(), os.path.join(self.logger.model_dir, "policy.pth"))
        self.policy.dynamics.save(self.logger.model_dir)
        return {"last_10_performance": float(np.mean(scores))}

    def _refill_fake_buffer(self) -> None:
        starts = self.real_buffer.sample(self._rollout_batch_size)["observations"].cpu().numpy()
        transitions, info = self.policy.rollout(starts, self._rollout_length)
        self.fake_buffer.add_batch(**transitions)
        self.logger.log(f"num rollout transitions: {info['num_transitions']}, reward mean: {info['reward_mean']:.4f}")

    def _log_evaluation(self, num_timesteps: int) -> float:
        returns, lengths = self._evaluate()
        score = 100 * self.eval_env.get_normalized_score(returns.mean())
        # the score is affine in the return: of a std, only the slope applies
        unit = self.eval_env.get_normalized_score(1.0) - self.eval_env.get_normalized_score(0.0)
        self.logger.logkv("eval/normalized_episode_reward", score)
        self.logger.logkv("eval/normalized_episode_reward_std", 100 * returns.std() * unit)
        self.logger.logkv("eval/episode_length", lengths.mean())
        self.logger.logkv("eval/episode_length_std", lengths.std())
        self.logger.set_timestep(num_timesteps)
        self.logger.dumpkvs(exclude=["dynamics_training_progress"])
        return score

    def _evaluate(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns and lengths, arrays [eval_episodes], of episodes with the policy's mean action."""
        self.policy.eval()
        results = []
        for _ in range(self._eval_episodes):
            obs, done, total, length = self.eval_env.reset(), False, 0.0, 0
            while not done:
                action = self.policy.select_action(obs.reshape(1, -1), deterministic=True)
                obs, reward, done, _ = self.eval_env.step(action.flatten())
                total, length = total + reward, length + 1
            results.append((total, length))
        returns, lengths = np.array(results).T
        return returns, lengths
