"""A run's policies, read from its directory: no environment, dynamics or critics."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from doof_ext import kit
from doof_ext.config import Config
from doof_ext.config.recorded import class_of, recorded_settings
from doof_ext.config.settings import IN_MODEL
from doof_ext.deploy import POLICIES
from doof_ext.deploy.numpy_policy import NumpyPolicy
from doof_ext.errors import UserError
from doof_ext.experiment.artifacts import RunFiles
from doof_ext.experiment.task_record import TaskRecord, read_task
from doof_ext.files import load_state
from doof_ext.learning.factory import build_actor
from doof_ext.learning.policy import scale_actions
from doof_ext.tasks import make_env

STAGES = {"finetuned": "finetune_policy", "pretrained": "pretrain", "exploration": "explore"}
"""The stage that leaves each policy."""


@dataclass(frozen=True)
class RunPolicy:
    """A policy's actor, and what its run knows of inputs and outputs.

    Attributes:
        files: The run directory.
        which: The policy, one of POLICIES.
        path: The file of its weights.
        config: The run's settings.
        task: The run's task.
        actor: The network, on the CPU.
    """

    files: RunFiles
    which: str
    path: str
    config: Config
    task: TaskRecord
    actor: Any

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The action bounds, two float32 arrays [A]."""
        return np.array(self.task.action_low, np.float32), np.array(self.task.action_high, np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """The layers and the bounds, as NumpyPolicy takes them."""
        head = self.actor.dist_net
        hidden = [layer for layer in self.actor.backbone.model if isinstance(layer, nn.Linear)]
        layers = {f"hidden.{i}": layer for i, layer in enumerate(hidden)} | {"mean": head.mu, "log_std": head.sigma}
        arrays = {}
        for name, layer in layers.items():
            arrays[f"{name}.weight"] = layer.weight.detach().numpy()
            arrays[f"{name}.bias"] = layer.bias.detach().numpy()
        arrays["log_std_bounds"] = np.array([head._sigma_min, head._sigma_max], np.float32)
        arrays["action_low"], arrays["action_high"] = self.bounds
        return arrays

    @torch.no_grad()
    def mean_actions(self, observations: np.ndarray) -> np.ndarray:
        """The actor's own answer in torch: observations [B, O] → mean actions [B, A], float32 arrays."""
        squashed, _ = self.actor(observations).mode()
        return scale_actions(squashed, *map(torch.from_numpy, self.bounds)).numpy()

    def data_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation [O] of D's observations; a constant one has 1.

        Raises:
            UserError: The run's scaler is missing or damaged.
        """
        scaler = kit.StandardScaler()
        try:
            scaler.load_scaler(self.files.models)
            mean, std = (np.asarray(x, np.float32).reshape(-1)[: self.task.obs_dim] for x in (scaler.mu, scaler.std))
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{self.files.models} has no whole mu.npy and std.npy ({error})") from error
        if not len(mean) == len(std) == self.task.obs_dim or not (np.isfinite(mean) & (std > 0)).all():
            raise UserError(f"{self.files.models} is damaged: its mu.npy and std.npy scale no observations")
        return mean, std


def read_policy(run: str | os.PathLike[str], which: str = "finetuned") -> RunPolicy:
    """A policy of a run.

    Args:
        run: The run directory; of a run that has not ended, those policies are there whose stage has.
        which: ``finetuned`` (π*_off), ``pretrained`` (π_off) or ``exploration`` (π_u); of several rounds, the last's.

    Raises:
        UserError: There is no such run or policy, or a file is damaged.
    """
    if which not in POLICIES:
        raise UserError(f"there is no policy {which!r}; choose {', '.join(POLICIES)}")
    files = RunFiles(os.fspath(run))
    recorded = recorded_settings(files.directory)
    if class_of(recorded) is not Config:
        raise UserError(f"{run} is a run of {recorded['algo']}: only policies of DOOF's runs can be taken out of them")
    if recorded["algo"] == IN_MODEL:
        raise UserError(f"{run}: policies of {IN_MODEL}, which is experimental, cannot be taken out of their runs")
    config = Config(**recorded)
    paths = {"finetuned": files.policy, "pretrained": files.pretrained_policy, "exploration": files.exploration_policy}
    path = paths[which]
    if not os.path.exists(path):
        kept = ", ".join(name for name in POLICIES if os.path.exists(paths[name])) or "none yet"
        raise UserError(f"{run} has no {which} policy, which the stage {STAGES[which]} leaves; it has: {kept}")
    task = _task(files, config)
    actor = build_actor(config.hidden_dims, task.obs_dim, task.action_dim)
    load_state(path, actor, prefix="actor.")
    if not all(bool(tensor.isfinite().all()) for tensor in actor.state_dict().values()):
        raise UserError(f"{path} is damaged: a weight is not finite")
    return RunPolicy(files, which, path, config, task, actor)


def load_policy(run: str | os.PathLike[str], which: str = "finetuned") -> NumpyPolicy:
    """A policy of a run, to act with: NumPy in, NumPy out, no environment needed.

    Args:
        run: The run directory.
        which: ``finetuned`` (π*_off), ``pretrained`` (π_off) or ``exploration`` (π_u); of several rounds, the last's.

    Returns:
        An object whose ``act(observation)`` takes an array [O] or [B, O] and returns the mean action, [A] or [B, A],
        within the task's bounds; ``act(observation, rng)`` samples it.

    Raises:
        UserError: There is no such run or policy, or a file is damaged.
    """
    return NumpyPolicy(read_policy(run, which).arrays())


def _task(files: RunFiles, config: Config) -> TaskRecord:
    if os.path.exists(files.task):
        return read_task(files.task)
    env = make_env(config.spec, physics=config.physics)  # an earlier version kept no record
    env.close()
    return TaskRecord.of(env.spec)
