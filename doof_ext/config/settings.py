"""Every setting of a run: one typed dataclass whose fields say their own rules.

The command line, the presets, validation and resumption derive from it. Imports neither torch nor a simulator, so that
``--help`` and a wrong argument answer at once.
"""

import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from doof_ext.config.presets import PRESETS
from doof_ext.tasks import TaskSpec, get_spec, spec_of_data, spec_of_env, task_names
from doof_ext.uncertainty import estimator_names

STAGES = {
    "run": "the run",
    "policy": "policy (stages 1, 2, 5)",
    "uncertainty": "uncertainty estimators",
    "mobile": "MOBILE only (--algo mobile)",
    "rollouts": "model rollouts (stages 1, 2, 5)",
    "dynamics": "dynamics (stages 1, 4)",
    "pretrain": "stage 1, offline pretraining (Appendix B.1)",
    "explore": "stage 2, uncertainty policy (Appendix B.2)",
    "collect": "stage 3, online collection (Appendix B.3)",
    "finetune_dynamics": "stage 4, dynamics finetuning (Appendix B.4)",
    "finetune_policy": "stage 5, policy finetuning (Appendix B.5)",
    "measure": "what is measured",
}
"""The stages and parts of a run that settings belong to, with their titles in ``--help``."""

CONTROLS = ("no-online-data", "extra-training")
"""The kinds of control, the strictest first: it gives the dynamics, too, the training that DOOF's stage 4 gives it."""

RATIOS = (0.25, 0.5, 1.0, 2.0)
"""Those that ``--exploration-ratio auto`` tries: the paper's (Figure 6)."""

_AFTER_PRETRAINING = ("explore", "collect", "finetune_dynamics", "finetune_policy")


@dataclass(frozen=True)
class Rules:
    """What a field says of itself.

    Attributes:
        help: Its line of help.
        stage: What it belongs to, a key of STAGES.
        choices: The values it may take.
        ge, gt, le, lt: Bounds of the value; of each number, where there are several.
        default_from: Who fills it in where the user leaves it open: "task" or "preset".
        after_pretraining: Whether stage 1 does not depend on it.
        resumable: Whether a run may be resumed with another value, since no result depends on it.
    """

    help: str
    stage: str
    choices: Sequence[str] | None = None
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    default_from: str | None = None
    after_pretraining: bool = False
    resumable: bool = False

    def violation(self, value: Any) -> str | None:
        """What a value must be, where it is not that; None where it is. None as a value fits."""
        plain = value is None or isinstance(value, bool | str)
        numbers = value if isinstance(value, tuple) else [] if plain else [value]
        bounds = (self.ge, self.gt, self.le, self.lt)
        if bounds == (None,) * 4 or all(self._within(number) for number in numbers):
            return None
        if self.ge is not None and self.le is not None:
            right = f"between {_short(self.ge)} and {_short(self.le)}"
        else:
            words = zip(("at least", "above", "at most", "below"), bounds, strict=True)
            right = " and ".join(f"{word} {_short(bound)}" for word, bound in words if bound is not None)
        return f"numbers {right}" if isinstance(value, tuple) else right

    def _within(self, number: float) -> bool:
        return (
            (self.ge is None or number >= self.ge)
            and (self.gt is None or number > self.gt)
            and (self.le is None or number <= self.le)
            and (self.lt is None or number < self.lt)
        )


def _short(bound: float) -> str:
    power = int(bound).bit_length() - 1
    return f"2**{power}" if power > 16 and bound == 2**power else f"{bound:g}"


def option(default: Any, help: str, *, stage: str = "run", **rules: Any) -> Any:
    """A field with its default, its line of help, and its rules (see :class:`Rules`)."""
    rules.setdefault("after_pretraining", stage in _AFTER_PRETRAINING or rules.get("resumable", False))
    return dataclasses.field(default=default, metadata={"rules": Rules(help, stage, **rules)})


@dataclass
class Config:
    """Settings of one DOOF run. Until resolved, None may mean: the task's value (Tables 4 and 5) or the preset's."""

    task: str = option("hopper-medium-v2", "the task")
    preset: str = option(
        "paper", "budgets, and whether there is a guard", choices=tuple(PRESETS), after_pretraining=True
    )
    seed: int = option(1, "seeds everything", ge=0, lt=2**32)
    algo: str = option("mopo", "the offline algorithm", choices=("mopo", "mobile"))
    uncertainty: str = option(
        None, f"estimator of u(s, a): {', '.join(estimator_names())}; aleatoric by default, with MOBILE its own"
    )
    exploration_ratio: float | Literal["auto"] | None = option(
        1.0,
        "lambda_on : lambda_off; 0 collects with the pretrained policy itself; auto tries several in the model and "
        "takes the one that meets the most u, see --max-return-drop",
        ge=0,
        after_pretraining=True,
    )  # None where lambda_off is 0 and lambda_on is not
    exploration_coef: float | None = option(
        None, "lambda_on by itself, instead of a ratio to --penalty-coef", ge=0, after_pretraining=True
    )  # None with an automatic ratio
    rounds: int | Literal["auto"] = option(
        1,
        "how often stages 2-5 are run (Figure 6c); auto: while the guard accepts and new steps are predicted better, "
        "--online-steps in all, --round-steps in each",
        ge=1,
        after_pretraining=True,
    )
    round_steps: int | None = option(
        None,
        "real environment steps of a round of --rounds auto; a quarter of --online-steps by default",
        ge=2,
        after_pretraining=True,
    )
    control: str | None = option(
        None,
        "an arm without online data to compare with. no-online-data: stages 4 and 5 with D in D_on's place; "
        "extra-training: stage 5's gradient steps of plain MOPO in the pretrained dynamics",
        choices=CONTROLS,
        after_pretraining=True,
    )
    env_id: str | None = option(None, "a Gymnasium environment of your own instead of a task's; see --termination")
    env: str | None = option(
        None,
        "none: no environment anywhere; the task is read off --source hdf5:FILE, --action-low, --action-high and "
        "--termination, nothing is evaluated, and the online steps come from you",
        choices=("none",),
    )
    action_low: tuple[float, ...] | None = option(
        None, "with --env none: least action in your units, of each dimension or one number for all"
    )
    action_high: tuple[float, ...] | None = option(None, "with --env none: largest action, likewise")
    termination: str | None = option(
        None, "when episodes of --env-id or --env none end: module:function of (obs, act, next_obs), or never"
    )
    max_episode_steps: int | None = option(None, "time limit of --env-id, where it is registered without one")
    source: str = option(
        "auto",
        "where D comes from: auto, d4rl, hdf5:FILE, minari:ID or recipe",
        resumable=True,  # with the same content, which its hash decides
    )
    download: bool = option(False, "fetch D4RL's file of the task where it is not on this machine", resumable=True)
    dataset_steps: int | None = option(
        None,
        "steps of a recipe dataset; as many as D4RL's by default",
        ge=2,
        after_pretraining=True,  # but for the data, whose hash is compared
    )
    physics: str = option(
        "d4rl",
        "the environment's: D4RL's bodies in Gymnasium, as shipped, or MuJoCo 2.1 itself",
        choices=("d4rl", "gymnasium", "mujoco-py"),
    )
    device: str = option("cpu", "where networks and buffers live", choices=("cpu", "cuda"))
    threads: int | None = option(None, "torch threads; all cores by default", ge=1, le=1024, resumable=True)
    matmul_precision: str = option(
        "highest",
        "of float32 products (torch.set_float32_matmul_precision): high and medium are for GPUs and bfloat16 units",
        choices=("highest", "high", "medium"),
    )
    logdir: str = option("log", "run directories go to LOGDIR/TASK/…", resumable=True)
    resume: str | None = option(
        None, "resume the run in this directory; without one, the newest of these settings", resumable=True
    )
    stop_after: str | None = option(
        None, "end the run after this stage; --resume goes on", choices=("pretrain", "explore"), resumable=True
    )
    pretrained: str | None = option(
        None, "take stage 1 from the run in this directory, of the same stage-1 settings", after_pretraining=True
    )
    checkpoint_every: int = option(5, "epochs between checkpoints", ge=1, resumable=True)
    wandb: str = option(
        "auto",
        "Weights & Biases; auto is online with an API key, else offline",
        choices=("auto", "online", "offline", "off"),
        resumable=True,
    )

    actor_lr: float = option(None, "learning rate of the actor", stage="policy", gt=0, default_from="task")
    critic_lr: float = option(None, "learning rate of the critics", stage="policy", gt=0, default_from="task")
    hidden_dims: tuple[int, ...] = option(
        None, "hidden layers of actor and critics", stage="policy", ge=1, default_from="task"
    )
    gamma: float = option(0.99, "discount", stage="policy", ge=0, le=1)
    tau: float = option(0.005, "rate at which target networks follow", stage="policy", ge=0, le=1)
    auto_alpha: bool = option(
        None, "learn the entropy temperature; true, but for one of MOBILE's tasks", stage="policy", default_from="task"
    )
    alpha: float = option(0.2, "the temperature where it is not learned", stage="policy", ge=0)
    target_entropy: float | None = option(None, "minus the action dimension by default", stage="policy")
    alpha_lr: float = option(1e-4, "learning rate of the temperature", stage="policy", gt=0)
    batch_size: int = option(256, "rows of a batch, for policy and dynamics", stage="policy", ge=1)
    step_per_epoch: int = option(1000, "gradient steps of an epoch", stage="policy", ge=1)
    eval_episodes: int = option(
        10, "real episodes per evaluation; 0: none, so that only stage 3 touches the environment", stage="policy", ge=0
    )

    num_samples: int = option(
        10, "mobile: next states per elite that the inconsistency is a mean over", stage="uncertainty", ge=1
    )
    hash_bits: int = option(32, "count: bits of a code", stage="uncertainty", ge=1, le=62)
    count_type: str = option(
        "AVG",
        "count: mean of the members' counts, or less or plus --count-coef deviations",
        stage="uncertainty",
        choices=("AVG", "LC", "UC"),
    )
    count_coef: float = option(
        0.5, "count: standard deviations that LC takes off and UC adds", stage="uncertainty", ge=0
    )

    num_q_ensemble: int = option(2, "critics", stage="mobile", ge=1)
    deterministic_backup: bool = option(True, "leave the entropy out of the Q target", stage="mobile")
    max_q_backup: bool = option(False, "the Q target is the best of ten sampled next actions", stage="mobile")
    nonnegative_target: bool = option(
        True, "clamp the Q target at 0, as the kit does; wrong for negative returns", stage="mobile"
    )

    rollout_freq: int = option(1000, "gradient steps between rollouts", stage="rollouts", ge=1)
    rollout_batch_size: int = option(None, "start states per rollout", stage="rollouts", ge=1, default_from="preset")
    rollout_length: int = option(None, "steps of a rollout", stage="rollouts", ge=1, default_from="task")
    model_retain_epochs: int = option(5, "rollouts that the fake buffer holds", stage="rollouts", ge=1)
    penalty_coef: float = option(None, "lambda_off", stage="rollouts", ge=0, default_from="task")

    dynamics_lr: float = option(None, "learning rate of the dynamics", stage="dynamics", gt=0, default_from="task")
    dynamics_hidden_dims: tuple[int, ...] = option(
        None, "hidden layers of a member", stage="dynamics", ge=1, default_from="task"
    )
    dynamics_weight_decay: tuple[float, ...] = option(
        None, "weight decay of each layer", stage="dynamics", ge=0, default_from="task"
    )
    n_ensemble: int = option(7, "members", stage="dynamics", ge=1)
    n_elites: int = option(5, "members that predict", stage="dynamics", ge=1)
    dynamics_epochs: int | None = option(
        None, "most epochs of stages 1 and 4; no cap in the paper preset", stage="dynamics", ge=1
    )
    max_epochs_since_update: int = option(
        5, "epochs without an improvement of 1 % before training stops", stage="dynamics", ge=1
    )
    holdout_ratio: float = option(0.2, "held-out part of the data, at most 1000 rows", stage="dynamics", ge=0, le=1)
    logvar_loss_coef: float = option(0.01, "weight of the variance bounds in the loss", stage="dynamics", ge=0)

    epoch: int = option(None, "epochs of pretraining", stage="pretrain", ge=1, default_from="preset")
    real_ratio: float = option(0.05, "part of a batch from D", stage="pretrain", ge=0, le=1)

    explore_epochs: int = option(
        None, "epochs of training the uncertainty policy", stage="explore", ge=1, default_from="preset"
    )
    uncertainty_buffer_size: int = option(10_000, "transitions of D_u", stage="explore", ge=1)
    explore_rollouts: str = option(
        "bonus",
        "reward of stage 2's model rollouts: r + lambda_on u, as D_u's, or stage 1's r - lambda_off u",
        stage="explore",
        choices=("bonus", "penalty"),
    )
    max_return_drop: float = option(
        0.5,
        "with --exploration-ratio auto: part of the pretrained policy's pessimistic return in the model that an "
        "exploration policy may lose; of a negative return 0.5 stands for twice as much",
        stage="explore",
        ge=0,
        lt=1,
    )
    explore_real_ratio: float = option(0.025, "part of a batch from D", stage="explore", ge=0, le=1)
    explore_uncertainty_ratio: float = option(0.025, "part of a batch from D_u", stage="explore", ge=0, le=1)

    online_steps: int = option(None, "real environment steps", stage="collect", ge=2, default_from="preset")
    collect_deterministic: bool = option(False, "collect with mean actions instead of sampled ones", stage="collect")
    return_floor: float | None = option(
        None,
        "once the mean return of the exploration policy's episodes falls below this part of the pretrained policy's, "
        "that one takes the rest of the steps; of a negative return 0.5 stands for twice as much",
        stage="collect",
        gt=0,
        le=1,
    )
    explore_share: float | None = option(
        None,
        "part of the episodes that the exploration policy takes, the pretrained one the rest; all by default",
        stage="collect",
        ge=0,
        le=1,
    )
    max_action_change: tuple[float, ...] | None = option(
        None,
        "most that an action may differ from the one before it in an episode, in its units; of each dimension or one "
        "number for all",
        stage="collect",
        gt=0,
    )
    stop_rule: str | None = option(
        None,
        "module:function of (observation, action, next_observation), arrays: True ends the episode, as a truncation",
        stage="collect",
    )
    online_data: tuple[str, ...] | None = option(
        None,
        "with --resume: the steps that you collected, HDF5 files in D4RL's format or minari:ID; any number of steps",
        stage="collect",
        resumable=True,
    )

    finetune_dynamics_epochs: int | None = option(
        None,
        "epochs of stage 4, exactly; where open, --max-epochs-since-update decides",
        stage="finetune_dynamics",
        ge=1,
    )
    finetune_dynamics_steps: int = option(
        None, "gradient steps of an epoch of stage 4", stage="finetune_dynamics", ge=1, default_from="preset"
    )
    finetune_dynamics_online_ratio: float = option(
        0.5, "part of a batch from D_on", stage="finetune_dynamics", ge=0, le=1
    )

    guard: str = option(
        None,
        "on: a tenth of D_on is held out, a finetuned dynamics that is not better on it is refused, and stage 5 "
        "returns the best policy that it met, the pretrained one among them; off: the paper",
        stage="finetune_dynamics",
        choices=("on", "off"),
        default_from="preset",
    )

    finetune_epochs: int = option(
        None, "epochs of policy finetuning", stage="finetune_policy", ge=1, default_from="preset"
    )
    finetune_real_ratio: float = option(0.025, "part of a batch from D", stage="finetune_policy", ge=0, le=1)
    finetune_online_ratio: float = option(
        0.0, "part of a batch from D_on; Appendix B.5 has none", stage="finetune_policy", ge=0, le=1
    )
    start_ratio: float = option(
        0.5, "part of the rollouts of stages 2 and 5 that starts from D_u, or D_on", stage="finetune_policy", ge=0, le=1
    )

    final_episodes: int = option(
        None,
        "episodes in which the three policies are evaluated once more at the end; 0 for none",
        stage="measure",
        ge=0,
        default_from="preset",
        after_pretraining=True,
    )
    horizon: int = option(
        50,
        "steps of eval/model_return, the policy's return in the dynamics from 20 first states of D; 0 for none. "
        "50 take 1 to 2 % of an epoch",
        stage="measure",
        ge=0,
        after_pretraining=True,
    )
    distance_samples: int = option(
        None, "state-action pairs of each dynamics distance", stage="measure", ge=1, default_from="preset"
    )
    distance_task: str | None = option(
        None, "a task whose dataset the distance is measured on too (Figure 5)", stage="measure", resumable=True
    )
    render: bool = option(False, "save a short video of the finetuned policy", stage="measure", resumable=True)

    @property
    def explores(self) -> bool:
        """Whether there is a stage 2 that trains."""
        return self.control is None and (self.exploration_ratio == "auto" or bool(self.exploration_coef))

    @property
    def candidate_epochs(self) -> int:
        """Epochs for which ``--exploration-ratio auto`` trains each of RATIOS: a quarter of stage 2's."""
        return -(-self.explore_epochs // 4)

    @property
    def most_rounds(self) -> int:
        """Rounds of stages 2-5; with ``--rounds auto``, as many as the online steps suffice for."""
        if self.rounds != "auto":
            return self.rounds
        return max(1, self.online_steps // self._round_steps)

    def steps_of_round(self, round: int) -> int:
        """Real environment steps of a round; the last one of ``--rounds auto`` takes what the others leave."""
        if self.rounds != "auto":
            return self.online_steps
        last = round == self.most_rounds
        return self.online_steps - (round - 1) * self._round_steps if last else self._round_steps

    @property
    def _round_steps(self) -> int:
        return self.round_steps or max(2, self.online_steps // 4)

    @property
    def spec(self) -> TaskSpec:
        """The task's spec; with ``env_id`` that environment's, with ``env`` "none" that of the data."""
        if self.env == "none" and self.task not in task_names():
            bounds = self.action_low, self.action_high
            return spec_of_data(self.task, self.termination, *bounds, self.max_episode_steps)
        if self.env_id is None:
            return get_spec(self.task)
        return spec_of_env(self.task, self.env_id, self.termination, self.max_episode_steps)


def rules_by_name() -> dict[str, Rules]:
    """The rules of every setting."""
    return {field.name: field.metadata["rules"] for field in dataclasses.fields(Config)}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; lists of JSON are tuples here, and a whole number is a float, too."""
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(fits(item, typing.get_args(hint)[0]) for item in value)
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if typing.get_args(hint):  # a union
        return any(fits(value, part) for part in typing.get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is hint


def words_of(hint: Any) -> list[str]:
    """The words that a field of this type takes in place of a number."""
    literals = [part for part in typing.get_args(hint) if typing.get_origin(part) is Literal]
    return [word for part in literals for word in typing.get_args(part)]


def flag(name: str) -> str:
    """A setting's flag on the command line."""
    return "--" + name.replace("_", "-")


def text_of(value: float | str) -> str:
    """A number, or the word that stands in its place, in short."""
    return value if isinstance(value, str) else f"{value:g}"
