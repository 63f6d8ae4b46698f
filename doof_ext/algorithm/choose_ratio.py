"""λ_on : λ_off chosen before a single real step: what each ratio's policy would meet, and cost, in the model."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from doof_ext.algorithm.context import StageContext
from doof_ext.algorithm.explore import train_exploration_policy
from doof_ext.algorithm.limits import return_floor
from doof_ext.checkpointing.training_state import is_past
from doof_ext.config.settings import RATIOS
from doof_ext.evaluation.model_return import ModelReturn
from doof_ext.files import finite
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.policy import ModelBasedPolicy
from doof_ext.learning.replay_buffer import TensorReplayBuffer


@dataclass(frozen=True)
class Candidate:
    """An exploration policy that might collect, as the model sees it.

    Attributes:
        ratio: λ_on : λ_off; 0 is π_off itself.
        uncertainty: Mean u of a step of its rollouts in P̂.
        pessimistic: Its return in the elite that predicts the least.
        allowed: Whether that is above the floor.
    """

    ratio: float
    uncertainty: float
    pessimistic: float
    allowed: bool


@dataclass(frozen=True)
class RatioChoice:
    """The outputs of the choice.

    Attributes:
        ratio: The one chosen; 0, π_off collects, where no other is allowed.
        floor: The least pessimistic return that is allowed.
        candidates: All that were tried, and π_off before them.
        gradient_steps: That the tries took.
        epoch: The epoch of stage 2 whose policy then collects, by the same floor, see explore.
    """

    ratio: float
    floor: float
    candidates: list[Candidate]
    gradient_steps: int
    epoch: int | None = None

    @property
    def steps(self) -> dict[str, int]:
        """For the summary."""
        return {"gradient_steps": self.gradient_steps}

    def for_summary(self) -> dict[str, Any]:
        """As result/summary.json has it; None in place of what is not finite."""
        candidates = [finite(vars(candidate)) for candidate in self.candidates]
        return finite({"ratio": self.ratio, "floor": self.floor, "epoch": self.epoch, "candidates": candidates})


def choose_ratio(
    ctx: StageContext, pretrained: ModelBasedPolicy, dynamics: DOOFDynamics, offline: TensorReplayBuffer
) -> RatioChoice:
    """Tries each of RATIOS for a quarter of stage 2's epochs from π_off in P̂; nothing touches the environment.

    Chosen is the policy whose rollouts meet the most u, of those whose return in the least elite loses at most
    ``config.max_return_drop`` of π_off's.
    """
    config, model_return = ctx.config, ctx.model_return
    assert model_return is not None  # --horizon 0 is refused
    epochs = config.candidate_epochs
    in_model = dataclasses.replace(
        ctx, config=dataclasses.replace(config, eval_episodes=0), model_return=None, logs_curve=False
    )
    base = model_return(pretrained, dynamics)
    floor = return_floor(base.pessimistic, 1 - config.max_return_drop)
    candidates = [_candidate(0.0, base, floor)]
    for ratio in RATIOS:
        policy, _ = train_exploration_policy(
            in_model.with_exploration_ratio(ratio), pretrained, dynamics, offline, epochs, name=f"ratio {ratio:g}"
        )
        candidates.append(_candidate(ratio, model_return(policy, dynamics), floor))
    best = max((one for one in candidates[1:] if one.allowed), key=lambda one: one.uncertainty, default=candidates[0])
    for one in candidates if not is_past(ctx.state.reached, "choose_ratio", ctx.round) else ():
        mark = " (chosen)" if one is best else "" if one.allowed else f" (below {floor:.4g})"
        ctx.logger.log(f"2 ratio {one.ratio:g}: u {one.uncertainty:.4g}, least return {one.pessimistic:.4g}{mark}")
    return RatioChoice(best.ratio, floor, candidates, len(RATIOS) * epochs * config.step_per_epoch)


def _candidate(ratio: float, found: ModelReturn, floor: float) -> Candidate:
    """NaN, of a policy that an elite diverges under, is above no floor."""
    allowed = math.isfinite(found.mean_uncertainty) and found.pessimistic >= floor
    return Candidate(ratio, found.mean_uncertainty, found.pessimistic, allowed)
