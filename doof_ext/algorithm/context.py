"""What every stage shares, and how a stage is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from doof_ext.checkpointing.training_state import TrainingState
from doof_ext.config import Config, RunSettings
from doof_ext.data.dataset import Dataset
from doof_ext.data.journal import OnlineJournal
from doof_ext.evaluation.model_return import ModelReturns
from doof_ext.learning.factory import build_policy
from doof_ext.learning.policy import ModelBasedPolicy
from doof_ext.tasks import TaskSpec


class StageResult(Protocol):
    """What a stage returns: its outputs, and how many steps they took."""

    @property
    def steps(self) -> dict[str, int]:
        """``gradient_steps`` and ``env_steps``, as the summary lists them."""


def _ignore(stage: str, result: StageResult) -> None:
    pass


def _none(round: int) -> None:
    pass


def _in_memory(round: int) -> OnlineJournal:
    return OnlineJournal()


Context = TypeVar("Context", bound="RunContext")
PolicyBuilder = Callable[..., ModelBasedPolicy]
"""What builds a policy, with factory.build_policy's arguments."""


@dataclass(frozen=True)
class RunContext:
    """The companions of every stage of any run; a stage's own arguments are its science.

    Attributes:
        config: The settings.
        env: The real environment.
        logger: Where curves and lines go.
        state: The registry of what a checkpoint holds.
        round: The round of stages 2-5.
        first_timestep: Gradient steps of the policy before this stage, where its curve continues.
        on_result: Called with the name and the result of each stage that ends: who wants to keep it, does.
        open_journal: The journal of the round's online steps, with those that it has already.
    """

    config: RunSettings
    env: Any
    logger: Any
    state: TrainingState = dataclasses.field(default_factory=TrainingState)
    round: int = 1
    first_timestep: int = 0
    on_result: Callable[[str, Any], None] = _ignore
    open_journal: Callable[[int], OnlineJournal] = _in_memory

    @property
    def spec(self) -> TaskSpec:
        """The task, with the environment's dimensions and bounds."""
        return self.env.spec

    def after(self: Context, gradient_steps: int) -> Context:
        """The same for the stage that follows one of so many gradient steps."""
        return dataclasses.replace(self, first_timestep=self.first_timestep + gradient_steps)


@dataclass(frozen=True)
class StageContext(RunContext):
    """The companions of every stage of Algorithm 1.

    Attributes:
        config: The settings.
        taken_outside: The round's online steps, where they were taken outside the run, else None.
        model_return: What estimates a policy's return in a dynamics; None for nothing.
        data_return: The mean return of D's episodes.
        logs_curve: Whether trainings are rows of the run's curve.
        build_policy: What builds the policies.
    """

    config: Config
    taken_outside: Callable[[int], Dataset | None] = _none
    model_return: ModelReturns | None = None
    data_return: float | None = None
    logs_curve: bool = True
    build_policy: PolicyBuilder = build_policy

    def at(self, round: int, first_timestep: int) -> StageContext:
        """The same for another round, or another place on the curve."""
        return dataclasses.replace(self, round=round, first_timestep=first_timestep)

    def with_exploration_ratio(self, ratio: float) -> StageContext:
        """The same with this ratio of λ_on to λ_off."""
        coef = ratio * self.config.penalty_coef
        return dataclasses.replace(
            self, config=dataclasses.replace(self.config, exploration_ratio=ratio, exploration_coef=coef)
        )

    def with_starts_of(self, dataset: Dataset | None) -> StageContext:
        """The same, with estimates of policies from first states of this dataset, where there is one, too."""
        if self.model_return is None or dataset is None:
            return self
        return dataclasses.replace(self, model_return=self.model_return.with_starts_of(dataset))


Inputs = ParamSpec("Inputs")
Result = TypeVar("Result", bound=StageResult)


def run_stage(
    stage: Callable[Concatenate[Context, Inputs], Result], ctx: Context, *inputs: Inputs.args, **options: Inputs.kwargs
) -> Result:
    """Runs a stage under its own seed, so that it depends on its inputs alone, and records its time and steps."""
    name = stage.__name__
    with ctx.state.stage(name, ctx.round, ctx.config.seed, ctx.env) as record:
        result = stage(ctx, *inputs, **options)
        record.update(result.steps)
    ctx.on_result(name, result)
    return result
