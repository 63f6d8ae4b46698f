"""At the end of a run: its policies once more, in many episodes that start alike for all."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from doof_ext.algorithm.context import RunContext
from doof_ext.checkpointing.training_state import Counters
from doof_ext.evaluation.returns import Evaluation, run_episodes
from doof_ext.progress import StageProgress

_BLOCK = 10  # episodes side by side; after each block a signal is seen to


@dataclass
class FinalEvaluation:
    """What each policy comes to, by its name."""

    evaluations: dict[str, Evaluation]

    @property
    def steps(self) -> dict[str, int]:
        """For the summary: nothing is learned from them, so they are no online steps."""
        return {}


def final_evaluation(ctx: RunContext, policies: Mapping[str, Any]) -> FinalEvaluation:
    """Runs ``config.final_episodes`` episodes of each policy's mean action.

    Their seeds are the run's alone: the same start states for every policy, and for every arm of an experiment.

    Args:
        ctx: What the stages share.
        policies: By name, anything with the kit's ``select_action``. One that is there twice (π_u at ratio 0 is π_off)
            is run once.
    """
    episodes, env, logger = ctx.config.final_episodes, ctx.env, ctx.logger
    seeds = np.random.SeedSequence([ctx.config.seed, zlib.crc32(b"final evaluation")]).generate_state(episodes)
    found: dict[str, Evaluation] = {}
    of_policy: dict[int, Evaluation] = {}
    total = episodes * len({id(policy) for policy in policies.values()})
    with StageProgress("final evaluation", total, logger, unit="episode") as progress:
        for name, policy in policies.items():
            if id(policy) not in of_policy:
                done = Counters(returns=[], lengths=[])
                complete = ctx.state.restore(name, {"episodes": done})
                while len(done.returns) < episodes:
                    returns, lengths = run_episodes(policy, env, seeds[len(done.returns) :][:_BLOCK])
                    done.returns, done.lengths = done.returns + returns, done.lengths + lengths
                    progress.update(episodes * len(of_policy) + len(done.returns))
                    ctx.state.after_step()
                result = of_policy[id(policy)] = Evaluation.of_episodes(env, done.returns, done.lengths)
                if not complete:
                    ctx.state.commit("episodes")
                    logger.log(f"final evaluation, {name}: {result.mean:.1f} ± {result.std:.1f} in {episodes} episodes")
            found[name] = of_policy[id(policy)]
    return FinalEvaluation(found)
