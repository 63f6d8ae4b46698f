"""Gradient steps of the baselines beside CORL's classes of the same methods, alternating in one process.

python benchmarks/bench_baselines.py --corl CHECKOUT --json baselines.json

CHECKOUT is a checkout of CORL, whose finetuning scripts are imported as they are; what they import for environments and
logging, which a gradient step does not need, may be missing. Hopper's sizes, batches of 256, medians of repeats.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
import types
from pathlib import Path

import numpy as np
import torch
from bench_engine import machine

from doof_ext.baselines.replay import Replay
from doof_ext.baselines.run import build_agent
from doof_ext.config import BaselineConfig, resolve
from doof_ext.data.dataset import Dataset
from doof_ext.tasks import TaskSpec

OBS_DIM, ACTION_DIM, ROWS, BATCH = 11, 3, 20_000, 256
METHODS = ("iql", "cql", "cal-ql", "spot")


def make_ours(algo):
    """A gradient step of ours, batch included."""
    config = resolve(BaselineConfig(algo=algo), {"algo"})
    ends = np.arange(ROWS) % 500 == 499
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(ROWS + 1, OBS_DIM)).astype(np.float32)
    dataset = Dataset(
        observations=observations[:-1],
        actions=rng.uniform(-1, 1, (ROWS, ACTION_DIM)).astype(np.float32),
        next_observations=observations[1:],
        rewards=rng.normal(size=ROWS).astype(np.float32),
        terminals=np.zeros(ROWS, bool),
        timeouts=ends,
    )
    bounds = (-1.0,) * ACTION_DIM, (1.0,) * ACTION_DIM
    spec = TaskSpec("hopper", None, "never", action_low=bounds[0], action_high=bounds[1])
    replay, agent = Replay(dataset, spec, 10, config.gamma), build_agent(config, spec, dataset)
    agent.begin_pretraining(1_000_000)
    return lambda: agent.learn(agent.draw(replay))


def load_corl(checkout, name):
    """A finetuning script of CORL as a module."""
    for missing in ("d4rl", "gym", "pyrallis", "wandb"):
        if missing not in sys.modules:
            stand_in = types.ModuleType(missing)
            stand_in.Env, stand_in.wrap = object, lambda: lambda function: function
            sys.modules[missing] = stand_in
    path = Path(checkout) / "algorithms" / "finetune" / f"{name}.py"
    found = importlib.util.spec_from_file_location(f"corl_{name}", path)
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # its dataclasses look themselves up
    found.loader.exec_module(module)
    return module


def make_corls(checkout, algo):
    """A gradient step of CORL's with its settings for hopper, batch included."""
    corl = load_corl(checkout, algo.replace("-", "_"))
    adam = lambda module, lr: torch.optim.Adam(module.parameters(), lr=lr)  # noqa: E731
    if algo == "iql":
        q, v = corl.TwinQ(OBS_DIM, ACTION_DIM), corl.ValueFunction(OBS_DIM)
        policy = corl.GaussianPolicy(OBS_DIM, ACTION_DIM, 1.0)
        trainer = corl.ImplicitQLearning(1.0, policy, adam(policy, 3e-4), q, adam(q, 3e-4), v, adam(v, 3e-4))
    elif algo == "spot":
        vae, actor = corl.VAE(OBS_DIM, ACTION_DIM, None, 1.0, 750), corl.Actor(OBS_DIM, ACTION_DIM, 1.0)
        critics = [corl.Critic(OBS_DIM, ACTION_DIM) for _ in range(2)]
        pairs = [part for critic in critics for part in (critic, adam(critic, 3e-4))]
        trainer = corl.SPOT(1.0, actor, adam(actor, 1e-4), *pairs, vae, adam(vae, 1e-3))
    else:
        critics = [corl.FullyConnectedQFunction(OBS_DIM, ACTION_DIM, True, 3) for _ in range(2)]
        actor = corl.TanhGaussianPolicy(OBS_DIM, ACTION_DIM, 1.0, orthogonal_init=True)
        pairs = [part for critic in critics for part in (critic, adam(critic, 3e-4))]
        settings = dict(target_entropy=-ACTION_DIM, discount=0.99, policy_lr=3e-5, qf_lr=3e-4, cql_alpha=10.0)
        of_class = corl.CalQL if algo == "cal-ql" else corl.ContinuousCQL
        trainer = of_class(*pairs, actor, adam(actor, 3e-5), **settings)
    buffer = corl.ReplayBuffer(OBS_DIM, ACTION_DIM, ROWS)
    rng = np.random.default_rng(0)
    rows = {
        "observations": rng.normal(size=(ROWS, OBS_DIM)),
        "actions": rng.uniform(-1, 1, (ROWS, ACTION_DIM)),
        "next_observations": rng.normal(size=(ROWS, OBS_DIM)),
        "rewards": rng.normal(size=ROWS),
        "terminals": np.zeros(ROWS),
        "mc_returns": rng.normal(size=ROWS),
    }
    buffer.load_d4rl_dataset({name: column.astype(np.float32) for name, column in rows.items()})
    return lambda: trainer.train(buffer.sample(BATCH))


def milliseconds(step, steps):
    """The mean time of one of ``steps`` calls."""
    started = time.perf_counter()
    for _ in range(steps):
        step()
    return 1000 * (time.perf_counter() - started) / steps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corl", metavar="CHECKOUT", required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=100, help="of a repeat; a tenth of them with CQL")
    parser.add_argument("--only", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = {}
    print(f"{args.threads} threads, torch {torch.__version__}\n{'method':8}{'CORL':>12}{'ours':>12}{'ratio':>8}")
    for algo in args.only:
        steps = max(1, args.steps // 10) if "ql" in algo and algo != "iql" else args.steps
        both = {"corl": make_corls(args.corl, algo), "ours": make_ours(algo)}
        for step in both.values():
            milliseconds(step, max(1, steps // 5))
        times = [{name: milliseconds(step, steps) for name, step in both.items()} for _ in range(args.repeats)]
        found = {name: statistics.median(time[name] for time in times) for name in both}
        results[algo] = found | {"ratio": found["corl"] / found["ours"]}
        print(f"{algo:8}{found['corl']:>9.3f} ms{found['ours']:>9.3f} ms{results[algo]['ratio']:>7.1f}x", flush=True)
    if args.json:
        about = {"machine": machine(), "threads": args.threads, "torch": torch.__version__}
        Path(args.json).write_text(json.dumps({**about, "milliseconds": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
