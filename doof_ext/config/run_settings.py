"""The settings that every run has, whichever method it trains. Imports neither torch nor a simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from doof_ext.config.presets import PRESETS
from doof_ext.config.rules import option
from doof_ext.tasks import TaskSpec, get_spec, spec_of_env


@dataclass
class RunSettings:
    """What every run is given, DOOF's and the baselines': task, data, budgets, and where it goes.

    Until resolved, None may mean: the task's value or the preset's.
    """

    TITLES: ClassVar[Mapping[str, str]] = {}
    """The parts that settings belong to, with their titles in ``--help``."""

    task: str = option("hopper-medium-v2", "the task")
    preset: str = option("paper", "budgets", choices=tuple(PRESETS), after_pretraining=True)
    seed: int = option(1, "seeds everything", ge=0, lt=2**32)
    env_id: str | None = option(None, "a Gymnasium environment of your own instead of a task's")
    max_episode_steps: int | None = option(None, "time limit of --env-id, where it is registered without one")
    source: str = option(
        "auto",
        "where D comes from: auto, d4rl, hdf5:FILE, minari:ID or recipe",
        resumable=True,  # with the same content, which its hash decides
    )
    download: bool = option(
        False,
        "fetch D4RL's file of the task where it is not on this machine",
        resumable=True,
        goes_with=("source", ("auto", "d4rl")),
    )
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
        None, "end the run after this stage; --resume goes on", choices=("pretrain",), resumable=True
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
    batch_size: int = option(256, "rows of a batch", stage="policy", ge=1)
    step_per_epoch: int = option(1000, "gradient steps of an epoch", stage="policy", ge=1)
    eval_episodes: int = option(
        10,
        "real episodes per evaluation; 0: none, so that only the online steps touch the environment",
        stage="policy",
        ge=0,
    )
    epoch: int = option(None, "epochs of pretraining", stage="pretrain", ge=1, default_from="preset")
    online_steps: int = option(None, "real environment steps", stage="collect", ge=2, default_from="preset")
    finetune_epochs: int = option(
        None, "epochs of policy finetuning", stage="finetune_policy", ge=1, default_from="preset"
    )
    final_episodes: int = option(
        None,
        "episodes in which the three policies are evaluated once more at the end; 0 for none",
        stage="measure",
        ge=0,
        default_from="preset",
        after_pretraining=True,
    )
    render: bool = option(False, "save a short video of the finetuned policy", stage="measure", resumable=True)

    @property
    def spec(self) -> TaskSpec:
        """The task's spec; with ``env_id`` that environment's, whose rule of termination nothing asks for."""
        if self.env_id is None:
            return get_spec(self.task)
        return spec_of_env(self.task, self.env_id, "never", self.max_episode_steps)

    @property
    def most_rounds(self) -> int:
        """Rounds of what follows pretraining, at most."""
        return 1

    @property
    def has_env(self) -> bool:
        """Whether the run has an environment of its own."""
        return True

    @property
    def has_session(self) -> bool:
        """Whether its online steps may be an OnlineSession's."""
        return False

    @property
    def given_steps(self) -> tuple[str, ...] | None:
        """Files of online steps that the run does not take itself."""
        return None

    @property
    def folder(self) -> str:
        """What the run directory's parent is named by: the method, and what is not its default."""
        raise NotImplementedError

    def stage_after(self, stage: str) -> str:
        """The stage that follows one that a run may be stopped after."""
        raise NotImplementedError
