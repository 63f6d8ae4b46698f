"""How well each estimator of u(s, a) tells where the dynamics model errs: the table of docs/uncertainty.md.

Trains one dynamics and one policy as stage 1 does (with the budgets of --preset), then asks every estimator about pairs
from the data, pairs with random actions and pairs with uniform states, and compares with the true dynamics distance.
"""

import sys

from doof_ext.cli.exit_code import exit_code_of
from doof_ext.config import parse_args


def compare_estimators():
    """Prints a Markdown table."""
    config = parse_args(__doc__)

    from doof_ext import data
    from doof_ext.algorithm.context import run_stage
    from doof_ext.algorithm.pretrain import pretrain
    from doof_ext.evaluation.uncertainty_ranking import KINDS, compare, pairs_of_each_kind
    from doof_ext.experiment.experiment import Experiment
    from doof_ext.learning.replay_buffer import TensorReplayBuffer
    from doof_ext.pipeline import make_context
    from doof_ext.tasks import make_env
    from doof_ext.uncertainty import estimator_names, make_estimator

    env = make_env(config.spec, seed=config.seed, physics=config.physics)
    loaded = data.load(config.source, env.spec, config.dataset_steps, config.seed, config.download)
    offline = TensorReplayBuffer.from_dataset(loaded.dataset.transitions(), device=config.device)
    with Experiment(config, loaded) as experiment:
        experiment.start(env, [])
        pretraining = run_stage(pretrain, make_context(config, experiment, env), offline)
    pairs = pairs_of_each_kind(env, loaded.dataset, config.distance_samples, config.seed)
    rows = offline.sample_all()
    print(f"\n{config.task}, {loaded.source} data, {len(loaded.dataset)} transitions, preset {config.preset}\n")
    print(f"| estimator | {' | '.join(f'mean u, {kind}' for kind in KINDS)} | Spearman with distance |")
    print("|---" * (len(KINDS) + 2) + "|")
    for name in estimator_names():
        dynamics = pretraining.dynamics
        dynamics.estimator = make_estimator(name, config)
        dynamics.fit_estimator(rows)
        found = compare(dynamics, pretraining.policy, pairs)
        means = " | ".join(f"{found['mean_u'][kind]:.3g}" for kind in KINDS)
        ranked = "" if found["spearman"] is None else f"{found['spearman']:.2f}"
        print(f"| {name} | {means} | {ranked} |")


if __name__ == "__main__":
    sys.exit(exit_code_of("compare_uncertainty.py", compare_estimators))
