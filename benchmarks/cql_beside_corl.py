"""CQL's score and values as it learns, ours and CORL's class, on the same recipe data: does ours fall where that does?

python benchmarks/cql_beside_corl.py --corl CHECKOUT --json cql.json      # hopper-medium, 4 000 steps each

CHECKOUT as in bench_baselines.py. Both have CORL's settings for hopper-medium-v2, but for --sampled-actions, and the
same buffer.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from bench_baselines import load_corl
from bench_engine import machine

from doof_ext.baselines.replay import Replay
from doof_ext.baselines.run import build_agent
from doof_ext.config import BaselineConfig, resolve
from doof_ext.data.recipe import load_recipe
from doof_ext.evaluation.returns import evaluate
from doof_ext.tasks import get_spec, make_env

TASK, EPISODES, PAIRS = "hopper-medium-v2", 10, 4000


class Ours:
    """Our agent, by the names that :func:`train` asks for."""

    def __init__(self, agent):
        self.agent, self.select_action = agent, agent.select_action

    def learn(self, batch):
        self.agent.learn(batch)

    def values(self, obs, actions):
        return self.agent.critics(obs, actions)

    def sample(self, obs):
        return self.agent.policy.sample(obs)[0][0]


class Corls:
    """CORL's networks and trainer, which get observations as our agent normalises them.

    Args:
        checkout: Of CORL.
        config: The settings of ours.
        normalizer: Ours.
    """

    def __init__(self, checkout, config, normalizer):
        corl, spec = load_corl(checkout, "cql"), get_spec(TASK)
        torch.manual_seed(config.seed)
        self.normalizer = normalizer
        self.critics = [corl.FullyConnectedQFunction(spec.obs_dim, spec.action_dim, True, 3) for _ in range(2)]
        self.actor = corl.TanhGaussianPolicy(spec.obs_dim, spec.action_dim, 1.0, orthogonal_init=True)
        rates = dict(policy_lr=config.actor_lr, qf_lr=config.critic_lr)
        pairs = [part for net in self.critics for part in (net, torch.optim.Adam(net.parameters(), config.critic_lr))]
        actor = self.actor, torch.optim.Adam(self.actor.parameters(), config.actor_lr)
        settings = dict(
            target_entropy=-spec.action_dim, discount=config.gamma, cql_alpha=config.conservatism, bc_steps=0
        )
        self.trainer = corl.ContinuousCQL(*pairs, *actor, cql_n_actions=config.sampled_actions, **rates, **settings)

    def learn(self, batch):
        obs, next_obs = (self.normalizer(batch[name]) for name in ("observations", "next_observations"))
        self.trainer.train([obs, batch["actions"], batch["rewards"], next_obs, batch["terminals"]])

    def values(self, obs, actions):
        return torch.stack([critic(obs, actions) for critic in self.critics])

    def sample(self, obs):
        return self.actor(obs)[0]

    @torch.no_grad()
    def select_action(self, obs, deterministic=True):
        return self.actor(self.normalizer(torch.as_tensor(obs, dtype=torch.float32)), deterministic)[0].numpy()


def train(method, replay, normalizer, env, args):
    """Rows, one after each ``args.every`` steps: the score, the mean value of D's actions, its gap to the policy's."""
    rows, probe = [], replay.draw(PAIRS)
    obs = normalizer(probe["observations"])
    for step in range(1, args.steps + 1):
        method.learn(replay.draw(256))
        if step % args.every == 0:
            with torch.no_grad():
                of_data = method.values(obs, probe["actions"]).mean().item()
                of_policy = method.values(obs, method.sample(obs)).mean().item()
            score = evaluate(method, env, EPISODES).mean
            rows.append({"step": step, "score": score, "value": of_data, "gap": of_data - of_policy})
            print(f"{step:7} {score:8.1f} {of_data:8.2f} {rows[-1]['gap']:8.2f}", flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corl", metavar="CHECKOUT", required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--every", type=int, default=1000, help="steps between rows")
    parser.add_argument("--rows", type=int, default=200_000, help="of the recipe")
    parser.add_argument("--sampled-actions", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    settings = dict(algo="cql", task=TASK, sampled_actions=args.sampled_actions, seed=args.seed)
    config, data = resolve(BaselineConfig(**settings), set(settings)), load_recipe(get_spec(TASK), args.rows, args.seed)
    env, found = make_env(TASK, seed=args.seed), {}
    about = {"machine": machine(), "torch": torch.__version__, "data_rows": args.rows} | settings
    for name in ("corl", "ours"):
        replay = Replay(data, env.spec, 1, config.gamma, bool(config.normalize_rewards))
        agent = build_agent(config, env.spec, data)
        method = Ours(agent) if name == "ours" else Corls(args.corl, config, agent.normalizer)
        torch.manual_seed(args.seed)
        np.random.seed(args.seed)
        about["mean_reward"] = replay.draw(len(data))["rewards"].mean().item()  # as they are scaled
        print(f"{name}\n{'step':>7} {'score':>8} {'value':>8} {'gap':>8}")
        found[name] = train(method, replay, agent.normalizer, env, args)
    env.close()
    if args.json:
        Path(args.json).write_text(json.dumps({**about, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
