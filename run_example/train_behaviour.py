"""Trains the behaviours of a domain's recipe datasets: online SAC, in D4RL's physics.

    python run_example/train_behaviour.py --task hopper-medium-v2 --seed 0 --out doof_ext/data/behaviours

Three files are written as safetensors, with task, seed, steps, returns and settings in their metadata:

- DOMAIN-medium: the first policy that reaches a third of the expert's return, as D4RL defines it;
- DOMAIN-replay: the policies on the way there, each for an equal share of the time spent, oldest first;
- DOMAIN-best: the best policy of the whole run, overwritten each time it gets better.

Returns are those of episodes with sampled actions, as datasets are recorded. A policy must be good in two sets of
episodes; the return it is recorded with is the second's. ``--table`` prints what the files in --out say of themselves.
"""

import argparse
import json
import os

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from doof_ext import kit
from doof_ext.data.behaviour import Behaviour
from doof_ext.learning.actor_critic import FastSAC
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.tasks import get_spec, make_env


class OnlineSAC(FastSAC, kit.SACPolicy):
    """The kit's SAC with the fast step, on plain batches."""


def get_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="hopper-medium-v2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fraction", type=float, default=1 / 3, help="of the expert's return that medium reaches")
    parser.add_argument("--max-steps", type=int, default=300_000)
    parser.add_argument("--snapshots", type=int, default=8, help="policies in DOMAIN-replay")
    parser.add_argument("--random-steps", type=int, default=5_000, help="uniform actions before learning")
    parser.add_argument("--eval-every", type=int, default=4_000)
    parser.add_argument("--eval-episodes", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--out", default="doof_ext/data/behaviours")
    parser.add_argument("--table", action="store_true", help="print a table of the files in --out instead")
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


def snapshots_of_equal_shares(history, count):
    """Of ``history``, weights at equal intervals, the one in the middle of each of ``count`` shares, stacked [S, …]."""
    middles = [int((share + 0.5) * len(history) / count) for share in range(count)]
    return {name: np.stack([history[index][name] for index in middles]) for name in history[0]}


def save(args, kind, weights, what, **result):
    """Writes DOMAIN-kind.safetensors, whole or not at all."""
    spec = get_spec(args.task)
    name = f"{spec.domain}-{kind}"
    metadata = {
        "behaviour": f"{name}: {what}",
        "domain": spec.domain,
        "seed": args.seed,
        **result,
        "lr": args.lr,
        "batch_size": args.batch_size,
        "physics": "d4rl",
    }
    if "return" in result:
        metadata["normalized_score"] = round(100 * spec.normalized_score(result["return"]), 1)
    path = os.path.join(args.out, f"{name}.safetensors")
    save_file(weights, path + ".tmp", metadata={"behaviour": json.dumps(metadata)})
    os.replace(path + ".tmp", path)
    tqdm.write(f"{path}: {json.dumps(metadata)}")


def train(args):
    torch.manual_seed(args.seed)
    spec = get_spec(args.task)
    env, eval_env = make_env(args.task, seed=args.seed), make_env(args.task, seed=args.seed + 1000)
    policy = make_policy(spec, args.lr)
    buffer = TensorReplayBuffer(args.max_steps, (spec.obs_dim,), action_dim=spec.action_dim)
    rng = np.random.default_rng(args.seed)
    goal, history, best = args.fraction * spec.ref_max_score, [to_weights(policy.actor)], None
    observation = env.reset()
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
        if step % args.eval_every == 0:
            weights = to_weights(policy.actor)
            behaviour = Behaviour(weights)
            chosen_on = mean_return(behaviour, eval_env, args.eval_episodes, rng)
            bar.set_postfix_str(f"return {chosen_on:.0f} of {goal:.0f}, best {best or 0:.0f}")
            if best is None:
                history.append(weights)
            if chosen_on < (best or goal):
                continue
            result = {
                "steps": step,
                "return": round(mean_return(behaviour, eval_env, args.eval_episodes, rng), 1),
                "eval_episodes": args.eval_episodes,
            }
            if result["return"] < (best or goal):
                continue  # its first episodes were lucky
            if best is None:
                save(args, "medium", weights, f"SAC stopped at {args.fraction:.3g} of expert return", **result)
                replay = snapshots_of_equal_shares(history, args.snapshots)
                save(args, "replay", replay, f"{args.snapshots} policies of SAC on the way to medium", steps=step)
            best = result["return"]
            save(args, "best", weights, "best policy of one run of SAC", **result)
    if best is None:
        raise SystemExit(f"no return of {goal:.0f} in {args.max_steps} steps: nothing written")


def table(folder):
    """The files' metadata as a Markdown table."""
    lines = ["| file | policies | seed | steps | return | normalised |", "|---|---|---|---|---|---|"]
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            with safe_open(os.path.join(folder, name), framework="numpy") as file:
                made = json.loads(file.metadata()["behaviour"])
                shape = file.get_slice("mean.bias").get_shape()
            count = shape[0] if len(shape) == 2 else 1
            score = [made.get("return", ""), made.get("normalized_score", "")]
            cells = [name.removesuffix(".safetensors"), count, made["seed"], made["steps"], *score]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main():
    args = get_args()
    if args.table:
        print(table(args.out))
        return
    os.makedirs(args.out, exist_ok=True)
    train(args)


if __name__ == "__main__":
    main()
