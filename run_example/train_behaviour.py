"""The behaviours that recipe datasets are recorded with: trains them by online SAC, and chooses among what it has seen.

    python run_example/train_behaviour.py --task hopper-medium-v2 --seed 0 --history histories/hopper-0
    python run_example/train_behaviour.py --select histories/hopper-0 histories/hopper-1
    python run_example/train_behaviour.py --table

Training has rlkit's settings and D4RL's physics. An iteration is 1 000 steps of the present policy, uniform actions in
the first, then 1 000 gradient steps. Every second policy is kept in the history (float16) with what ten episodes of
sampled actions were like: returns, lengths, and how far each observed number spreads. A run that was stopped goes on
with the same command.

``--select`` writes three files for the domain of the histories, with provenance in their metadata:

- DOMAIN-medium: the policy whose episodes are most like those of D4RL's medium file, in mean return, mean length,
  spread of returns and spread of each observed number;
- DOMAIN-replay: the policies of that run on the way there, at equal intervals, oldest first;
- DOMAIN-best: the policy with the highest mean return of all histories, unless the file there holds a better one.

``--table`` records the recipes and prints their statistics beside those of D4RL's files.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save
from tqdm import tqdm

from doof_ext import kit
from doof_ext.checkpointing.random_state import get_random_state, set_random_state
from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.data.behaviour import Behaviour
from doof_ext.data.d4rl_statistics import STATISTICS, spread_ratio, statistics_of
from doof_ext.data.recipe import load_recipe
from doof_ext.files import publish
from doof_ext.learning.actor_critic import FastSAC
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.tasks import get_spec, make_env

STEPS_PER_ITERATION = 1_000
LEARNING_RATE, BATCH_SIZE, HIDDEN = 3e-4, 256, (256, 256)
KEPT_EVERY, CHECKPOINT_EVERY = 2, 20  # iterations
CANDIDATES, CANDIDATE_EPISODES = 8, 100  # of a choice


class OnlineSAC(FastSAC, kit.SACPolicy):
    """The kit's SAC with the fast step, on plain batches and actions in [-1, 1]."""

    _scale_slope = 1.0

    def _scale(self, squashed):
        return squashed


@dataclass
class Snapshot:
    """A policy of a history, and what ten of its episodes were like."""

    path: Path
    metadata: dict[str, Any]

    @classmethod
    def history(cls, folder):
        """All of a folder, oldest first."""
        snapshots = []
        for path in sorted(Path(folder).glob("policy-*.safetensors")):
            with safe_open(path, framework="numpy") as file:
                metadata = json.loads(file.metadata()["behaviour"])
            if "observation_std" not in metadata:
                sys.exit(f"train_behaviour.py: error: {path} does not say how far observations spread: train it anew")
            snapshots.append(cls(path, metadata))
        return snapshots

    @property
    def behaviour(self):
        weights = load_file(self.path)
        return Behaviour({name: array.astype(np.float32) for name, array in weights.items()}, self.metadata)


def get_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="hopper-medium-v2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--episodes", type=int, default=10, help="that tell how good a policy of the history is")
    parser.add_argument("--history", metavar="FOLDER", help="train, and keep the policies here")
    parser.add_argument("--select", metavar="FOLDER", nargs="+", help="choose from these histories of one domain")
    parser.add_argument("--replay-policies", type=int, default=24, help="in DOMAIN-replay")
    parser.add_argument("--out", default="doof_ext/data/behaviours")
    parser.add_argument("--table", action="store_true", help="record the recipes and compare them with D4RL's files")
    parser.add_argument(
        "--steps", type=int, help="of each recipe in the table, at most; as many as D4RL's file has by default"
    )
    args = parser.parse_args(argv)
    if sum(map(bool, (args.history, args.select, args.table))) != 1:
        parser.error("give one of --history, --select and --table")
    return args


def make_policy(spec):
    backbone = kit.MLP(spec.obs_dim, list(HIDDEN))
    head = kit.TanhDiagGaussian(backbone.output_dim, spec.action_dim, unbounded=True, conditioned_sigma=True)
    actor = kit.ActorProb(backbone, head, "cpu")
    critics = [kit.Critic(kit.MLP(spec.obs_dim + spec.action_dim, list(HIDDEN)), "cpu") for _ in range(2)]
    optims = [torch.optim.Adam(network.parameters(), lr=LEARNING_RATE) for network in (actor, *critics)]
    log_alpha = torch.zeros(1, requires_grad=True)
    alpha = (-float(spec.action_dim), log_alpha, torch.optim.Adam([log_alpha], lr=LEARNING_RATE))
    return OnlineSAC(actor, *critics, *optims, alpha=alpha)


def to_weights(actor):
    """The actor's layers by the names of Behaviour, float32."""
    linears = [layer for layer in actor.backbone.model if isinstance(layer, torch.nn.Linear)]
    layers = {f"hidden.{i}": layer for i, layer in enumerate(linears)}
    layers |= {"mean": actor.dist_net.mu, "log_std": actor.dist_net.sigma}
    return {
        f"{name}.{part}": getattr(layer, part).detach().numpy().copy()
        for name, layer in layers.items()
        for part in ("weight", "bias")
    }


@dataclass
class Episodes:
    """What episodes of a policy were like."""

    returns: np.ndarray  # [E]
    lengths: np.ndarray  # [E]
    observation_std: np.ndarray  # [O], over all their steps

    @classmethod
    def of(cls, snapshot):
        """Those that a snapshot was kept with."""
        return cls(*(np.array(snapshot.metadata[name]) for name in ("returns", "lengths", "observation_std")))

    def mismatch(self, d4rl):
        """How unlike D4RL's they are.

        The relative errors of mean return and length, half that of the spread of returns, and the mean factor, as a
        logarithm, between the columns' spreads.
        """
        errors = self.returns.mean() / d4rl.return_mean - 1, self.lengths.mean() / d4rl.length_mean - 1
        spread = self.returns.std() / d4rl.return_std - 1
        columns = np.log(self.observation_std / d4rl.observation_std)
        return sum(map(abs, errors)) + abs(spread) / 2 + np.abs(columns).mean()

    def summary(self):
        values = {"return": self.returns.mean(), "return_std": self.returns.std(), "length": self.lengths.mean()}
        return {name: round(float(value), 1) for name, value in values.items()} | {"episodes": len(self.returns)}


def play(behaviour, env, episodes, rng):
    """Episodes of sampled actions."""
    found, observations = [], []
    for _ in range(episodes):
        observation, done, total, length = env.reset(), False, 0.0, 0
        while not done:
            observations.append(observation)
            observation, reward, done, _ = env.step(behaviour.act(observation, rng))
            total, length = total + reward, length + 1
        found.append((total, length))
    returns, lengths = np.array(found).T
    return Episodes(returns, lengths.astype(int), np.std(observations, axis=0, dtype=np.float64))


def write_behaviour(path, weights, metadata):
    """A safetensors file of float16 weights, whole or not at all."""
    halves = {name: array.astype(np.float16) for name, array in weights.items()}
    content = save(halves, metadata={"behaviour": json.dumps(metadata)})
    publish(path, lambda file: file.write(content))


def train(args):
    """Runs SAC to ``--iterations`` from the history's last checkpoint."""
    torch.manual_seed(args.seed)
    spec, history = get_spec(args.task), Path(args.history)
    history.mkdir(parents=True, exist_ok=True)
    env, eval_env = make_env(spec, seed=args.seed), make_env(spec, seed=args.seed + 1000)
    policy, rng = make_policy(spec), np.random.default_rng(args.seed)
    buffer = TensorReplayBuffer(1_000_000, (spec.obs_dim,), action_dim=spec.action_dim)
    store, done_before = CheckpointStore(str(history / "checkpoint")), 0
    if (tree := store.load()) is not None:
        policy.load_training_state(tree["policy"])
        buffer.load_state_dict(tree["buffer"])
        set_random_state(tree["generators"])
        done_before = tree["iterations"]
        rng = np.random.default_rng([args.seed, done_before])
        env.seed(args.seed + 10_000 + done_before)
    observation = env.reset()
    bar = tqdm(
        range(done_before + 1, args.iterations + 1),
        desc=f"SAC {spec.domain} {args.seed}",
        initial=done_before,
        total=args.iterations,
    )
    for iteration in bar:
        behaviour = Behaviour(to_weights(policy.actor))
        for _ in range(STEPS_PER_ITERATION):
            action = env.action_space.sample() if iteration == 1 else behaviour.act(observation, rng)
            next_observation, reward, done, info = env.step(action)
            buffer.add(observation, next_observation, action, reward, done and not info["TimeLimit.truncated"])
            observation = env.reset() if done else next_observation
        for _ in range(STEPS_PER_ITERATION):
            policy.sac_step(buffer.sample(BATCH_SIZE))
        if iteration % KEPT_EVERY == 0:
            policy.check_weights(f"iteration {iteration}")
            bar.set_postfix_str(keep(args, spec, to_weights(policy.actor), iteration, eval_env, rng))
        if iteration % CHECKPOINT_EVERY == 0:
            state = {"policy": policy.training_state(), "buffer": buffer.state_dict(), "generators": get_random_state()}
            store.save(state | {"iterations": iteration})


def keep(args, spec, weights, iteration, env, rng):
    """Writes the present policy to the history; returns a line about it."""
    steps = iteration * STEPS_PER_ITERATION
    rounded = Behaviour({name: array.astype(np.float16).astype(np.float32) for name, array in weights.items()})
    episodes = play(rounded, env, args.episodes, rng)
    returns, lengths = episodes.returns, episodes.lengths
    metadata = {
        "domain": spec.domain,
        "seed": args.seed,
        "steps": steps,
        "lr": LEARNING_RATE,
        "batch_size": BATCH_SIZE,
        "physics": "d4rl",
        "returns": [round(value, 1) for value in returns.tolist()],
        "lengths": lengths.tolist(),
        "observation_std": [float(f"{value:.4g}") for value in episodes.observation_std],
    }
    write_behaviour(Path(args.history) / f"policy-{steps:07d}.safetensors", weights, metadata)
    return f"return {returns.mean():.0f} ± {returns.std():.0f}, length {lengths.mean():.0f}"


def select(args):
    """Writes medium, replay and best of the histories' domain."""
    histories = [Snapshot.history(folder) for folder in args.select]
    (domain,) = {snapshot.metadata["domain"] for history in histories for snapshot in history}
    env, rng = make_env(f"{domain}-medium-v2", seed=0), np.random.default_rng(0)
    d4rl, everything = STATISTICS[f"{domain}-medium-v2"], [shot for history in histories for shot in history]

    def chosen(badness):
        """Of those that their few episodes speak for, the one that many others do; with those episodes."""
        by_few = sorted(everything, key=lambda shot: badness(Episodes.of(shot)))[:CANDIDATES]
        bar = tqdm(by_few, desc=f"{domain}, {CANDIDATE_EPISODES} episodes")
        played = [(shot, play(shot.behaviour, env, CANDIDATE_EPISODES, rng)) for shot in bar]
        return min(played, key=lambda entry: badness(entry[1]))

    def write(kind, snapshot, weights, what, **measured):
        about = {key: snapshot.metadata[key] for key in ("domain", "seed", "steps", "lr", "batch_size", "physics")}
        path = Path(args.out) / f"{domain}-{kind}.safetensors"
        write_behaviour(path, weights, {"behaviour": f"{domain}-{kind}: {what}", **about, **measured})
        print(f"{path}: {what}, seed {about['seed']}, {about['steps']} steps {measured}")

    medium, episodes = chosen(lambda episodes: episodes.mismatch(d4rl))
    write("medium", medium, load_file(medium.path), "SAC where it is most like D4RL's medium", **episodes.summary())
    (run,) = (history for history in histories if medium in history)
    before = run[: run.index(medium) + 1]
    middles = [int((share + 0.5) * len(before) / args.replay_policies) for share in range(args.replay_policies)]
    layers = [load_file(before[index].path) for index in middles]
    stacked = {name: np.stack([weights[name] for weights in layers]) for name in layers[0]}
    write("replay", medium, stacked, f"{len(layers)} policies of SAC on the way to medium")
    best, episodes = chosen(lambda episodes: -episodes.returns.mean())
    if episodes.returns.mean() > kept_return(Path(args.out) / f"{domain}-best.safetensors"):
        write("best", best, load_file(best.path), "the best policy of SAC", **episodes.summary())


def kept_return(path):
    """The return of the policy in a file; minus infinity where there is none."""
    if not path.exists():
        return -np.inf
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["behaviour"])["return"]


def table(steps):
    """The recipes' statistics beside those of D4RL's files, as Markdown.

    The last column is how far observed numbers spread, least and most, as a factor of D4RL's.
    """
    lines = ["| recipe | return | D4RL's | spread | D4RL's | length | D4RL's | per step | D4RL's | columns |"]
    lines.append("|---" * 10 + "|")
    for task, d4rl in STATISTICS.items():
        ours = statistics_of(load_recipe(get_spec(task), min(steps or d4rl.transitions, d4rl.transitions)))
        names = ("return_mean", "return_std", "length_mean", "reward_mean")
        cells = [getattr(figures, name) for name in names for figures in (ours, d4rl)]
        told = ["" if cell is None else f"{cell:.4g}" for cell in cells]
        ratio = spread_ratio(ours, d4rl)
        told.append("" if ratio is None else f"{ratio.min():.2f} to {ratio.max():.2f}")
        lines.append(f"| {task} | {' | '.join(told)} |")
    return "\n".join(lines)


def main(argv=None):
    args = get_args(argv)
    if args.history:
        train(args)
    elif args.select:
        select(args)
    else:
        print(table(args.steps))


if __name__ == "__main__":
    main()
