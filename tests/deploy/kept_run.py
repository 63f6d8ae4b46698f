"""Run directories whose policies are known: kept by the package's own writers, without a training."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from doof_ext.experiment.artifacts import RunFiles
from doof_ext.experiment.task_record import TaskRecord, write_task
from doof_ext.files import save_tensors, write_json
from doof_ext.learning.factory import build_dynamics, build_policy
from doof_ext.tasks import TaskSpec

LEVER = TaskSpec(
    "lever",  # no environment and no other process knows it
    "Lever-v0",
    "never",
    obs_dim=4,
    action_dim=2,
    action_low=(-0.30000001192092896, 1.0),
    action_high=(1.7000000476837158, 5.0),
    observation_names=("cos(angle)", "sin(angle)", "angular velocity [rad/s]", "load [kg]"),
    action_names=("torque [N m]", "valve [bar]"),
)
HOPPER = TaskSpec("hopper-medium-v2", "Hopper-v4", "never", obs_dim=11, action_dim=3)


def keep_run(directory, config, spec):
    """A run directory with three random policies; returns it, and the policies by name."""
    files = RunFiles(str(directory))
    for name in ("record", "checkpoint", "model"):
        (directory / name).mkdir(parents=True)
    write_json(files.settings, dataclasses.asdict(config) | {"task": spec.name})
    write_task(files.task, TaskRecord.of(spec))
    dynamics = build_dynamics(config, spec)
    rng = np.random.default_rng(0)
    dynamics.scaler.fit(rng.normal(2.0, 3.0, (500, spec.obs_dim + spec.action_dim)).astype(np.float32))
    dynamics.scaler.save_scaler(files.models)
    paths = {"finetuned": files.policy, "pretrained": files.pretrained_policy, "exploration": files.exploration_policy}
    policies = {name: build_policy(config, spec, dynamics, uncertainty_coef=0.0) for name in paths}
    for name, policy in policies.items():
        with torch.no_grad():
            policy.actor.dist_net.sigma.bias.add_(1.0)  # some deviations beyond their bounds
            policy.actor.dist_net.sigma.weight.mul_(8.0)
        save_tensors(paths[name], policy.state_dict())
    return SimpleNamespace(directory=Path(directory), policies=policies, spec=spec)


def observations_of(run, count=1000):
    """Observations [count, O] of the scale of the run's data."""
    return np.random.default_rng(1).normal(2.0, 3.0, (count, run.spec.obs_dim)).astype(np.float32)
