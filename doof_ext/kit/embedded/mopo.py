"""MOPO (Yu et al. 2020): SAC on real data and on rollouts of a learned model whose rewards are penalised."""

from collections import defaultdict

import numpy as np

from doof_ext.kit.embedded.sac import SACPolicy, concatenate


def rollout(policy, dynamics, init_obss, rollout_length):
    """Rolls ``policy`` in ``dynamics`` from init_obss [N, O]; a terminated row leaves the rollout.

    Returns: dict of obss, next_obss, actions, rewards [M, 1], terminals [M, 1]; dict of num_transitions, reward_mean.
    """
    columns = defaultdict(list)
    obss = init_obss
    for _ in range(rollout_length):
        actions = policy.select_action(obss)
        next_obss, rewards, terminals, _ = dynamics.step(obss, actions)
        step = dict(obss=obss, next_obss=next_obss, actions=actions, rewards=rewards, terminals=terminals)
        for name, column in step.items():
            columns[name].append(column)
        obss = next_obss[~terminals.ravel()]
        if len(obss) == 0:
            break
    transitions = {name: np.concatenate(column) for name, column in columns.items()}
    rewards = transitions["rewards"]
    return transitions, {"num_transitions": len(rewards), "reward_mean": float(rewards.mean())}


class MOPOPolicy(SACPolicy):
    """SAC that also rolls itself out in ``dynamics``, which penalises the rewards."""

    def __init__(
        self,
        dynamics,
        actor,
        critic1,
        critic2,
        actor_optim,
        critic1_optim,
        critic2_optim,
        tau=0.005,
        gamma=0.99,
        alpha=0.2,
    ):
        super().__init__(
            actor, critic1, critic2, actor_optim, critic1_optim, critic2_optim, tau=tau, gamma=gamma, alpha=alpha
        )
        self.dynamics = dynamics

    def rollout(self, init_obss, rollout_length):
        """See :func:`rollout`."""
        return rollout(self, self.dynamics, init_obss, rollout_length)

    def learn(self, batch):
        """SAC's step on the rows of batch["real"] and batch["fake"] together."""
        return super().learn(concatenate(batch["real"], batch["fake"]))
