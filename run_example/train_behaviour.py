"""Trains the behaviour of a recipe's ``medium`` dataset: online SAC, stopped at a fraction of expert return.

    python run_example/train_behaviour.py --task hopper-medium-v2 --seed 0 --out doof_ext/data/behaviours

D4RL defines ``medium`` as a policy of about a third of the expert's performance. Training stops at the first
evaluation (episodes with sampled actions, as the dataset will be recorded) that reaches it. The weights are written
as safetensors, with the task, seed, steps, return and settings in the file's metadata.
"""

import argparse
import json
import os

import numpy as np
import torch
from safetensors.numpy import save_file
from tqdm import tqdm

from doof_ext import kit
from doof_ext.data.behaviour import Behaviour
from doof_ext.replay import TensorReplayBuffer
from doof_ext.sac import FastSAC
from doof_ext.tasks import get_spec, make_env


class OnlineSAC(FastSAC, kit.SACPolicy):
    """The kit's SAC with the fast step, on plain batches."""


def get_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="hopper-medium-v2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fraction", type=float, default=1 / 3, help="of the expert's return to stop at")
    parser.add_argument("--max-steps", type=int, default=1_000_000)
    parser.add_argument("--random-steps", type=int, default=5_000, help="uniform actions before learning")
    parser.add_argument("--eval-every", type=int, default=4_000)
    parser.add_argument("--eval-episodes", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--out", default="doof_ext/data/behaviours")
    return parser.parse_args()


def make_policy(spec, lr):
    backbone = kit.MLP(spec.obs_dim, [256, 256])
    head = kit.TanhDiagGaussian(backbone.output_dim, spec.action_dim, unbounded=True, conditioned_sigma=True)
    actor = kit.ActorProb(backbone, head, "cpu")
    critics = [kit.Critic(kit.MLP(spec.obs_dim + spec.action_dim, [256, 256]), "cpu") for _ in range(2)]
    optims = [torch.optim.Adam(module.parameters(), lr=lr) for module in (actor, *critics)]
    log_alpha = torch.zeros(1, requires_grad=True)
    alpha = (-float(spec.action_dim), log_alpha, torch.optim.Adam([log_alpha], lr=lr))
    return OnlineSAC(actor, *critics, *optims, alpha=alpha)


def to_weights(actor):
    linears = [layer for layer in actor.backbone.model if isinstance(layer, torch.nn.Linear)]
    layers = {f"hidden.{i}": layer for i, layer in enumerate(linears)}
    layers |= {"mean": actor.dist_net.mu, "log_std": actor.dist_net.sigma}
    return {
        f"{name}.{part}": getattr(layer, part).detach().numpy().copy()
        for name, layer in layers.items()
        for part in ("weight", "bias")
    }


def mean_return(behaviour, env, episodes, rng):
    returns = []
    for _ in range(episodes):
        observation, done, total = env.reset(), False, 0.0
        while not done:
            observation, reward, done, _ = env.step(behaviour.act(observation, rng))
            total += reward
        returns.append(total)
    return float(np.mean(returns))


def train(args):
    torch.manual_seed(args.seed)
    spec = get_spec(args.task)
    env, eval_env = make_env(args.task, seed=args.seed), make_env(args.task, seed=args.seed + 1000)
    policy = make_policy(spec, args.lr)
    buffer = TensorReplayBuffer(args.max_steps, (spec.obs_dim,), action_dim=spec.action_dim)
    rng = np.random.default_rng(args.seed)
    goal = args.fraction * spec.ref_max_score
    observation, reached = env.reset(), float("nan")
    bar = tqdm(range(1, args.max_steps + 1), desc=f"SAC on {args.task}")
    for step in bar:
        if step <= args.random_steps:
            action = env.action_space.sample()
        else:
            action = policy.select_action(observation[None])[0]
        next_observation, reward, done, info = env.step(action)
        buffer.add(observation, next_observation, action, reward, done and not info["TimeLimit.truncated"])
        observation = env.reset() if done else next_observation
        if step > args.random_steps:
            policy.sac_step(buffer.sample(args.batch_size))
        if step % args.eval_every == 0 and step > args.random_steps:
            weights = to_weights(policy.actor)
            reached = mean_return(Behaviour(weights), eval_env, args.eval_episodes, rng)
            bar.set_postfix_str(f"return {reached:.0f} of {goal:.0f}")
            if reached >= goal:
                return weights, {"steps": step, "return": round(reached, 1)}
    raise SystemExit(f"return {reached:.0f} after {args.max_steps} steps is short of {goal:.0f}: nothing written")


def main():
    args = get_args()
    spec = get_spec(args.task)
    weights, result = train(args)
    name = f"{spec.domain}-medium"
    metadata = {
        "behaviour": f"{name}: SAC stopped at {args.fraction:.3g} of expert return",
        "task": args.task, "seed": args.seed, **result,
        "normalized_score": round(100 * spec.normalized_score(result["return"]), 1),
        "eval_episodes": args.eval_episodes, "lr": args.lr, "batch_size": args.batch_size, "physics": "d4rl",
    }  # fmt: skip
    os.makedirs(args.out, exist_ok=True)
    path = os.path.join(args.out, f"{name}.safetensors")
    save_file(weights, path + ".tmp", metadata={"behaviour": json.dumps(metadata)})
    os.replace(path + ".tmp", path)
    print(f"{path}: {json.dumps(metadata)}")


if __name__ == "__main__":
    main()
