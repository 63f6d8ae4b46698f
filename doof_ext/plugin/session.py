"""What a kit runner imports under the kit's names when DOOF is plugged in, and the run that follows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from doof_ext import data, pipeline
from doof_ext.algorithm.policy_guard import PolicyGuard
from doof_ext.algorithm.pretrain import Pretraining, draw_fake_pairs, make_selection, select_policy
from doof_ext.checkpointing.random_state import seed_generators
from doof_ext.config import Config, config_from
from doof_ext.data import LoadedDataset
from doof_ext.data.dataset import dataset_from_columns
from doof_ext.errors import UserError
from doof_ext.experiment.experiment import Experiment
from doof_ext.experiment.run_directory import check_logdir
from doof_ext.kit import get_termination_fn, qlearning_dataset
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.policy import DOOFMobilePolicy, DOOFPolicy
from doof_ext.learning.policy_trainer import DOOFTrainer
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.plugin import namespaces
from doof_ext.progress import StageProgress, dynamics_epochs, policy_epochs
from doof_ext.tasks import TaskSpec, get_spec, gym_shim
from doof_ext.uncertainty import make_estimator

if TYPE_CHECKING:
    from doof_ext.plugin.runner import Runner


class Session:
    """One run of a kit script: the state that the script and DOOF share.

    Args:
        runner: What was read from the script's source.
        given: The settings of DOOF's flags.
    """

    def __init__(self, runner: Runner, given: Mapping[str, Any]) -> None:
        self.runner, self.given = runner, dict(given)
        self.summary: dict[str, Any] | None = None
        self._config: Config | None = None
        self._experiment: Experiment | None = None
        self._loaded: LoadedDataset | None = None
        self._dynamics_steps = 0

    @property
    def configured(self) -> bool:
        """Whether the script has parsed its arguments."""
        return self._config is not None

    @property
    def config(self) -> Config:
        """The run's settings; UserError where the script never parses any."""
        if self._config is None:
            raise UserError(
                f"{self.runner.path} builds its run before it parses arguments: DOOF has no settings for it"
            )
        return self._config

    @property
    def started(self) -> bool:
        """Whether the script has made its log directory."""
        return self._experiment is not None

    @property
    def experiment(self) -> Experiment:
        """The run on disk; UserError where the script never makes a log directory."""
        if self._experiment is None:
            raise UserError(f"{self.runner.path} trains before it makes a log directory: DOOF has nowhere to record it")
        return self._experiment

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Completes the script's settings with DOOF's; raises UserError for those that DOOF cannot run with."""
        self._config = config_from({**settings, **self.given, "algo": self.runner.algo})
        pipeline.prepare_torch(self._config)
        if not self._config.resume:
            check_logdir(self._config.logdir)
        seed_generators(self._config.seed)  # a script may not do so before it makes its networks

    def plug_in(self) -> None:
        """Binds the kit's names to DOOF's classes in this process; stand-ins replace gym or d4rl where missing."""
        physics = self.given.get("physics", "d4rl")
        gym_shim.install(get_spec, physics, self._columns, notify=lambda line: print(f"doof_ext: {line}"))
        session = self

        class Dynamics(DOOFDynamics):
            """Has the run's uncertainty; the script and the preset each cap its epochs."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                estimator = make_estimator(session.config.uncertainty, session.config)
                own = {"uncertainty_mode": estimator, "holdout_seed": session.config.seed}
                super().__init__(*args, **kwargs | own)

            def train(  # type: ignore[override]  # the kit's scripts pass the rest by name
                self, data: Any, logger: Any, max_epochs: int | None = None, **settings: Any
            ) -> int:
                caps = [cap for cap in (max_epochs, session.config.dynamics_epochs) if cap is not None]
                for name in ("holdout_ratio", "logvar_loss_coef"):
                    settings.setdefault(name, getattr(session.config, name))
                with StageProgress("1 pretrain dynamics", min(caps, default=None), logger) as progress:
                    session._dynamics_steps = super().train(
                        data,
                        logger,
                        max_epochs=min(caps, default=None),
                        on_epoch=dynamics_epochs(progress),
                        state=session.experiment.state,
                        **settings,
                    )
                return session._dynamics_steps

        class Mobile(DOOFMobilePolicy):
            """MOBILE with the run's uncertainty."""

            def __init__(self, dynamics: DOOFDynamics, *args: Any, **kwargs: Any) -> None:
                nonnegative = session.config.nonnegative_target
                super().__init__(  # type: ignore[misc]  # the kit's scripts pass neither of the two
                    dynamics, *args, estimator=dynamics.estimator, nonnegative_target=nonnegative, **kwargs
                )

        class Trainer(DOOFTrainer):
            """The script's trainer: pretrains as the script has it, then runs stages 2-5."""

            def __init__(self, policy: Any, eval_env: Any, *args: Any, **kwargs: Any) -> None:
                experiment, config, env = session.experiment, session.config, session._task_env(eval_env)
                own = {
                    "state": experiment.state,
                    "model_return": pipeline.model_returns(config, env.spec, experiment.loaded.dataset),
                }
                super().__init__(policy, env, *args, **kwargs | own)
                self.observer = self.selection = make_selection(config.policy_selection, self.epoch)

            def train(self) -> dict[str, float]:
                return session._run(self, super().train, self.selection)

        namespaces.substitute(
            {
                "offlinerlkit.buffer": {"ReplayBuffer": TensorReplayBuffer},
                "offlinerlkit.dynamics": {"EnsembleDynamics": Dynamics},
                "offlinerlkit.policy": {"MOPOPolicy": DOOFPolicy, "MOBILEPolicy": Mobile},
                "offlinerlkit.policy_trainer": {"MBPolicyTrainer": Trainer},
                "offlinerlkit.utils.load_dataset": {"qlearning_dataset": self._transitions},
                "offlinerlkit.utils.logger": {"make_log_dirs": self._make_log_dirs, "Logger": self._logger},
                "offlinerlkit.utils.termination_fns": {"get_termination_fn": get_termination_fn},
            }
        )

    def _columns(self, spec: TaskSpec) -> dict[str, Any]:
        """D4RL's arrays for a stand-in environment, from the source in DOOF's flags."""
        config = self.config
        self._loaded = data.load(config.source, spec, config.dataset_steps, config.seed, config.download)
        dataset = self._loaded.dataset
        names = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")
        return {name: getattr(dataset, name) for name in names} | {f"infos/{n}": s for n, s in dataset.states.items()}

    def _transitions(self, env: Any, dataset: Any = None, terminate_on_end: bool = False, **settings: Any) -> Any:
        spec = get_spec(self.config.task)
        if dataset is None:
            try:
                dataset = env.get_dataset(**settings)
            except UserError:
                raise
            except Exception as error:  # its download and its file raise many kinds of errors
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                print(f"doof_ext: {spec.name} has no dataset here ({reason}): doof_ext's own source is used")
                dataset = self._columns(spec)
        if self._loaded is None:  # the dataset came from D4RL's own environment
            whole = dataset_from_columns(f"d4rl:{spec.name}", dataset, spec=spec)
            self._loaded = data.with_provenance(whole, "d4rl", f"package:{spec.name}")
        return qlearning_dataset(env, dataset, terminate_on_end)

    def _make_log_dirs(self, *_: Any, **__: Any) -> str:
        if self._loaded is None:
            raise UserError(f"{self.runner.path} makes its log directory before it loads a dataset")
        self._experiment = Experiment(self.config, self._loaded).__enter__()
        return self._experiment.directory

    def _logger(self, *_: Any) -> Any:
        logger: Any = self.experiment.logger  # whose method is replaced
        logger.log_hyperparameters = lambda arguments: None  # the experiment has recorded the settings
        return logger

    def _run(
        self, trainer: DOOFTrainer, pretrain: Callable[[], dict[str, float]], selection: PolicyGuard | None
    ) -> dict[str, float]:
        """Stage 1 as the script has it, then the rest of Algorithm 1."""
        config, env, experiment = self.config, trainer.eval_env, self.experiment
        experiment.start(env, pipeline.check_data(config, env, experiment.loaded.dataset))
        ctx = pipeline.make_context(config, experiment, env)
        gradient_steps = trainer.epoch * trainer.step_per_epoch
        with StageProgress("1 pretrain policy", trainer.epoch, experiment.logger) as progress:
            trainer.on_epoch = policy_epochs(progress)
            with ctx.state.stage("pretrain", 1, config.seed, env) as record:
                result = pretrain()
                pairs = draw_fake_pairs(ctx, trainer.policy, trainer.real_buffer, trainer.fake_buffer)
                choice = select_policy(selection, trainer.policy, trainer.scores)
                record.update(gradient_steps=gradient_steps, dynamics_steps=self._dynamics_steps)
        policy, scores = trainer.policy, trainer.scores
        steps = gradient_steps, self._dynamics_steps
        pretraining = Pretraining(policy, policy.dynamics, pairs, scores, *steps, choice)
        ctx.on_result("pretrain", pretraining)
        self.summary = pipeline.finetune_and_summarise(ctx, experiment, pretraining, trainer.real_buffer)
        return result

    def _task_env(self, env: Any) -> Any:
        """The script's environment with the interface that DOOF's stages need."""
        if isinstance(env, gym_shim.D4RLEnv):
            return env.task_env
        from doof_ext.tasks.mujoco_py_env import MujocoPyTaskEnv

        return MujocoPyTaskEnv(get_spec(self.config.task), env=env)

    def close(self) -> None:
        """Closes the experiment."""
        if self._experiment is not None:
            self._experiment.__exit__(*sys.exc_info())
