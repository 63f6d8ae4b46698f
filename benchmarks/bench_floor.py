"""What an engine of the library's calls cannot go below, and ours beside it: medians of one run.

python benchmarks/bench_floor.py --json floor.json

The floor is the matrix products and what must lie between them, once each: a bias is added, an activation is applied
forward and back, and Adam's fused kernel goes over the parameters, in memory that is kept. What an engine does besides
(batches, noise, losses, the variance bounds, the penalty, target networks, Python) is left out of it.
"""

import argparse
import functools
import itertools
import json

import numpy as np
import torch
from bench_engine import ACTOR, BATCH, CRITIC, MEMBERS, MODEL, SPEC, build, machine, medians, transitions

from doof_ext.config import Config, resolve
from doof_ext.learning.actor_critic import MeanLosses
from doof_ext.learning.replay_buffer import Mixture

_aten = torch.ops.aten


class Pass:
    """C networks of the sizes at ``rows`` rows: their products, and what lies between those.

    Args:
        rows: Of the batch.
        sizes: Of the layers.
        count: Networks side by side.
        activation: ``relu`` or ``silu``.
        learns: Whether there is a way back, for which silu's inputs are kept.
    """

    def __init__(self, rows, sizes, count, activation, learns=True):
        pairs = list(itertools.pairwise(sizes))
        self.values = [torch.randn(count, rows, size) for size in sizes]
        keeps = learns and activation == "silu"
        self.before = [torch.empty_like(value) if keeps else value for value in self.values]
        self.gradients = [torch.randn(count, rows, size) for size in sizes]
        self.weights = [torch.randn(count, a, b) / a**0.5 for a, b in pairs]
        self.biases = [torch.randn(count, 1, b) for _, b in pairs]
        self.of_weights = [torch.empty_like(weight) for weight in self.weights]
        self.of_biases = [torch.empty_like(bias) for bias in self.biases]
        self.activation = activation

    def forward(self, between):
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            before, after = self.before[depth + 1], self.values[depth + 1]
            torch.bmm(self.values[depth], weight, out=before)
            if between:
                before.add_(bias)
                if depth + 1 < len(self.weights):
                    _aten.silu.out(before, out=after) if self.activation == "silu" else before.relu_()

    def backward(self, between, of_weights=True, to_input=False):
        for depth in reversed(range(len(self.weights))):
            gradient, value = self.gradients[depth + 1], self.values[depth]
            if of_weights:
                torch.bmm(value.transpose(1, 2), gradient, out=self.of_weights[depth])
                if between:
                    torch.sum(gradient, 1, keepdim=True, out=self.of_biases[depth])
            if depth or to_input:
                inner = torch.bmm(gradient, self.weights[depth].transpose(1, 2), out=self.gradients[depth])
                if between and depth:
                    if self.activation == "silu":
                        _aten.silu_backward.grad_input(inner, self.before[depth], grad_input=inner)
                    else:
                        _aten.threshold_backward.grad_input(inner, value, 0, grad_input=inner)


class Adam:
    """Adam's fused kernel over as many numbers as the networks' parameters, as one tensor."""

    def __init__(self, networks):
        numbers = sum(tensor.numel() for tensor in (*networks.weights, *networks.biases))
        self.tensors = [[torch.randn(numbers) * 1e-3] for _ in range(2)] + [[torch.ones(numbers)] for _ in range(2)]
        self.steps = [torch.ones(())]

    def step(self):
        settings = dict(lr=1e-4, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False)
        torch._fused_adam_(*self.tensors, [], self.steps, **settings)


def sac_step():
    """The actor's pass over both observations, the target critics, the critics' step, the actor's through them."""
    acting, learning = Pass(2 * BATCH, ACTOR, 1, "relu"), Pass(BATCH, ACTOR, 1, "relu")
    critics = Pass(BATCH, CRITIC, 2, "relu")
    optims = [Adam(critics), Adam(learning)]

    def run(between):
        acting.forward(between)
        for _ in range(2):
            critics.forward(between)
        critics.backward(between)
        critics.forward(between)
        critics.backward(between, of_weights=False, to_input=True)
        learning.backward(between)
        for optim in optims if between else ():
            optim.step()

    return run


def rollout_step():
    """One step of 2 000 rows in the model: the actor, then one member after another."""
    actor, member = Pass(2000, ACTOR, 1, "relu", learns=False), Pass(2000, MODEL, 1, "silu", learns=False)

    def run(between):
        actor.forward(between)
        for _ in range(MEMBERS):
            member.forward(between)

    return run


def ensemble_step():
    """One step of all members on their batches."""
    members = Pass(BATCH, MODEL, MEMBERS, "silu")
    optim = Adam(members)

    def run(between):
        members.forward(between)
        members.backward(between)
        if between:
            optim.step()

    return run


def our_steps():
    """Ours at the same works, by name."""
    config = resolve(Config(task=SPEC.name), {"task"})
    data = transitions(20_000, np.random.default_rng(0))
    _, ours = build(config, data)
    batches, losses = Mixture([(ours.real, 12), (ours.real, BATCH - 12)]), MeanLosses()
    starts = ours.real.sample(2000)["observations"]
    inputs, targets = torch.randn(MEMBERS, BATCH, MODEL[0]), torch.randn(MEMBERS, BATCH, MODEL[-1] // 2)
    return {
        "sac_step": lambda: losses.add(ours.policy.learn(batches.sample_split(12))),
        "rollout_step": lambda: ours.policy.rollout(starts, 1),
        "ensemble_step": lambda: ours.dynamics.training_step(inputs, targets, 0.01),
    }


WORKS = {"sac_step": (sac_step, 30), "rollout_step": (rollout_step, 3), "ensemble_step": (ensemble_step, 15)}
"""By name: what makes its products, and how often it is called in a row."""


def measure(ours, repeats):
    """Seconds of each work's products, of its floor, and of ours, at the present threads and precision."""
    rows = []
    for name, (work, count) in WORKS.items():
        run = work()
        functions = [functools.partial(run, False), functools.partial(run, True), ours[name]]
        repeated = [functools.partial(_often, function, count) for function in functions]
        alone, floor, mine = (seconds / count for seconds in medians(repeated, repeats))
        rows.append({"work": name, "products": alone, "floor": floor, "ours": mine})
    return rows


def _often(function, count):
    for _ in range(count):
        function()


def main():
    """Prints the tables; writes the JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=15)
    choices = ("highest", "high", "medium")
    parser.add_argument("--matmul-precision", choices=choices, nargs="+", default=["highest", "medium"])
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    tables = []
    for threads, precision in itertools.product(args.threads, args.matmul_precision):
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        rows = measure(our_steps(), args.repeats)
        tables.append({"threads": threads, "matmul_precision": precision, "rows": rows})
        print(f"{threads} threads, {precision}: products, floor (times products), ours (times floor), in ms")
        for row in rows:
            alone, floor, mine = (row[name] for name in ("products", "floor", "ours"))
            times = f"{1e3 * alone:8.3f} {1e3 * floor:8.3f} ({floor / alone:.2f})"
            print(f"{row['work']:<14}{times} {1e3 * mine:8.3f} ({mine / floor:.2f})")
    if args.json:
        report = {"machine": machine(), "torch": torch.__version__, "tables": tables}
        with open(args.json, "w", encoding="utf-8") as file:
            file.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
