"""The kit's classes and ours at the same work, alternating in one process with the same threads: medians of repeats.

python benchmarks/bench_engine.py --json engine.json         # paper sizes, hopper; minutes
python benchmarks/bench_engine.py --small                    # to see that it works

`DOOF_KIT` says which kit. The bound is the time of the work's matrix products alone, measured in the same run at the
same precision. The last table has the parts of our epoch, with a checkpoint every fifth.
"""

import argparse
import contextlib
import copy
import io
import itertools
import json
import os
import platform
import tempfile
import time
import types
import unittest.mock

import h5py
import numpy as np
import torch
from bench_load import peak_memory, write

from doof_ext import kit
from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.checkpointing.training_state import TrainingState
from doof_ext.config import Config, resolve
from doof_ext.data.behaviour import Behaviour
from doof_ext.data.dataset import read_dataset
from doof_ext.learning import policy_trainer
from doof_ext.learning.actor_critic import MeanLosses
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.factory import build_fake_buffer, build_policy
from doof_ext.learning.policy_trainer import DOOFTrainer
from doof_ext.learning.replay_buffer import Mixture, TensorReplayBuffer
from doof_ext.tasks import get_spec, make_env
from doof_ext.uncertainty import make_estimator

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
            SPEC.obs_dim,
            SPEC.action_dim,
            LAYERS,
            MEMBERS,
            5,
            weight_decays=config.dynamics_weight_decay,
            device=config.device,
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
            real, fake = TensorReplayBuffer.from_dataset(data, config.device), build_fake_buffer(config, SPEC)
        else:
            policy = kits_policy(config, dynamics)
            sizes = ((SPEC.obs_dim,), np.float32, SPEC.action_dim, np.float32)
            counts = (len(data["rewards"]), capacity)
            real, fake = (kit.ReplayBuffer(count, *sizes, device=config.device) for count in counts)
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
    """The policy of the kit's run_mopo.py, or of its run_mobile.py."""
    actor = kit.ActorProb(
        backbone := kit.MLP(SPEC.obs_dim, [HIDDEN, HIDDEN]),
        kit.TanhDiagGaussian(backbone.output_dim, SPEC.action_dim, unbounded=True, conditioned_sigma=True),
        config.device,
    )
    critics = [kit.Critic(kit.MLP(SPEC.obs_dim + SPEC.action_dim, [HIDDEN, HIDDEN]), config.device) for _ in range(2)]
    actor_optim = torch.optim.Adam(actor.parameters(), lr=config.actor_lr)
    if config.algo == "mobile":
        ensemble = torch.nn.ModuleList(critics)
        optims = actor_optim, torch.optim.Adam(ensemble.parameters(), lr=config.critic_lr)
        settings = dict(alpha=config.alpha, num_samples=config.num_samples, deterministic_backup=True)
        return kit.MOBILEPolicy(dynamics, actor, ensemble, *optims, penalty_coef=config.penalty_coef, **settings)
    optims = [actor_optim, *(torch.optim.Adam(net.parameters(), lr=config.critic_lr) for net in critics)]
    log_alpha = torch.zeros(1, requires_grad=True, device=config.device)
    alpha = (-float(SPEC.action_dim), log_alpha, torch.optim.Adam([log_alpha], lr=config.alpha_lr))
    return kit.MOPOPolicy(dynamics, actor, *critics, *optims, alpha=alpha)


def seconds_of(function):
    """Seconds of one call, to the end of what it started on a GPU."""
    started = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def medians(functions, repeats):
    """Median seconds of each function, called in turn; each is called once before."""
    for function in functions:
        function()
    rounds = [[seconds_of(function) for function in functions] for _ in range(repeats)]
    return np.median(rounds, axis=0).tolist()


def products(shapes, device):
    """A function that does the matrix products of shapes (how many at once, rows, inner, columns), and no more."""
    sizes = [((b, m, k), (b, k, n), (b, m, n)) for b, m, k, n in shapes]
    operands = [[torch.randn(size, device=device) for size in triple] for triple in sizes]

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


SAC_PRODUCTS = (  # target (actor, two critics), critics' step, actor's step through the critics
    network(BATCH, ACTOR)
    + network(BATCH, CRITIC, 2) * 2
    + backward(BATCH, CRITIC, 2)
    + network(BATCH, ACTOR)
    + network(BATCH, CRITIC, 2)
    + backward(BATCH, CRITIC, 2, weights=False, to_input=True)
    + backward(BATCH, ACTOR)
)
MODEL_PRODUCTS = network(BATCH, MODEL, MEMBERS) + backward(BATCH, MODEL, MEMBERS)


def bench_sac(kits, ours, args):
    """A step of the trainer: the batch, what is learned from it, the losses' means."""
    batches, losses = Mixture([(ours.real, 12), (ours.real, BATCH - 12)]), MeanLosses(args.device)

    def train_kits():
        kits.policy.learn({"real": kits.real.sample(12), "fake": kits.real.sample(BATCH - 12)})

    def train_ours():
        losses.add(ours.policy.learn(batches.sample_split(12)))

    functions = [train_kits, train_ours, products(SAC_PRODUCTS, args.device)]
    repeated = [lambda function=function: [function() for _ in range(args.steps)] for function in functions]
    return [value / args.steps for value in medians(repeated, args.repeats)]


def bench_mobile(kits, ours, args):
    """A step of MOBILE on the same dynamics: ten next states of each of five elites, and their values, for each row."""
    settings = dict(task=SPEC.name, algo="mobile", device=args.device)
    config = resolve(Config(**settings), set(settings))
    dynamics = copy.copy(ours.dynamics)
    dynamics.estimator = make_estimator("mobile", config)
    policies = kits_policy(config, kits.dynamics), build_policy(config, SPEC, dynamics, -config.penalty_coef)
    real, fake = ours.real.sample(12), ours.real.sample(BATCH - 12)
    valued = config.num_samples * config.n_elites * BATCH
    inconsistency = network(BATCH, MODEL, MEMBERS) + network(valued, ACTOR) + network(valued, CRITIC, 2)
    functions = [lambda policy=policy: policy.learn({"real": real, "fake": fake}) for policy in policies]
    return medians([*functions, products([*SAC_PRODUCTS, *inconsistency], args.device)], args.repeats)


def bench_rollout(kits, ours, args):
    starts = kits.real.sample(args.starts)["observations"]
    block = products((network(1000, ACTOR) + network(1000, MODEL, MEMBERS)) * 5, args.device)
    functions = [
        lambda: kits.policy.rollout(starts.cpu().numpy(), 5),
        lambda: ours.policy.rollout(starts, 5),
        lambda: [block() for _ in range(args.starts // 1000)],
    ]
    return medians(functions, max(1, args.repeats // 2))


def bench_dynamics(kits, ours, args):
    rng = np.random.default_rng(0)
    width, out = SPEC.obs_dim + SPEC.action_dim, SPEC.obs_dim + 1
    inputs = rng.normal(size=(MEMBERS, BATCH * args.steps, width)).astype(np.float32)
    targets = rng.normal(size=(MEMBERS, BATCH * args.steps, out)).astype(np.float32)
    tensors = [torch.as_tensor(array, device=args.device).split(BATCH, 1) for array in (inputs, targets)]

    def train_ours():
        for x, y in zip(*tensors, strict=True):
            ours.dynamics.training_step(x, y, 0.01)

    bound = products(MODEL_PRODUCTS, args.device)
    functions = [
        lambda: kits.dynamics.learn(inputs, targets, BATCH, 0.01),
        train_ours,
        lambda: [bound() for _ in range(args.steps)],
    ]
    return [value / args.steps for value in medians(functions, args.repeats)]


def bench_dynamics_epoch(kits, ours, args):
    """The dynamics' training on a million rows, one epoch of it, from arrays to elites; once, for its length."""
    data, steps = transitions(args.rows, np.random.default_rng(0)), []
    theirs = seconds_of(lambda: kits.dynamics.train(dict(data), Silent(), max_epochs=1))
    mine = seconds_of(lambda: steps.append(ours.dynamics.train(data, Silent(), max_epochs=1)))
    bound = products(MODEL_PRODUCTS, args.device)
    return (
        theirs,
        mine,
        steps[0] * medians([lambda: [bound() for _ in range(args.steps)]], args.repeats)[0] / args.steps,
    )


def bench_finetune_dynamics(kits, ours, args):
    """One epoch of stage 4 on a million rows and 10 000 online ones, from arrays to elites; the kit has none."""
    offline, online = (transitions(count, np.random.default_rng(0)) for count in (args.rows, args.rows // 100))
    bound = products(MODEL_PRODUCTS, args.device)

    def finetune():
        ours.dynamics.finetune(offline, online, Silent(), max_epochs=1, steps_per_epoch=args.epoch_steps)

    functions = [finetune, lambda: [bound() for _ in range(args.epoch_steps)]]
    return None, *medians(functions, max(1, args.repeats // 4))


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
    "mobile_step": bench_mobile,
    "dynamics_step": bench_dynamics,
    "buffer_sample": bench_sample,
    "load_1e6": bench_load,
    "dynamics_epoch": bench_dynamics_epoch,
    "finetune_dynamics": bench_finetune_dynamics,
}


def shares(config, data, args):
    """Seconds of the parts of our pretraining epoch, by name: ten episodes of hopper-medium's behaviour, which does not
    learn here, and a checkpoint with a full fake buffer, a fifth of which counts."""
    parts = dict.fromkeys(("sac", "rollout", "evaluation", "logging", "checkpoint"), 0.0)

    def timed(owner, method, part):
        function = getattr(owner, method)

        def run(*positional, **named):
            results = []
            parts[part] += seconds_of(lambda: results.append(function(*positional, **named)))
            return results[0]

        return unittest.mock.patch.object(owner, method, run)

    _, ours = build(config, data)  # untrained: a model that is no good ends its rollouts early
    ours.policy.actor_optim.param_groups[0]["lr"] = 0.0
    ours.fake.load_state_dict({"rows": ours.fake._rows, "next": 0})
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        trainer = DOOFTrainer(
            ours.policy,
            make_env(SPEC, seed=0),
            ours.real,
            ours.fake,
            Silent(),
            (args.epoch_steps, args.starts, 5),
            epoch=1,
            step_per_epoch=args.epoch_steps,
            batch_size=BATCH,
            eval_episodes=args.episodes,
            state=TrainingState(CheckpointStore(folder)),
        )
        for owner, method, part in (
            (trainer.batches, "sample_split", "sac"),
            (ours.policy, "learn", "sac"),
            (trainer, "_rollout", "rollout"),
            (policy_trainer, "evaluate", "evaluation"),
            (trainer, "_log", "logging"),
            (trainer.state, "after_epoch", "checkpoint"),
        ):
            stack.enter_context(timed(owner, method, part))
        total = seconds_of(trainer.train)
    total -= parts["checkpoint"] * 4 / 5
    parts["checkpoint"] /= 5
    return parts | {"rest": total - sum(parts.values())}


def main():
    """Prints the table; writes the JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small sizes and few repeats")
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--matmul-precision", choices=("highest", "high", "medium"), default="highest")
    parser.add_argument("--only", nargs="*", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    sizes = dict(steps=30, starts=50_000, rows=1_000_000, epoch_steps=1000, episodes=10)
    if args.small:
        sizes, args.repeats = dict(steps=2, starts=1000, rows=5_000, epoch_steps=5, episodes=1), 1
    vars(args).update(sizes)
    if args.device == "cuda" and not torch.cuda.is_available():
        print("skipped: torch sees no CUDA device here")
        return
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision(args.matmul_precision)
    settings = dict(task=SPEC.name, rollout_batch_size=args.starts, device=args.device)
    config = resolve(Config(**settings), set(settings))
    data = transitions(min(args.rows, 100_000), np.random.default_rng(0))
    kits, ours = build(config, data)
    rows = []
    print(f"kit: {kit.NAME}, {torch.get_num_threads()} threads, torch {torch.__version__}, {machine()}")
    print(f"products at {args.matmul_precision} precision, on {args.device}")
    print(f"{'work':<18} {'kit':>13} {'ours':>13} {'ratio':>7} {'products alone':>24}")
    for work in filter(args.only.__contains__, WORKS):  # in this order: dynamics that learned from noise end rollouts
        theirs, mine, bound = WORKS[work](kits, ours, args)
        ratio = None if theirs is None else theirs / mine
        rows.append({"work": work, "kit": theirs, "ours": mine, "ratio": ratio, "bound": bound})
        shown = "" if bound is None else f"{1e3 * bound:10.3f} ms ({mine / bound:.2f} x)"
        kits_time, times = ("", "") if theirs is None else (f"{1e3 * theirs:10.3f} ms", f"{ratio:.1f}x")
        print(f"{work:<18} {kits_time:>13} {1e3 * mine:10.3f} ms {times:>7} {shown:>24}", flush=True)
    parts = shares(config, data, args)
    print(
        "an epoch of ours: " + ", ".join(f"{part} {value / sum(parts.values()):.1%}" for part, value in parts.items())
    )
    report = {
        "kit": kit.NAME,
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "device": args.device,
        "matmul_precision": args.matmul_precision,
        "peak_memory_mib": peak_memory() / 2**20,
        "rows": rows,
        "epoch_seconds": parts,
    }
    if args.json:
        with open(args.json, "w") as file:
            file.write(json.dumps(report, indent=2) + "\n")


def machine():
    """The processor's name and the number of its cores."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        if names:
            return f"{names[0]}, {len(names)} cores"
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
