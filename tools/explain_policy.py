"""Why a pretrained policy fails: what the critics and the ensemble say on its way to the end of its episodes.

python tools/explain_policy.py RUN [--json FILE]

Of a run in or after stage 1 that still has its checkpoint. The policy's mean actions are taken in the environment; for
the observations so many steps before an episode's end it prints the least critic's value, u, and how far the nearest of
D's observations is, in standard deviations of D; and the same for D's own episodes that end in a terminal. In the
model it follows the policy from the same first observations.
"""

import argparse
import json
import os

import numpy as np
import torch

from doof_ext import data
from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.cli.exit_code import exit_code_of
from doof_ext.config import Config, resolve
from doof_ext.config.recorded import recorded_settings
from doof_ext.data.episodes import bounds
from doof_ext.errors import UserError
from doof_ext.evaluation.model_return import ModelReturns
from doof_ext.learning.factory import build_dynamics, build_policy
from doof_ext.tasks import make_env

BEFORE = (0, 5, 10, 20, 40, 80)
_NEIGHBOURS = 50_000  # of D's rows, among which the nearest is looked for
_BLOCK = 500


def load(run):
    """(config, environment, D, dynamics, policy, epochs of pretraining) of a run's stage 1."""
    recorded = recorded_settings(run)
    if recorded.get("algo") != "mopo":
        raise UserError(f"{run} is a run of {recorded.get('algo')}: this explains MOPO's policies")
    config = resolve(Config(**recorded), set(recorded))
    tree = CheckpointStore(os.path.join(run, "checkpoint")).load() or {}
    stages = [tree.get("stages", {}).get(f"pretrain.1/{part}") for part in ("dynamics", "policy")]
    if None in stages:
        raise UserError(f"{run} has no checkpoint in which its policy has begun to learn")
    env = make_env(config.spec, seed=config.seed, physics=config.physics)
    dataset = data.load(config.source, env.spec, config.dataset_steps, config.seed).dataset
    dynamics = build_dynamics(config, env.spec)
    policy = build_policy(config, env.spec, dynamics, -config.penalty_coef)
    dynamics.load_training_state(stages[0]["components"]["dynamics"])
    policy.load_training_state(stages[1]["components"]["policy"])
    progress = stages[1]["components"].get("progress", {"epoch": config.epoch})  # a complete stage has none
    return config, env, dataset, dynamics, policy, progress["epoch"]


def episodes_of(policy, env, count):
    """Episodes of mean actions in the environment: a list of (observations [T, O], actions [T, A], return)."""
    found = []
    for number in range(count):
        env.seed(10_000 + number)
        obs, done, total, rows = env.reset(), False, 0.0, []
        while not done:
            action = policy.select_action(obs[None], deterministic=True)[0]
            rows.append((obs, action))
            obs, reward, done, _ = env.step(action)
            total += reward
        found.append((*(np.array(column, np.float32) for column in zip(*rows, strict=True)), total))
    return found


class Beliefs:
    """What a stage 1 has learned, asked for pairs.

    Args:
        dataset: D.
        dynamics: P̂.
        policy: π_off.
    """

    def __init__(self, dataset, dynamics, policy):
        self.dynamics, self.policy = dynamics, policy
        self._spread = dataset.observations.std(0, dtype=np.float64).clip(1e-6)
        rows = np.random.default_rng(0).permutation(len(dataset))[:_NEIGHBOURS]
        self._known = self._scaled(dataset.observations[rows])

    def _scaled(self, observations):
        return torch.as_tensor(observations / self._spread, dtype=torch.float32)

    @torch.no_grad()
    def __call__(self, observations, actions, measures_distance=True):
        """Means over pairs [N, O], [N, A]: value, u and, as a median, the distance to D."""
        obs, actions = torch.as_tensor(observations), torch.as_tensor(actions)
        critics = torch.stack([critic(obs, actions) for critic in self.policy.all_critics])
        found = {"pairs": len(obs), "value": critics.amin(0).mean().item()}
        found["u"] = self.dynamics.uncertainty(obs, actions, self.policy).mean().item()
        if measures_distance:
            blocks = self._scaled(observations).split(_BLOCK)
            nearest = torch.cat([torch.cdist(block, self._known).amin(1) for block in blocks])
            found["distance"] = nearest.median().item()
        return found


def explain(run, episodes):
    """The figures of a run."""
    config, env, dataset, dynamics, policy, epoch = load(run)
    beliefs = Beliefs(dataset, dynamics, policy)
    real = episodes_of(policy, env, episodes)
    lengths = np.array([len(observations) for observations, _, _ in real])
    score = 100 * env.get_normalized_score(np.mean([total for _, _, total in real]))
    starts = np.stack([observations[0] for observations, _, _ in real])
    model = ModelReturns(starts, env.spec.max_episode_steps, config.penalty_coef)(policy, dynamics)
    way = {}
    for before in BEFORE:
        reaching = [(obs[-1 - before], actions[-1 - before]) for obs, actions, _ in real if len(obs) > before]
        if reaching:
            way[before] = beliefs(*(np.stack(column) for column in zip(*reaching, strict=True)))
    firsts, stops = bounds(dataset)
    falls = dataset.terminals[stops - 1]
    of_data = {}
    for before in BEFORE:
        rows = stops[falls] - 1 - before
        rows = rows[rows >= firsts[falls]]
        if len(rows):
            of_data[before] = beliefs(dataset.observations[rows], dataset.actions[rows], measures_distance=False)
    rows = np.random.default_rng(1).permutation(len(dataset))[:5000]
    return {
        "epoch": epoch,
        "score": score,
        "length": float(lengths.mean()),
        "length_in_model": float(model.lengths.mean()),
        "on_data": beliefs(dataset.observations[rows], dataset.actions[rows], measures_distance=False),
        "before_end": way,
        "before_end_of_data": of_data,
    }


def print_table(found):
    """The figures as a table."""
    steps = f"{found['length']:.0f} steps, in the model {found['length_in_model']:.0f}"
    print(f"epoch {found['epoch']}: score {found['score']:.1f}, {steps}")
    print(f"{'':<34}{'value':>8}{'u':>8}{'distance to D':>16}")
    rows = {"D's own pairs": found["on_data"]}
    rows |= {f"policy, {before} steps before its end": of for before, of in found["before_end"].items()}
    rows |= {f"D, {before} steps before a fall": of for before, of in found["before_end_of_data"].items()}
    for name, of in rows.items():
        distance = f"{of['distance']:.1f}" if "distance" in of else ""
        print(f"{name:<34}{of['value']:>8.1f}{of['u']:>8.3f}{distance:>16}")


def main(argv=None):
    """Prints the table; writes the JSON where asked; returns the exit code."""
    return run_tool("explain_policy.py", __doc__, explain, print_table, argv)


def run_tool(name, description, explain, print_table, argv):
    """A tool's command line: a run is explained by so many episodes, as a table and in JSON; returns the exit code."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run directory")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args(argv)

    def run():
        found = explain(args.run, args.episodes)
        print_table(found)
        if args.json:
            with open(args.json, "w", encoding="utf-8") as file:
                file.write(json.dumps(found, indent=1) + "\n")

    return exit_code_of(name, run)


if __name__ == "__main__":
    raise SystemExit(main())
