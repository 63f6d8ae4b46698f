"""What checkpoints cost: their part of a training epoch's time at paper sizes.

python benchmarks/bench_checkpoint.py             # hopper, a million transitions, a full fake buffer; minutes
python benchmarks/bench_checkpoint.py --small     # to see that it works
"""

import argparse
import tempfile
import time

import numpy as np
import torch
from bench_engine import SPEC, Silent, calm, load_behaviour, transitions

from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.checkpointing.training_state import TrainingState
from doof_ext.config import Config, resolve
from doof_ext.learning.factory import build_dynamics, build_fake_buffer, build_policy, rollout_setting
from doof_ext.learning.policy_trainer import DOOFTrainer
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.tasks import make_env


class TimedStore(CheckpointStore):
    """Notes how long each checkpoint takes."""

    def __init__(self, folder):
        super().__init__(folder)
        self.seconds = []

    def save(self, tree):
        started = time.perf_counter()
        super().save(tree)
        self.seconds.append(time.perf_counter() - started)


def main():
    """Prints seconds of an epoch and of a checkpoint, and the checkpoint's part of all time between two of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    budget = dict(step_per_epoch=20, rollout_freq=20, rollout_batch_size=100) if args.small else {}
    config = resolve(Config(task=SPEC.name, **budget), set(budget))
    data = transitions(2_000 if args.small else 1_000_000, np.random.default_rng(0))
    dynamics = build_dynamics(config, SPEC)
    calm(dynamics.model)
    dynamics.scaler.fit(np.concatenate([data["observations"], data["actions"]], axis=1))
    policy = build_policy(config, SPEC, dynamics, -config.penalty_coef)
    load_behaviour(policy.actor)
    real, fake = TensorReplayBuffer.from_dataset(data), build_fake_buffer(config, SPEC)
    while len(fake) < fake._max_size:
        fake.add_batch(*(data[n] for n in ("observations", "next_observations", "actions", "rewards", "terminals")))
    epochs, ends = config.checkpoint_every, []
    with tempfile.TemporaryDirectory() as folder:
        store = TimedStore(folder)
        trainer = DOOFTrainer(
            policy,
            make_env(SPEC),
            real,
            fake,
            Silent(),
            rollout_setting(config),
            epoch=epochs,
            step_per_epoch=config.step_per_epoch,
            lr_scheduler=policy.lr_schedule(epochs),
            on_epoch=lambda *_: ends.append(time.perf_counter()),
            state=TrainingState(store, config.checkpoint_every),
        )
        started = time.perf_counter()
        trainer.train()
    epoch = (ends[-1] - started) / epochs
    checkpoint = max(store.seconds)  # the last one has no fake buffer any more
    part = 100 * checkpoint / (checkpoint + config.checkpoint_every * epoch)
    every = f"every {config.checkpoint_every} epochs, that is {part:.1f} % of the time"
    print(f"{args.threads} threads: epoch {epoch:.2f} s, checkpoint {checkpoint:.2f} s; {every}")


if __name__ == "__main__":
    main()
