"""The kit's classes and ours at the same work, alternating in one process with the same threads: medians of repeats.

python benchmarks/bench_engine.py --json engine.json         # paper sizes, hopper; minutes
python benchmarks/bench_engine.py --small                    # to see that it works

`DOOF_KIT` says which kit. The bound is the time of the work's matrix products alone, measured in the same run.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import platform
import tempfile
import time
import types

import h5py
import numpy as np
import torch
from bench_load import peak_memory, write

from doof_ext import kit
from doof_ext.config import Config, resolve
from doof_ext.data.behaviour import Behaviour
from doof_ext.data.dataset import read_dataset
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.factory import build_fake_buffer, build_policy
from doof_ext.learning.policy_trainer import DOOFTrainer
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.tasks import get_spec, make_env

SPEC = get_spec("hopper-medium-v2")
HIDDEN, MEMBERS, LAYERS, BATCH = 256, 7, (200, 200, 200, 200), 256


class Silent:
    """A logger that keeps nothing, for either trainer."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None

    checkpoint_dir = model_dir = tempfile.mkdtemp()


def transitions(count, rng):
    """Random transitions of hopper's sizes that no termination rule ends, by the kit's names."""
    obs = rng.normal(size=(count, SPEC.obs_dim)).astype(np.float32) * 0.05
    obs[:, 0] += 1.25
    return {
        "observations": obs,
        "actions": rng.uniform(-1, 1, (count, SPEC.action_dim)).astype(np.float32),
        "next_observations": obs + rng.normal(size=obs.shape).astype(np.float32) * 0.01,
        "rewards": rng.normal(size=(count, 1)).astype(np.float32),
        "terminals": np.zeros((count, 1), np.float32),
    }


def build(config, data):
    """(the kit's, ours): policy, real buffer, fake buffer, dynamics each, with the same weights."""
    sides = []
    for ours in (False, True):
        torch.manual_seed(0)
        model = kit.EnsembleDynamicsModel(
            SPEC.obs_dim, SPEC.action_dim, LAYERS, MEMBERS, 5, weight_decays=config.dynamics_weight_decay, device="cpu"
        )
        calm(model)
        scaler = kit.StandardScaler()
        scaler.fit(np.concatenate([data["observations"], data["actions"]], axis=1))
        optim = torch.optim.Adam(model.parameters(), lr=1e-3, **({"fused": True} if ours else {}))
        dynamics_class = DOOFDynamics if ours else kit.EnsembleDynamics
        rule = kit.get_termination_fn("hopper-medium-v2")
        dynamics = dynamics_class(model, optim, scaler, rule, penalty_coef=config.penalty_coef)
        capacity = config.rollout_batch_size * config.rollout_length * config.model_retain_epochs
        if ours:
            policy = build_policy(config, SPEC, dynamics, -config.penalty_coef)
            real, fake = TensorReplayBuffer.from_dataset(data), build_fake_buffer(config, SPEC)
        else:
            policy = kits_policy(config, dynamics)
            sizes = ((SPEC.obs_dim,), np.float32, SPEC.action_dim, np.float32)
            real, fake = kit.ReplayBuffer(len(data["rewards"]), *sizes), kit.ReplayBuffer(capacity, *sizes)
            real.load_dataset(data)
        load_behaviour(policy.actor)
        sides.append(types.SimpleNamespace(policy=policy, real=real, fake=fake, dynamics=dynamics))
    return sides


@torch.no_grad()
def calm(model):
    """Predicts little change with little noise, so that rollouts keep all their rows, as those of a good model do."""
    model.output_layer.weight.mul_(0.01)
    model.output_layer.bias[..., SPEC.obs_dim + 1 :] = -8.0


@torch.no_grad()
def load_behaviour(actor):
    """hopper-medium's behaviour as the actor, so that evaluation episodes have a usual length."""
    (behaviour,) = Behaviour.shipped("hopper-medium")
    layers = [module for module in actor.modules() if isinstance(module, torch.nn.Linear)]
    shipped = [*behaviour._hidden, behaviour._mean, behaviour._log_std]
    for layer, (weight, bias) in zip(layers, shipped, strict=True):
        layer.weight.copy_(torch.as_tensor(weight))
        layer.bias.copy_(torch.as_tensor(bias))


def kits_policy(config, dynamics):
    """The policy of the kit's run_mopo.py."""
    actor = kit.ActorProb(
        backbone := kit.MLP(SPEC.obs_dim, [HIDDEN, HIDDEN]),
        kit.TanhDiagGaussian(backbone.output_dim, SPEC.action_dim, unbounded=True, conditioned_sigma=True),
        "cpu",
    )
    critics = [kit.Critic(kit.MLP(SPEC.obs_dim + SPEC.action_dim, [HIDDEN, HIDDEN]), "cpu") for _ in range(2)]
    rates = (config.actor_lr, config.critic_lr, config.critic_lr)
    optims = [torch.optim.Adam(net.parameters(), lr=lr) for net, lr in zip((actor, *critics), rates, strict=True)]
    log_alpha = torch.zeros(1, requires_grad=True)
    alpha = (-float(SPEC.action_dim), log_alpha, torch.optim.Adam([log_alpha], lr=config.alpha_lr))
    return kit.MOPOPolicy(dynamics, actor, *critics, *optims, alpha=alpha)


def medians(functions, repeats):
    """Median seconds of each function, called in turn; each is called once before."""
    for function in functions:
        function()
    seconds = [[] for _ in functions]
    for _ in range(repeats):
        for times, function in zip(seconds, functions, strict=True):
            started = time.perf_counter()
            function()
            times.append(time.perf_counter() - started)
    return [float(np.median(times)) for times in seconds]


def products(shapes):
    """A function that does the matrix products of shapes (how many at once, rows, inner, columns), and no more."""
    operands = [(torch.randn(b, m, k), torch.randn(b, k, n), torch.empty(b, m, n)) for b, m, k, n in shapes]

    def run():
        for left, right, out in operands:
            torch.bmm(left, right, out=out)

    return run


def network(rows, sizes, members=1):
    """Products of a forward pass."""
    return [(members, rows, a, b) for a, b in itertools.pairwise(sizes)]


def backward(rows, sizes, members=1, weights=True, to_input=False):
    """Products of a backward pass: gradients of weights, of hidden layers and, if asked, of the input."""
    pairs = list(itertools.pairwise(sizes))
    of_weights = [(members, a, rows, b) for a, b in pairs] if weights else []
    return of_weights + [(members, rows, b, a) for a, b in pairs[0 if to_input else 1 :]]


ACTOR = (SPEC.obs_dim, HIDDEN, HIDDEN, 2 * SPEC.action_dim)
CRITIC = (SPEC.obs_dim + SPEC.action_dim, HIDDEN, HIDDEN, 1)
MODEL = (SPEC.obs_dim + SPEC.action_dim, *LAYERS, 2 * (SPEC.obs_dim + 1))


def sac_products():
    """Target (actor, two critics), critics' step, actor's step through the critics."""
    return products(
        network(BATCH, ACTOR)
        + network(BATCH, CRITIC, 2) * 2
        + backward(BATCH, CRITIC, 2)
        + network(BATCH, ACTOR)
        + network(BATCH, CRITIC, 2)
        + backward(BATCH, CRITIC, 2, weights=False, to_input=True)
        + backward(BATCH, ACTOR)
    )


def bench_sac(kits, ours, args):
    def run(side):
        side.policy.learn({"real": side.real.sample(12), "fake": side.real.sample(BATCH - 12)})

    repeated = [lambda side=side: [run(side) for _ in range(args.steps)] for side in (kits, ours)]
    bound = sac_products()
    times = medians([*repeated, lambda: [bound() for _ in range(args.steps)]], args.repeats)
    return [value / args.steps for value in times]


def bench_rollout(kits, ours, args):
    starts = kits.real.sample(args.starts)["observations"]
    block = products((network(1000, ACTOR) + network(1000, MODEL, MEMBERS)) * 5)
    functions = [
        lambda: kits.policy.rollout(starts.numpy(), 5),
        lambda: ours.policy.rollout(starts, 5),
        lambda: [block() for _ in range(args.starts // 1000)],
    ]
    return medians(functions, max(1, args.repeats // 2))


def bench_dynamics(kits, ours, args):
    rng = np.random.default_rng(0)
    width, out = SPEC.obs_dim + SPEC.action_dim, SPEC.obs_dim + 1
    inputs = rng.normal(size=(MEMBERS, BATCH * args.steps, width)).astype(np.float32)
    targets = rng.normal(size=(MEMBERS, BATCH * args.steps, out)).astype(np.float32)
    tensors = torch.as_tensor(inputs).split(BATCH, 1), torch.as_tensor(targets).split(BATCH, 1)

    def train_ours():
        for x, y in zip(*tensors, strict=True):
            ours.dynamics.training_step(x, y, 0.01)

    bound = products(network(BATCH, MODEL, MEMBERS) + backward(BATCH, MODEL, MEMBERS))
    functions = [
        lambda: kits.dynamics.learn(inputs, targets, BATCH, 0.01),
        train_ours,
        lambda: [bound() for _ in range(args.steps)],
    ]
    return [value / args.steps for value in medians(functions, args.repeats)]


def bench_sample(kits, ours, args):
    functions = [lambda side=side: [side.real.sample(BATCH) for _ in range(100)] for side in (kits, ours)]
    return [value / 100 for value in medians(functions, args.repeats)] + [None]


def bench_load(kits, ours, args):
    """From the file to the buffer: as d4rl's get_dataset and the kit do it, and as we do."""
    if kit.NAME == "offlinerlkit":
        from offlinerlkit.utils.load_dataset import qlearning_dataset
    else:
        qlearning_dataset = kit.qlearning_dataset

    class Env:
        _max_episode_steps = 1000

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "data.hdf5")
        write(path, SPEC, args.rows)

        def load_kits():
            with h5py.File(path) as file:
                names = []
                file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
                columns = {name: file[name][()] for name in names}
            data = qlearning_dataset(Env, columns)
            sizes = ((SPEC.obs_dim,), np.float32, SPEC.action_dim, np.float32)
            kit.ReplayBuffer(len(data["rewards"]), *sizes).load_dataset(data)

        def load_ours():
            TensorReplayBuffer.from_dataset(read_dataset(path, SPEC).transitions())

        return [*medians([load_kits, load_ours], max(1, args.repeats // 4)), None]


def bench_epoch(kits, ours, args):
    """One pretraining epoch: 1 000 steps, 50 000 rollouts of 5, ten episodes of evaluation."""
    setting = (args.epoch_steps, args.starts, 5)
    env = make_env(SPEC, seed=0)

    def train(trainer_class, side):
        actor, env_seed = {name: value.clone() for name, value in side.policy.actor.state_dict().items()}, 0
        env.seed(env_seed)
        trainer = trainer_class(
            side.policy,
            env,
            side.real,
            side.fake,
            Silent(),
            setting,
            epoch=1,
            step_per_epoch=args.epoch_steps,
            batch_size=BATCH,
            real_ratio=0.05,
            eval_episodes=args.episodes,
        )
        with contextlib.redirect_stderr(io.StringIO()):  # the kit's bar
            trainer.train()
        side.policy.actor.load_state_dict(actor)  # every evaluation is of nearly the same policy

    functions = [lambda: train(kit.MBPolicyTrainer, kits), lambda: train(DOOFTrainer, ours)]
    return [*medians(functions, max(1, args.repeats // 4)), None]


WORKS = {
    "sac_step": bench_sac,
    "rollout": bench_rollout,
    "epoch": bench_epoch,
    "dynamics_step": bench_dynamics,
    "buffer_sample": bench_sample,
    "load_1e6": bench_load,
}


def main():
    """Prints the table; writes the JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small sizes and few repeats")
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--only", nargs="*", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    sizes = dict(steps=30, starts=50_000, rows=1_000_000, epoch_steps=1000, episodes=10)
    if args.small:
        sizes, args.repeats = dict(steps=2, starts=1000, rows=5_000, epoch_steps=5, episodes=1), 1
    vars(args).update(sizes)
    if args.threads:
        torch.set_num_threads(args.threads)
    config = resolve(Config(task=SPEC.name, rollout_batch_size=args.starts), {"task", "rollout_batch_size"})
    kits, ours = build(config, transitions(min(args.rows, 100_000), np.random.default_rng(0)))
    rows = []
    print(f"kit: {kit.NAME}, {torch.get_num_threads()} threads, torch {torch.__version__}, {_machine()}")
    print(f"{'work':<14} {'kit':>12} {'ours':>12} {'ratio':>7} {'products alone':>15}")
    for work in args.only:
        theirs, mine, bound = WORKS[work](kits, ours, args)
        rows.append({"work": work, "kit": theirs, "ours": mine, "ratio": theirs / mine, "bound": bound})
        shown = "" if bound is None else f"{1e3 * bound:12.3f} ms"
        print(f"{work:<14} {1e3 * theirs:9.3f} ms {1e3 * mine:9.3f} ms {theirs / mine:6.1f}x {shown:>15}", flush=True)
    report = {
        "kit": kit.NAME,
        "machine": _machine(),
        "threads": torch.get_num_threads(),
        "peak_memory_mib": peak_memory() / 2**20,
        "rows": rows,
    }
    if args.json:
        with open(args.json, "w") as file:
            file.write(json.dumps(report, indent=2) + "\n")


def _machine():
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        if names:
            return f"{names[0]}, {len(names)} cores"
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
