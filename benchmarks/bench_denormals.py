"""What numbers below 1e-38 cost, and what a run that counts them as 0 saves: medians of repeats, in one process.

python benchmarks/bench_denormals.py --threads 1 --json denormals.json

Adam's mean of a dead unit's gradients falls to the least float32 and stays there, for 0.9 of that rounds to itself; a
weight that decay alone moves ends there, too. The parts of such numbers are those that a run of hopper-medium with the
lite preset had in epoch 25 of its pretraining, after 100 epochs of the dynamics.
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch
from bench_engine import SPEC, calm, machine, transitions

from doof_ext.config import Config, resolve
from doof_ext.learning.factory import build_dynamics, build_policy
from doof_ext.learning.replay_buffer import TensorReplayBuffer

LEAST = 1e-45
OF_LAST_LAYER = 0.017  # of the dynamics' weights there
OF_MOMENTS = {"actor_optim": 0.082, "_critics_optim": 0.147}


def make_parts(rows, rng):
    """(policy, buffer) with as many such numbers as that run had."""
    torch.manual_seed(0)
    data = transitions(rows, rng)
    config = resolve(Config(task=SPEC.name, preset="lite"), {"task", "preset"})
    dynamics = build_dynamics(config, SPEC)
    calm(dynamics.model)
    dynamics.scaler.fit(np.concatenate([data["observations"], data["actions"]], axis=1))
    policy = build_policy(config, SPEC, dynamics, uncertainty_coef=-5.0)
    buffer = TensorReplayBuffer.from_dataset(data)
    policy.learn(buffer.sample(config.batch_size))  # so that there are moments
    _strew(dynamics.model.output_layer.weight.data, OF_LAST_LAYER)
    for name, part in OF_MOMENTS.items():
        for state in getattr(policy, name).state.values():
            _strew(state["exp_avg"], part)
    return policy, buffer


def _strew(tensor, part):
    """Makes a part of a tensor's numbers the least there is."""
    tensor[torch.rand_like(tensor) < part] = LEAST


def measure(flush, repeats, starts, rng):
    """Seconds of a SAC step and of a rollout of length 5, with such numbers counted as 0 or not."""
    torch.set_flush_denormal(flush)
    policy, buffer = make_parts(20_000, rng)
    first = buffer.sample(starts)["observations"]
    moments = [state for name in OF_MOMENTS for state in getattr(policy, name).state.values()]
    times = {"sac_step": [], "rollout": []}
    for _ in range(repeats):
        for name, work, count in (
            ("sac_step", lambda: policy.learn(buffer.sample(256)), 20),
            ("rollout", lambda: policy.rollout(first, 5), 1),
        ):
            started = time.perf_counter()
            for _ in range(count):
                work()
            times[name].append((time.perf_counter() - started) / count)
    left = sum(int(((state["exp_avg"] != 0) & (state["exp_avg"].abs() < 1e-38)).sum()) for state in moments)
    return {name: statistics.median(found) for name, found in times.items()} | {"denormal_moments": left}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--starts", type=int, default=10_000, help="start states of a rollout")
    parser.add_argument("--json", help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    kept, flushed = (measure(flush, args.repeats, args.starts, np.random.default_rng(0)) for flush in (False, True))
    for name in ("sac_step", "rollout"):
        ratio = kept[name] / flushed[name]
        print(f"{name}: {1e3 * kept[name]:.2f} ms kept, {1e3 * flushed[name]:.2f} ms counted as 0: {ratio:.2f} x")
    if args.json:
        figures = {"kept": kept, "flushed": flushed, "threads": args.threads, "machine": machine()}
        with open(args.json, "w", encoding="utf-8") as file:
            file.write(json.dumps(figures | {"torch": torch.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    main()
