"""What PEX's choice between two policies comes to: each by itself, the choice, and whom the critics prefer.

python tools/explain_pex.py RUN [--episodes N] [--json FILE]

Of a run of run_baseline.py --algo pex that still has its checkpoint. Before the first online step the new policy is a
fresh one; then come the ends of the online stage and of the last. All take their mean actions. A value is the lesser
critic's, by which PEX chooses.
"""

import os

import numpy as np
import torch
from explain_policy import episodes_of, run_tool

from doof_ext import data
from doof_ext.baselines.run import build_agent
from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.config import BaselineConfig, resolve
from doof_ext.config.recorded import recorded_settings
from doof_ext.errors import UserError
from doof_ext.learning.policy import scale_actions
from doof_ext.tasks import make_env

STAGES = {"before the online steps": "pretrain", "after them": "finetune_online", "at the end": "finetune_offline"}


def load(run):
    """(environment, {when: agent}) of a run, for the stages that it has completed."""
    recorded = recorded_settings(run)
    if recorded.get("algo") != "pex":
        raise UserError(f"{run} is a run of {recorded.get('algo')}: this explains PEX's choice")
    config = resolve(BaselineConfig(**recorded), set(recorded))
    states = (CheckpointStore(os.path.join(run, "checkpoint")).load() or {}).get("stages", {})
    env = make_env(config.spec, seed=config.seed, physics=config.physics)
    dataset = data.load(config.source, env.spec, config.dataset_steps, config.seed).dataset
    agents = {}
    for when, stage in STAGES.items():
        state = states.get(f"{stage}.1/policy", {})
        if state.get("complete"):
            agents[when] = agent = build_agent(config, env.spec, dataset)
            agent.load_training_state(state["components"]["agent"])
            if not agent.expanded:
                agent.begin_online(config.online_steps)
    if not agents:
        raise UserError(f"{run} has no checkpoint after its pretraining")
    return env, agents


class Alone:
    """One of a PEX's two policies by itself.

    Args:
        agent: The PEX.
        policy: Its policy.
    """

    def __init__(self, agent, policy):
        self._agent, self._policy = agent, policy

    @torch.no_grad()
    def select_action(self, obs, deterministic):
        """The kit's: obs [B, O] → actions [B, A], arrays."""
        known = self._agent.normalizer(torch.as_tensor(obs, dtype=torch.float32))
        actions = self._policy.act(known, deterministic)
        return scale_actions(actions, self._agent.action_low, self._agent.action_high).numpy()


@torch.no_grad()
def of_episodes(agent, actor, env, count):
    """Figures of ``count`` episodes of an actor's mean actions: on their way, what the agent's critics say of both."""
    episodes = episodes_of(actor, env, count)
    known = agent.normalizer(torch.as_tensor(np.concatenate([obs for obs, _, _ in episodes])))
    proposals = [policy.act(known, True) for policy in (agent.offline_policy, agent.policy)]
    frozen, new = (agent.critics(known, actions).amin(0) for actions in proposals)
    return {
        "score": 100 * env.get_normalized_score(np.mean([total for _, _, total in episodes])),
        "length": len(known) / count,
        "new_valued_higher": (new > frozen).float().mean().item(),
        "value_of_frozen": frozen.mean().item(),
        "value_of_new": new.mean().item(),
    }


def explain(run, episodes):
    """The figures of a run: by time, of the choice and of each policy by itself."""
    env, agents = load(run)
    return {
        when: {
            name: of_episodes(agent, actor, env, episodes)
            for name, actor in {
                "frozen policy": Alone(agent, agent.offline_policy),
                "new policy": Alone(agent, agent.policy),
                "the choice": agent,
            }.items()
        }
        for when, agent in agents.items()
    }


def print_table(found):
    """The figures as a table."""
    print(f"{'':<42}{'score':>8}{'steps':>8}{'new valued higher':>19}")
    for when, actors in found.items():
        for name, of in actors.items():
            share = f"{of['new_valued_higher']:.0%}"
            print(f"{when + ', ' + name:<42}{of['score']:>8.1f}{of['length']:>8.0f}{share:>19}")


def main(argv=None):
    """Prints the table; writes the JSON where asked; returns the exit code."""
    return run_tool("explain_pex.py", __doc__, explain, print_table, argv)


if __name__ == "__main__":
    raise SystemExit(main())
