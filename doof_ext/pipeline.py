"""Algorithm 1: the five stages in order, and what a run leaves behind."""

import dataclasses
import os
import platform
import random
import shlex
import sys
import time
import zlib
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch

from doof_ext import data, kit, run_dir, wandb_run
from doof_ext.analysis.distance import dynamics_distance, simulate_pairs, summarise, uniform_pairs
from doof_ext.analysis.world import check_world
from doof_ext.build import build_termination_fn
from doof_ext.data.dataset import concatenate, write_dataset
from doof_ext.errors import UserError
from doof_ext.replay import TensorReplayBuffer
from doof_ext.stages.collect import collect
from doof_ext.stages.explore import explore
from doof_ext.stages.finetune_dynamics import finetune_dynamics
from doof_ext.stages.finetune_policy import finetune_policy
from doof_ext.stages.pretrain import pretrain
from doof_ext.tasks import make_env


def run(config) -> tuple[dict, str]:
    """A whole DOOF run. Returns the summary (as in result/summary.json) and the run directory.

    Raises: UserError before anything is written; DivergenceError when training breaks down.
    """
    prepare(config)
    env = make_env(config.spec, seed=config.seed, physics=config.physics)
    loaded = data.load(config.source, env.spec, config.dataset_steps, config.seed, config.download)
    findings = check_world(env, build_termination_fn(env.spec), loaded.dataset)
    with RunRecord(config) as record:
        record.begin(env, loaded, findings)
        summary = _run_stages(config, env.spec, env, loaded, record.logger)
        record.end(summary)
    return summary, record.directory


def prepare(config) -> None:
    """Refuses, before any work, what could not be run here: UserError."""
    run_dir.check_logdir(config.logdir)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda, but torch sees no CUDA device here; use --device cpu")
    if config.threads:
        torch.set_num_threads(config.threads)


class RunRecord:
    """A run's directory with its logger and its W&B run, closed at the end however the run ends."""

    def __init__(self, config):
        self.config = config
        self.directory = run_dir.create_run_dir(config)
        self._wandb = wandb_run.start(config, self.directory)
        self.logger = run_dir.RunLogger(self.directory, self._wandb)

    def begin(self, env, loaded, findings):
        """Writes the settings and says what the run is on."""
        logger = self.logger
        run_dir.write_json(os.path.join(logger.record_dir, "hyper_param.json"), dataclasses.asdict(self.config))
        if self._wandb is not None:
            self._wandb.config.update({"dataset_source": loaded.source, "dataset_id": loaded.id})
        logger.log(f"data: {loaded.source.upper()} {loaded.id}, {len(loaded.dataset)} transitions{_warning(loaded)}")
        logger.log(f"physics: {env.physics}; kit: {kit.NAME} {kit.VERSION}; run directory: {self.directory}")
        for finding in findings:
            logger.log(finding)

    def end(self, summary):
        """Writes the summary: the run is complete."""
        run_dir.write_json(os.path.join(self.logger.result_dir, "summary.json"), summary)
        if self._wandb is not None:
            shown = ("dataset", "physics", "scores", "gain", "distance")
            self._wandb.summary.update({name: summary[name] for name in shown})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.logger.close()
        if self._wandb is not None:
            self._wandb.finish()


def _warning(loaded):
    return " (made here; this is not D4RL's data)" if loaded.source == "recipe" else ""


def _run_stages(config, spec, env, loaded, logger):
    """Algorithm 1. Everything a stage needs is named in its call."""
    offline = TensorReplayBuffer.from_dataset(loaded.dataset.transitions(), device=config.device)
    stages = []
    with stage_record(stages, "pretrain", 1, config.seed, env) as record:
        pretraining = pretrain(config, spec, offline, env, logger)
        record["gradient_steps"] = pretraining.gradient_steps
        record["dynamics_steps"] = pretraining.dynamics_steps
    return finetune(config, spec, env, loaded, offline, pretraining, stages, logger)


def finetune(config, spec, env, loaded, offline, pretraining, stages, logger) -> dict:
    """Algorithm 1 from stage 2 on, from what stage 1 gave; appends to ``stages`` and returns the run's summary."""
    online_data, timestep = None, pretraining.gradient_steps
    policy, dynamics, evaluation = pretraining.policy, pretraining.dynamics, pretraining.evaluation
    run_dir.save_state(os.path.join(logger.checkpoint_dir, "pretrained_policy.pth"), policy)
    run_dir.save_state(os.path.join(logger.checkpoint_dir, "pretrained_dynamics.pth"), dynamics.model)
    pairs = _distance_pairs(config, env, loaded.dataset, pretraining.fake_buffer)
    before = _distances(dynamics, pairs)

    for round in range(1, config.rounds + 1):
        with stage_record(stages, "explore", round, config.seed, env) as record:
            exploration = None
            if config.exploration_ratio > 0:
                exploration = explore(config, spec, policy, dynamics, offline, env, logger, timestep, round)
                record["gradient_steps"] = exploration.gradient_steps
                timestep += exploration.gradient_steps
        collecting_policy = exploration.policy if exploration else policy
        run_dir.save_state(os.path.join(logger.checkpoint_dir, "exploration_policy.pth"), collecting_policy)

        with stage_record(stages, "collect", round, config.seed, env) as record:
            collected = collect(config, collecting_policy, env, logger)
            record["env_steps"] = len(collected)
        online_data = concatenate(online_data, collected)
        write_dataset(os.path.join(logger.result_dir, "online_buffer.hdf5"), online_data)
        online = TensorReplayBuffer.from_dataset(online_data.transitions(), device=config.device)

        with stage_record(stages, "finetune_dynamics", round, config.seed, env) as record:
            dynamics, steps = finetune_dynamics(config, dynamics, offline, online, logger)
            record["gradient_steps"] = steps
        run_dir.save_dynamics(logger.model_dir, dynamics)

        with stage_record(stages, "finetune_policy", round, config.seed, env) as record:
            finetuning = finetune_policy(
                config, spec, policy, dynamics, offline, online, env, logger, timestep, round
            )  # fmt: skip
            record["gradient_steps"] = finetuning.gradient_steps
            timestep += finetuning.gradient_steps
        run_dir.save_state(os.path.join(logger.model_dir, "policy.pth"), finetuning.policy)
        collecting = exploration.evaluation if exploration else evaluation
        policy, evaluation = finetuning.policy, finetuning.evaluation

    evaluations = {"pretrained": pretraining.evaluation, "exploration": collecting, "finetuned": evaluation}
    return _summarise(config, env, loaded, stages, evaluations, before, _distances(dynamics, pairs))


@contextmanager
def stage_record(stages, name, round, seed, env):
    """Seeds all generators and the environment, so that a stage depends on its inputs alone; times it."""
    seeds = np.random.SeedSequence([seed, round, zlib.crc32(name.encode())]).generate_state(4)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])
    torch.manual_seed(int(seeds[2]))
    env.seed(int(seeds[3]))
    record = {"name": name, "round": round, "seconds": 0.0, "gradient_steps": 0, "env_steps": 0}
    started = time.time()
    yield record
    record["seconds"] = float(f"{time.time() - started:.1f}")
    stages.append(record)


def _distance_pairs(config, env, dataset, fake_buffer):
    """The pairs that P̂ and P̂* are compared on: from pretraining's fake buffer, and uniform ones."""
    fake = fake_buffer.sample(config.distance_samples)
    rng = np.random.default_rng(config.seed)
    return {
        "fake_buffer": simulate_pairs(env, fake["observations"].cpu(), fake["actions"].cpu(), config.device),
        "uniform": uniform_pairs(env, dataset.observations, config.distance_samples, rng, config.device),
    }


def _distances(dynamics, pairs):
    return {name: summarise(dynamics_distance(dynamics, p)) for name, p in pairs.items()}


def _summarise(config, env, loaded, stages, evaluations, before, after):
    scores = {
        name: {"mean": result.mean, "std": result.std, "episodes": len(result.returns),
               "returns": [100 * env.get_normalized_score(total) for total in result.returns]}
        for name, result in evaluations.items()
    }  # fmt: skip
    same = ("task", "seed", "preset", "algo", "uncertainty", "exploration_ratio", "penalty_coef", "exploration_coef")
    return {
        **{name: getattr(config, name) for name in same},
        "rounds": config.rounds,
        "kit": {"name": kit.NAME, "version": kit.VERSION},
        "physics": env.physics,
        "dataset": {
            "source": loaded.source, "id": loaded.id, "transitions": len(loaded.dataset),
            "sha256": loaded.dataset.sha256(),
        },
        "online_steps": sum(stage["env_steps"] for stage in stages),
        "scores": scores,
        "gain": scores["finetuned"]["mean"] - scores["pretrained"]["mean"],
        "distance": {name: {"before": before[name], "after": after[name]} for name in before},
        "stages": stages,
        "versions": _versions(),
        "threads": torch.get_num_threads(),
        "device": config.device,
        "command": shlex.join(sys.argv),
    }  # fmt: skip


def _versions():
    found = {"python": platform.python_version()}
    for package in ("doof_ext", "torch", "numpy", "gymnasium", "mujoco", "h5py", "wandb"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
