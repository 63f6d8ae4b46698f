"""Algorithm 1: the five stages in order, and what a run leaves behind."""

import os
import shlex
import sys

import torch

from doof_ext import data, kit, run_dir
from doof_ext.analysis.distance import summarise
from doof_ext.analysis.measure import draw_pairs, measure, write_measurements
from doof_ext.analysis.world import check_world
from doof_ext.build import build_termination_fn
from doof_ext.data.dataset import concatenate, write_dataset
from doof_ext.errors import RunStoppedError, UserError
from doof_ext.files import save_tensors
from doof_ext.record import RunRecord, finished_summary, versions
from doof_ext.replay import TensorReplayBuffer
from doof_ext.run_dir import save_dynamics
from doof_ext.stages.collect import collect
from doof_ext.stages.explore import explore
from doof_ext.stages.finetune_dynamics import finetune_dynamics
from doof_ext.stages.finetune_policy import finetune_policy
from doof_ext.stages.pretrain import pretrain
from doof_ext.tasks import get_spec, make_env
from doof_ext.tasks.video import film


def run(config) -> tuple[dict, str]:
    """A whole DOOF run, or the rest of one (``config.resume``). Returns the summary (as in result/summary.json) and the
    run directory.

    Raises: UserError before anything is written; RunStoppedError when training breaks down, the environment fails or
    the disk is full; Interrupted on a signal. From the last two on the run can be resumed.
    """
    prepare(config)
    finished = finished_summary(config)
    if finished is not None:
        return finished, config.resume
    env = make_env(config.spec, seed=config.seed, physics=config.physics)
    loaded = data.load(config.source, env.spec, config.dataset_steps, config.seed, config.download)
    findings = check_world(env, build_termination_fn(env.spec), loaded.dataset)
    with RunRecord(config, loaded) as record:
        record.begin(env, findings)
        summary = _run_stages(config, env.spec, env, loaded, record)
    return summary, record.directory


def prepare(config) -> None:
    """Refuses, before any work, what could not be run here: UserError."""
    run_dir.check_logdir(config.logdir)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda, but torch sees no CUDA device here; use --device cpu")
    if config.threads:
        torch.set_num_threads(config.threads)


def _run_stages(config, spec, env, loaded, record):
    """Algorithm 1. Everything a stage needs is named in its call."""
    offline = TensorReplayBuffer.from_dataset(loaded.dataset.transitions(), device=config.device)
    with record.state.stage("pretrain", 1, config.seed, env) as figures:
        pretraining = pretrain(config, spec, offline, env, record.logger, record.state)
        figures["gradient_steps"] = pretraining.gradient_steps
        figures["dynamics_steps"] = pretraining.dynamics_steps
    return finetune(config, spec, env, loaded, offline, pretraining, record)


def finetune(config, spec, env, loaded, offline, pretraining, record) -> dict:
    """Algorithm 1 from stage 2 on, from what stage 1 gave; ends the record and returns the run's summary.

    With ``config.control`` the policy alone is trained on, in P̂ and without online data: what DOOF's gain is to be
    compared with.
    """
    logger, state = record.logger, record.state
    record.keep_pretraining()
    online, online_data, timestep = None, None, pretraining.gradient_steps
    policy, dynamics, evaluation = pretraining.policy, pretraining.dynamics, pretraining.evaluation
    save_tensors(os.path.join(logger.checkpoint_dir, "pretrained_policy.pth"), policy.state_dict())
    save_tensors(os.path.join(logger.checkpoint_dir, "pretrained_dynamics.pth"), dynamics.model.state_dict())
    evaluations = {"pretrained": evaluation}

    for round in range(1, config.rounds + 1):
        if config.control is None:
            with state.stage("explore", round, config.seed, env) as figures:
                exploration = None
                if config.exploration_ratio > 0:
                    exploration = explore(config, spec, policy, dynamics, offline, env, logger, timestep, round, state)
                    figures["gradient_steps"] = exploration.gradient_steps
                    timestep += exploration.gradient_steps
            collecting_policy = exploration.policy if exploration else policy
            evaluations["exploration"] = exploration.evaluation if exploration else evaluation
            path = os.path.join(logger.checkpoint_dir, "exploration_policy.pth")
            save_tensors(path, collecting_policy.state_dict())

            with state.stage("collect", round, config.seed, env) as figures:
                collected = collect(config, collecting_policy, env, logger, state, round)
                figures["env_steps"] = len(collected)
            online_data = concatenate(online_data, collected)
            _write_online_data(os.path.join(logger.result_dir, "online_buffer.hdf5"), online_data)
            online = TensorReplayBuffer.from_dataset(online_data.transitions(), device=config.device)

            with state.stage("finetune_dynamics", round, config.seed, env) as figures:
                dynamics, steps = finetune_dynamics(config, dynamics, offline, online, logger, state)
                figures["gradient_steps"] = steps
        save_dynamics(logger.model_dir, dynamics)

        with state.stage("finetune_policy", round, config.seed, env) as figures:
            finetuning = finetune_policy(
                config, spec, policy, dynamics, offline, online, env, logger, timestep, round, state
            )  # fmt: skip
            figures["gradient_steps"] = finetuning.gradient_steps
            timestep += finetuning.gradient_steps
        save_tensors(os.path.join(logger.model_dir, "policy.pth"), finetuning.policy.state_dict())
        policy, evaluation = finetuning.policy, finetuning.evaluation

    evaluations["finetuned"] = evaluation
    other = _other_dataset(config)
    pairs = draw_pairs(config, env, loaded.dataset, pretraining.fake_pairs, online_data, other)
    before = measure(pretraining.dynamics, pretraining.policy, pairs)
    after = measure(dynamics, policy, pairs)
    write_measurements(os.path.join(logger.result_dir, "distances.npz"), before, after)
    if config.render:
        reason = film(env, policy, os.path.join(logger.result_dir, "finetuned_policy.mp4"))
        logger.log(f"no video: {reason}" if reason else "video: result/finetuned_policy.mp4")
    summary = _summarise(config, env, loaded, state.records, evaluations, pairs, before, after)
    distances = {k: {"before": before[k]["distance"], "after": after[k]["distance"]} for k in pairs}
    record.end(summary, distances)
    return summary


def _write_online_data(path, online_data):
    try:
        write_dataset(path, online_data)
    except UserError as error:  # a full disk, which ends this run but not for ever
        raise RunStoppedError(str(error)) from error


def _other_dataset(config):
    """The dataset of ``config.distance_task``, which the distance is measured on too (Figure 5); None without one."""
    if config.distance_task is None:
        return None
    return data.load("auto", get_spec(config.distance_task), 10 * config.distance_samples, config.seed).dataset


def _summarise(config, env, loaded, stages, evaluations, pairs, before, after):
    scores = {
        name: {"mean": result.mean, "std": result.std, "episodes": len(result.returns),
               "returns": [100 * env.get_normalized_score(total) for total in result.returns]}
        for name, result in evaluations.items()
    }  # fmt: skip
    same = ("task", "seed", "preset", "algo", "uncertainty", "exploration_ratio", "penalty_coef", "exploration_coef")
    return {
        **{name: getattr(config, name) for name in same},
        "rounds": config.rounds,
        "control": config.control,
        "pretrained": config.pretrained,
        "kit": {"name": kit.NAME, "version": kit.VERSION},
        "physics": env.physics,
        "dataset": {
            "source": loaded.source, "id": loaded.id, "transitions": len(loaded.dataset),
            "sha256": loaded.dataset.sha256(),
        },
        "online_steps": sum(stage["env_steps"] for stage in stages),
        "scores": scores,
        "gain": scores["finetuned"]["mean"] - scores["pretrained"]["mean"],
        "distance": {
            kind: {"before": summarise(before[kind]["distance"]), "after": summarise(after[kind]["distance"]),
                   "pairs": len(pairs[kind]), "inexact": pairs[kind].inexact}
            for kind in pairs
        },
        "stages": stages,
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "device": config.device,
        "command": shlex.join(sys.argv),
    }  # fmt: skip
