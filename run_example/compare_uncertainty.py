"""How well each estimator of u(s, a) tells where the dynamics model errs: the table of the README.

Trains one dynamics and one policy as stage 1 does (with the budgets of --preset), then asks every estimator about pairs
from the data, pairs with random actions and pairs with uniform states, and compares with the true dynamics distance.
"""

import sys

from doof_ext.closing import in_one_line
from doof_ext.config import parse_args


def main():
    """Prints a Markdown table."""
    config = parse_args(__doc__)

    from doof_ext import data
    from doof_ext.analysis.uncertainty import KINDS, compare, pairs_of_each_kind
    from doof_ext.record import RunRecord
    from doof_ext.replay import TensorReplayBuffer
    from doof_ext.stages.pretrain import pretrain
    from doof_ext.tasks import make_env
    from doof_ext.uncertainty import estimator_names, make_estimator

    env = make_env(config.spec, seed=config.seed, physics=config.physics)
    loaded = data.load(config.source, env.spec, config.dataset_steps, config.seed, config.download)
    offline = TensorReplayBuffer.from_dataset(loaded.dataset.transitions(), device=config.device)
    with RunRecord(config, loaded) as record, record.state.stage("pretrain", 1, config.seed, env):
        record.begin(env, [])
        pretraining = pretrain(config, env.spec, offline, env, record.logger, record.state)
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
        print(f"| {name} | {means} | {found['spearman']:.2f} |")


if __name__ == "__main__":
    sys.exit(in_one_line("compare_uncertainty.py", main))
