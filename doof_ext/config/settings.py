"""Every setting of a run: one typed dataclass whose fields say their own rules.

The command line, the presets, validation and resumption derive from it. Imports neither torch nor a simulator, so that
``--help`` and a wrong argument answer at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from doof_ext.config.presets import PRESETS
from doof_ext.config.rules import option, text_of
from doof_ext.config.run_settings import RunSettings
from doof_ext.tasks import TaskSpec, get_spec, spec_of_data, spec_of_env, task_names
from doof_ext.uncertainty import estimator_names, foreign_names

STAGES = {
    "run": "the run",
    "policy": "policy (stages 1, 2, 5)",
    "uncertainty": "uncertainty estimators",
    "mobile": "MOBILE only (--algo mobile)",
    "iql": "IQL in the model only (--algo doof-iql)",
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


IN_MODEL = "doof-iql"
"""The algorithm that is no kit's: see baselines.in_model."""


@dataclass
class Config(RunSettings):
    """Settings of one DOOF run. Until resolved, None may mean: the task's value (Tables 4 and 5) or the preset's."""

    TITLES: ClassVar[Mapping[str, str]] = STAGES

    preset: str = option(
        "paper", "budgets, the guard, and which policies are returned", choices=tuple(PRESETS), after_pretraining=True
    )
    algo: str = option(
        "mopo",
        "the offline algorithm; doof-iql, IQL beside a model, is experimental",
        choices=("mopo", "mobile", IN_MODEL),
    )
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
    stop_after: str | None = option(
        None, "end the run after this stage; --resume goes on", choices=("pretrain", "explore"), resumable=True
    )
    batch_size: int = option(256, "rows of a batch, for policy and dynamics", stage="policy", ge=1)
    auto_alpha: bool = option(
        None, "learn the entropy temperature; true, but for one of MOBILE's tasks", stage="policy", default_from="task"
    )
    alpha: float = option(
        0.2, "the temperature where it is not learned", stage="policy", ge=0, goes_with=("auto_alpha", (False,))
    )
    target_entropy: float | None = option(
        None, "minus the action dimension by default", stage="policy", goes_with=("auto_alpha", (True,))
    )
    alpha_lr: float = option(
        1e-4, "learning rate of the temperature", stage="policy", gt=0, goes_with=("auto_alpha", (True,))
    )
    num_samples: int = option(
        10,
        "mobile: next states per elite that the inconsistency is a mean over",
        stage="uncertainty",
        ge=1,
        goes_with=("uncertainty", ("mobile", *foreign_names())),
    )
    hash_bits: int = option(
        32,
        "count: bits of a code",
        stage="uncertainty",
        ge=1,
        le=62,
        goes_with=("uncertainty", ("count", *foreign_names())),
    )
    count_type: str = option(
        "AVG",
        "count: mean of the members' counts, or less or plus --count-coef deviations",
        stage="uncertainty",
        choices=("AVG", "LC", "UC"),
        goes_with=("uncertainty", ("count", *foreign_names())),
    )
    count_coef: float = option(
        0.5,
        "count: standard deviations that LC takes off and UC adds",
        stage="uncertainty",
        ge=0,
        goes_with=("count_type", ("LC", "UC")),
    )
    num_q_ensemble: int = option(2, "critics", stage="mobile", goes_with=("algo", ("mobile",)), ge=1)
    deterministic_backup: bool = option(
        True, "leave the entropy out of the Q target", stage="mobile", goes_with=("algo", ("mobile",))
    )
    max_q_backup: bool = option(
        False, "the Q target is the best of ten sampled next actions", stage="mobile", goes_with=("algo", ("mobile",))
    )
    nonnegative_target: bool = option(
        True,
        "clamp the Q target at 0, as the kit does; wrong for negative returns",
        stage="mobile",
        goes_with=("algo", ("mobile",)),
    )
    expectile: float | None = option(None, "of the value's regression", stage="iql", gt=0, lt=1, default_from="method")
    advantage_temperature: float | None = option(
        None, "inverse temperature of the policy's weights", stage="iql", ge=0, default_from="method"
    )
    normalize_observations: bool | None = option(
        None, "give the networks observations less D's mean over its spread", stage="iql", default_from="method"
    )
    normalize_rewards: bool | None = option(
        None,
        "train on rewards, with u in them, times 1000 over the span of D's episode returns",
        stage="iql",
        default_from="method",
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
    real_ratio: float = option(0.05, "part of a batch from D", stage="pretrain", ge=0, le=1)
    policy_selection: str = option(
        None,
        "the policy that stage 1 returns: the last epoch's (the paper), or the one whose --horizon steps in the model "
        "are worth most (the elites' mean less their spread), and with --guard on stage 5's by the same; needs no "
        "environment",
        stage="pretrain",
        choices=("last", "model_return"),
        default_from="preset",
    )
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
        goes_with=("exploration_ratio", ("auto",)),
    )
    explore_real_ratio: float = option(0.025, "part of a batch from D", stage="explore", ge=0, le=1)
    explore_uncertainty_ratio: float = option(0.025, "part of a batch from D_u", stage="explore", ge=0, le=1)
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
    finetune_real_ratio: float = option(0.025, "part of a batch from D", stage="finetune_policy", ge=0, le=1)
    finetune_online_ratio: float = option(
        0.0, "part of a batch from D_on; Appendix B.5 has none", stage="finetune_policy", ge=0, le=1
    )
    start_ratio: float = option(
        0.5, "part of the rollouts of stages 2 and 5 that starts from D_u, or D_on", stage="finetune_policy", ge=0, le=1
    )
    horizon: int | Literal["episode"] | None = option(
        None,
        "steps of eval/model_return, the policy's return in the dynamics from 20 first states of D; 0 for none, "
        "episode for the time limit; by default episode where nothing else judges policies (--policy-selection "
        "model_return, --eval-episodes 0), else 50",
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

    @property
    def explores(self) -> bool:
        """Whether there is a stage 2 that trains."""
        return self.control is None and (self.exploration_ratio == "auto" or bool(self.exploration_coef))

    @property
    def candidate_epochs(self) -> int:
        """Epochs for which ``--exploration-ratio auto`` trains each of RATIOS: a quarter of stage 2's, rounded up."""
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

    @property
    def has_env(self) -> bool:
        """Whether the run has an environment of its own."""
        return self.env != "none"

    @property
    def has_session(self) -> bool:
        """Whether its online steps may be an OnlineSession's."""
        return self.algo != IN_MODEL

    @property
    def given_steps(self) -> tuple[str, ...] | None:
        """Files of online steps that the run does not take itself."""
        return self.online_data

    @property
    def folder(self) -> str:
        """What the run directory's parent is named by: the method, and what is not its default."""
        name = "doof" if self.algo == "mopo" else f"doof&algo={self.algo}"
        name += f"&uncertainty={self.uncertainty}"
        if self.exploration_ratio is None:
            name += f"&exploration_coef={self.exploration_coef:g}"
        else:
            name += f"&exploration_ratio={text_of(self.exploration_ratio)}"
        if self.explore_rollouts != "bonus":
            name += f"&explore_rollouts={self.explore_rollouts}"
        return name if self.control is None else f"{name}&control={self.control}"

    def stage_after(self, stage: str) -> str:
        """The stage that follows stage 1 or 2."""
        if self.control is not None:
            return "finetune_policy"
        if stage == "pretrain":
            return "choose_ratio" if self.exploration_ratio == "auto" else "explore"
        return "collect"
