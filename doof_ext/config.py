"""Every setting of a run: one typed dataclass, grouped by stage; the command line and the presets derive from it.

Imports neither torch nor a simulator, so that ``--help`` and a wrong argument answer at once.
"""

import argparse
import dataclasses
import math
import typing
from dataclasses import dataclass, field

from doof_ext.data import check_source
from doof_ext.errors import UserError
from doof_ext.resume import settings_to_go_on_with
from doof_ext.tasks import get_spec, name_of_env, spec_of_env
from doof_ext.uncertainty import check_estimator, estimator_names
from doof_ext.uncertainty.defaults import task_defaults


def option(default, help, choices=None):
    """A setting with its default and its line of help."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass
class Config:
    """Settings of one DOOF run. None means: the task's value (Tables 4 and 5) or the preset's."""

    # The run
    task: str = option("hopper-medium-v2", "the task")
    preset: str = option("paper", "budgets; never changes the algorithm", ("paper", "lite", "quick", "smoke"))
    seed: int = option(1, "seeds everything")
    algo: str = option("mopo", "the offline algorithm", ("mopo", "mobile"))
    uncertainty: str | None = option(
        None, f"estimator of u(s, a): {', '.join(estimator_names())}; aleatoric by default, with MOBILE its own"
    )
    exploration_ratio: float = option(1.0, "lambda_on : lambda_off; 0 collects with the pretrained policy itself")
    rounds: int = option(1, "how often stages 2-5 are run (Figure 6c)")
    control: str | None = option(None, "extra-training: stages 2-4 left out; stage 5's gradient steps of plain MOPO "
                                 "in the pretrained dynamics", ("extra-training",))  # fmt: skip
    env_id: str | None = option(None, "a Gymnasium environment of your own instead of a task's; see --termination")
    termination: str | None = option(None, "when its episodes end: module:function of (obs, act, next_obs), or never")
    max_episode_steps: int | None = option(None, "time limit of --env-id, where it is registered without one")
    source: str = option("auto", "where D comes from: auto, d4rl, hdf5:FILE, minari:ID or recipe")
    download: bool = option(False, "fetch D4RL's file of the task where it is not on this machine")
    dataset_steps: int | None = option(None, "steps of a recipe dataset; as many as D4RL's by default")
    physics: str = option("d4rl", "the environment's: D4RL's bodies in Gymnasium, as shipped, or MuJoCo 2.1 itself",
                          ("d4rl", "gymnasium", "mujoco-py"))  # fmt: skip
    device: str = option("cpu", "where networks and buffers live", ("cpu", "cuda"))
    threads: int | None = option(None, "torch threads; all cores by default")
    logdir: str = option("log", "run directories go to LOGDIR/TASK/…")
    resume: str | None = option(None, "go on with the run in this directory; without one, the newest of these settings")
    pretrained: str | None = option(None, "take stage 1 from the run in this directory, of the same stage-1 settings")
    checkpoint_every: int = option(5, "epochs between checkpoints")
    wandb: str = option("auto", "Weights & Biases; auto is online with an API key, else offline",
                        ("auto", "online", "offline", "off"))  # fmt: skip

    # Policy (stages 1, 2, 5)
    actor_lr: float | None = option(None, "learning rate of the actor")
    critic_lr: float | None = option(None, "learning rate of the critics")
    hidden_dims: tuple[int, ...] | None = option(None, "hidden layers of actor and critics")
    gamma: float = option(0.99, "discount")
    tau: float = option(0.005, "rate at which target networks follow")
    auto_alpha: bool | None = option(None, "learn the entropy temperature; true, but for one of MOBILE's tasks")
    alpha: float = option(0.2, "the temperature where it is not learned")
    target_entropy: float | None = option(None, "minus the action dimension by default")
    alpha_lr: float = option(1e-4, "learning rate of the temperature")
    batch_size: int = option(256, "rows of a batch, for policy and dynamics")
    step_per_epoch: int = option(1000, "gradient steps of an epoch")
    eval_episodes: int = option(10, "real episodes per evaluation")

    # Uncertainty estimators
    num_samples: int = option(10, "mobile: next states per elite that the inconsistency is a mean over")
    hash_bits: int = option(32, "count: bits of a code, at most 62")
    count_type: str = option("AVG", "count: mean of the members' counts, or less or plus --count-coef deviations",
                             ("AVG", "LC", "UC"))  # fmt: skip
    count_coef: float = option(0.5, "count: standard deviations that LC takes off and UC adds")

    # MOBILE only (--algo mobile)
    num_q_ensemble: int = option(2, "critics")
    deterministic_backup: bool = option(True, "leave the entropy out of the Q target")
    max_q_backup: bool = option(False, "the Q target is the best of ten sampled next actions")
    nonnegative_target: bool = option(True, "clamp the Q target at 0, as the kit does; wrong for negative returns")

    # Rollouts (stages 1, 2, 5)
    rollout_freq: int = option(1000, "gradient steps between rollouts")
    rollout_batch_size: int | None = option(None, "start states per rollout")
    rollout_length: int | None = option(None, "steps of a rollout")
    model_retain_epochs: int = option(5, "rollouts that the fake buffer holds")
    penalty_coef: float | None = option(None, "lambda_off")

    # Dynamics (stages 1, 4)
    dynamics_lr: float | None = option(None, "learning rate of the dynamics")
    dynamics_hidden_dims: tuple[int, ...] | None = option(None, "hidden layers of a member")
    dynamics_weight_decay: tuple[float, ...] | None = option(None, "weight decay of each layer")
    n_ensemble: int = option(7, "members")
    n_elites: int = option(5, "members that predict")
    dynamics_epochs: int | None = option(None, "most epochs of stages 1 and 4; no cap in the paper preset")
    max_epochs_since_update: int = option(5, "epochs without an improvement of 1 % before training stops")
    holdout_ratio: float = option(0.2, "held-out part of the data, at most 1000 rows")
    logvar_loss_coef: float = option(0.01, "weight of the variance bounds in the loss")

    # Stage 1, offline pretraining
    epoch: int | None = option(None, "epochs of pretraining")
    real_ratio: float = option(0.05, "part of a batch from D")

    # Stage 2, uncertainty policy (Appendix B.2)
    explore_epochs: int | None = option(None, "epochs of training the uncertainty policy")
    uncertainty_buffer_size: int = option(10_000, "transitions of D_u")
    explore_real_ratio: float = option(0.025, "part of a batch from D")
    explore_uncertainty_ratio: float = option(0.025, "part of a batch from D_u")

    # Stage 3, online collection
    online_steps: int | None = option(None, "real environment steps")
    collect_deterministic: bool = option(False, "collect with mean actions instead of sampled ones")

    # Stage 4, dynamics finetuning (Appendix B.4)
    finetune_dynamics_steps: int | None = option(None, "gradient steps between validations")
    finetune_dynamics_online_ratio: float = option(0.5, "part of a batch from D_on")

    # Stage 5, policy finetuning (Appendix B.5)
    finetune_epochs: int | None = option(None, "epochs of policy finetuning")
    finetune_real_ratio: float = option(0.025, "part of a batch from D")
    finetune_online_ratio: float = option(0.0, "part of a batch from D_on; Appendix B.5 has none")
    start_ratio: float = option(0.5, "part of the rollouts of stages 2 and 5 that starts from D_u, or D_on")

    # What is measured
    distance_samples: int | None = option(None, "state-action pairs of each dynamics distance")
    distance_task: str | None = option(None, "a task whose dataset the distance is measured on too (Figure 5)")
    render: bool = option(False, "save a short video of the finetuned policy")

    @property
    def spec(self):
        """The task's spec; with ``env_id``, that environment's."""
        if self.env_id is None:
            return get_spec(self.task)
        return spec_of_env(self.task, self.env_id, self.termination, self.max_episode_steps)

    @property
    def exploration_coef(self) -> float:
        """λ_on."""
        return self.exploration_ratio * self.penalty_coef


_FROM_TASK = (
    "actor_lr", "critic_lr", "hidden_dims", "dynamics_lr", "dynamics_hidden_dims", "dynamics_weight_decay",
)  # fmt: skip

_PAPER = dict(
    epoch=3000, explore_epochs=30, online_steps=10_000, finetune_epochs=300, finetune_dynamics_steps=1000,
    rollout_batch_size=50_000, distance_samples=2000,
)  # fmt: skip
PRESETS = {
    "paper": _PAPER,
    "lite": _PAPER | dict(dynamics_epochs=20, epoch=100, explore_epochs=10, finetune_epochs=60),
    "quick": _PAPER | dict(
        dataset_steps=50_000, dynamics_epochs=8, epoch=6, explore_epochs=2, online_steps=4_000, finetune_epochs=5,
        finetune_dynamics_steps=200, rollout_batch_size=10_000, eval_episodes=5, distance_samples=1000,
    ),
    "smoke": _PAPER | dict(
        dataset_steps=4_000, dynamics_epochs=2, epoch=2, explore_epochs=1, online_steps=300, finetune_epochs=2,
        finetune_dynamics_steps=20, rollout_batch_size=1_000, step_per_epoch=50, rollout_freq=50, eval_episodes=2,
        uncertainty_buffer_size=1_000, distance_samples=200,
    ),
}  # fmt: skip
"""Budgets only. ``paper`` is the paper's; the others shorten it."""

_AT_LEAST_ONE = (
    "rounds", "threads", "batch_size", "step_per_epoch", "eval_episodes", "rollout_freq",
    "rollout_batch_size", "rollout_length", "model_retain_epochs", "n_ensemble", "n_elites", "dynamics_epochs",
    "max_epochs_since_update", "num_q_ensemble", "num_samples", "epoch", "explore_epochs", "uncertainty_buffer_size",
    "finetune_dynamics_steps", "finetune_epochs", "distance_samples", "checkpoint_every",
)  # fmt: skip
_AT_LEAST_TWO = ("dataset_steps", "online_steps")  # one row to learn from, one held out
_POSITIVE = ("actor_lr", "critic_lr", "alpha_lr", "dynamics_lr")
_NOT_NEGATIVE = ("seed", "exploration_ratio", "penalty_coef", "alpha", "logvar_loss_coef", "count_coef")
_FRACTIONS = (
    "gamma", "tau", "holdout_ratio", "real_ratio", "explore_real_ratio", "explore_uncertainty_ratio",
    "finetune_dynamics_online_ratio", "finetune_real_ratio", "finetune_online_ratio", "start_ratio",
)  # fmt: skip


def resolve(config: Config, given: set[str] = frozenset()) -> Config:
    """Fills what is left open from the preset and the task, and checks every value.

    ``given`` names the settings that the user chose; a preset does not touch those. Raises UserError.
    """
    if config.env_id is not None and "task" not in given:
        config = dataclasses.replace(config, task=name_of_env(config.env_id))
    if config.env_id is None and (config.termination, config.max_episode_steps) != (None, None):
        raise UserError("--termination and --max-episode-steps go with --env-id; a task has its own")
    spec = config.spec
    if config.preset not in PRESETS:
        raise UserError(f"unknown preset {config.preset!r}; choose {', '.join(PRESETS)}")
    preset = {name: value for name, value in PRESETS[config.preset].items() if name not in given}
    uncertainty = config.uncertainty or ("mobile" if config.algo == "mobile" else "aleatoric")
    config = dataclasses.replace(config, **preset, uncertainty=check_estimator(uncertainty))
    defaults = {name: getattr(spec, name) for name in _FROM_TASK} | {"auto_alpha": True}
    defaults |= task_defaults(spec, config.algo, config.uncertainty)[0]
    missing = [name for name in defaults if getattr(config, name) is None]
    config = dataclasses.replace(config, **{name: defaults[name] for name in missing})
    check_source(config.source)
    _check(config)
    if config.distance_task is not None and get_spec(config.distance_task).domain != spec.domain:
        raise UserError(f"--distance-task {config.distance_task} is another system than {spec.name}")
    return config


def _flag(name):
    return "--" + name.replace("_", "-")


def _check(config):
    def refuse(name, right):
        raise UserError(f"{_flag(name)} is {getattr(config, name)}; it must be {right}")

    for entry in dataclasses.fields(config):
        value, choices = getattr(config, entry.name), entry.metadata["choices"]
        if choices and value not in choices and (value, entry.default) != (None, None):
            refuse(entry.name, f"one of {', '.join(choices)}")
        if isinstance(value, float) and not math.isfinite(value):
            refuse(entry.name, "a finite number")
    for names, fits, right in (
        (_AT_LEAST_ONE, lambda value: value >= 1, "at least 1"),
        (_AT_LEAST_TWO, lambda value: value >= 2, "at least 2"),
        (_POSITIVE, lambda value: value > 0, "above 0"),
        (_NOT_NEGATIVE, lambda value: value >= 0, "at least 0"),
        (_FRACTIONS, lambda value: 0 <= value <= 1, "between 0 and 1"),
    ):
        for name in names:
            if getattr(config, name) is not None and not fits(getattr(config, name)):
                refuse(name, right)
    for name in ("hidden_dims", "dynamics_hidden_dims"):
        if not getattr(config, name) or min(getattr(config, name)) < 1:
            refuse(name, "widths of at least 1")
    if len(config.dynamics_weight_decay) != len(config.dynamics_hidden_dims) + 1:
        refuse("dynamics_weight_decay", f"{len(config.dynamics_hidden_dims) + 1} numbers, one per layer")
    if config.seed >= 2**32:
        refuse("seed", "below 2**32")
    if not config.logdir:
        raise UserError("--logdir is empty; name a folder")
    if min(config.dynamics_weight_decay) < 0:
        refuse("dynamics_weight_decay", "at least 0")
    if (config.threads or 1) > 1024:
        refuse("threads", "at most 1024")
    if not 1 <= config.hash_bits <= 62:
        refuse("hash_bits", "between 1 and 62")
    if config.uncertainty == "mobile" and config.n_elites < 2:
        refuse("n_elites", "at least 2 with mobile, whose u is the spread over elites")
    if config.n_elites > config.n_ensemble:
        refuse("n_elites", f"at most --n-ensemble, {config.n_ensemble}")
    for names in (
        ("explore_real_ratio", "explore_uncertainty_ratio"),
        ("finetune_real_ratio", "finetune_online_ratio"),
    ):
        if sum(getattr(config, name) for name in names) >= 1:
            refuse(names[1], f"below 1 together with {_flag(names[0])}, to leave room for model rollouts")
    if config.real_ratio >= 1:
        refuse("real_ratio", "below 1, to leave room for model rollouts")


class OneLineParser(argparse.ArgumentParser):
    """Reports a wrong argument as a UserError instead of a page of usage."""

    def error(self, message):
        raise UserError(message)


def _boolean(text):
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def make_parser(description: str) -> argparse.ArgumentParser:
    """The command line of :class:`Config`: a flag per field, under the kit's own flag names."""
    parser = OneLineParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    hints = typing.get_type_hints(Config)
    for entry in dataclasses.fields(Config):
        kind = next((part for part in typing.get_args(hints[entry.name]) if part is not type(None)), None)
        many = typing.get_origin(hints[entry.name]) is tuple or typing.get_origin(kind) is tuple
        scalar = typing.get_args(kind or hints[entry.name])[0] if many else kind or hints[entry.name]
        flags = [_flag(entry.name)]
        if entry.name == "eval_episodes":
            flags.append("--eval_episodes")  # as the kit spells it
        alone = True if scalar is bool else "" if entry.name == "resume" else None  # its value where none is given
        default = "" if entry.default is None else f" (default: {entry.default})"
        parser.add_argument(
            *flags, dest=entry.name, default=argparse.SUPPRESS, choices=entry.metadata["choices"],
            type=_boolean if scalar is bool else scalar, nargs="+" if many else None if alone is None else "?",
            **({} if alone is None else {"const": alone}), help=entry.metadata["help"].replace("%", "%%") + default,
        )  # fmt: skip
    return parser


def parse_args(description: str, argv=None) -> Config:
    """The resolved settings of a command line; raises UserError for what does not fit."""
    given = given_flags(argv, description)
    return config_of(given)


def config_of(given: dict) -> Config:
    """The resolved settings of a run, new or (with ``resume`` among those given) one that goes on; UserError."""
    if given.get("resume") is not None:
        given = settings_to_go_on_with(given, Config, resolve)
    return resolve(Config(**given), set(given))


def given_flags(argv=None, description: str = "") -> dict:
    """The settings that a command line gives, and no others; raises UserError for what cannot be read."""
    given = vars(make_parser(description).parse_args(argv))
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
