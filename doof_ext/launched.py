"""What a kit runner finds under the kit's names when DOOF is plugged in, and the run that comes of it."""

import sys

from doof_ext import data, namespaces, pipeline
from doof_ext.analysis.world import check_world
from doof_ext.build import build_termination_fn
from doof_ext.data.dataset import dataset_from_columns
from doof_ext.dynamics import DOOFDynamics
from doof_ext.errors import UserError
from doof_ext.kit import get_termination_fn, qlearning_dataset
from doof_ext.launcher import resolved
from doof_ext.policy import DOOFMobilePolicy, DOOFPolicy
from doof_ext.progress import StageProgress
from doof_ext.record import RunRecord
from doof_ext.replay import TensorReplayBuffer
from doof_ext.stages.pretrain import Pretraining, draw_fake_pairs
from doof_ext.state import seed_generators
from doof_ext.tasks import get_spec, gym_standin
from doof_ext.trainer import DOOFTrainer
from doof_ext.uncertainty import make_estimator


class Session:
    """One launched run: what the runner and DOOF must know of each other."""

    def __init__(self, runner, given):
        self.runner, self.given = runner, given
        self.config = self.record = self.summary = self.directory = None
        self.loaded, self.dynamics_steps = None, 0

    def configure(self, arguments):
        """Takes the runner's parsed arguments; raises UserError for settings that DOOF cannot run with."""
        self.config = resolved(self.runner, self.given, arguments)
        pipeline.prepare(self.config)
        seed_generators(self.config.seed)  # a runner may leave it, and its networks are made before stage 1

    def plug_in(self):
        """Puts DOOF's classes under the kit's names in this process, and stand-ins where gym or d4rl are missing."""
        physics = self.given.get("physics", "d4rl")
        gym_standin.install(get_spec, physics, self._columns, say=lambda line: print(f"doof_ext: {line}"))
        session = self

        class Dynamics(DOOFDynamics):
            """The run's uncertainty; trains for as long as both the runner and the preset allow."""

            def __init__(self, *args, **kwargs):
                estimator = make_estimator(session.config.uncertainty, session.config)
                super().__init__(*args, **kwargs | {"uncertainty_mode": estimator})

            def train(self, data, logger, max_epochs=None, **settings):
                caps = [cap for cap in (max_epochs, session.config.dynamics_epochs) if cap is not None]
                self.holdout_seed = session.config.seed
                for name in ("holdout_ratio", "logvar_loss_coef"):
                    settings.setdefault(name, getattr(session.config, name))
                with StageProgress("1 pretrain dynamics", min(caps, default=None), logger) as progress:
                    session.dynamics_steps = super().train(
                        data, logger, max_epochs=min(caps, default=None),
                        on_epoch=lambda epoch, loss, holdout: progress.report(
                            epoch, loss=f"{loss:.2f}", holdout=f"{holdout:.4g}"
                        ),
                        state=session.record.state, **settings,
                    )  # fmt: skip
                return session.dynamics_steps

        class Mobile(DOOFMobilePolicy):
            """MOBILE with the run's uncertainty."""

            def __init__(self, dynamics, *args, **kwargs):
                own = {"estimator": dynamics.estimator, "nonnegative_target": session.config.nonnegative_target}
                super().__init__(dynamics, *args, **own, **kwargs)

        class Trainer(DOOFTrainer):
            """The runner's trainer: pretrains as it was told, then stages 2-5 follow."""

            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                session.trainer = self

            def train(self):
                return session.run(super().train)

        namespaces.substitute({
            "offlinerlkit.buffer": {"ReplayBuffer": TensorReplayBuffer},
            "offlinerlkit.dynamics": {"EnsembleDynamics": Dynamics},
            "offlinerlkit.policy": {"MOPOPolicy": DOOFPolicy, "MOBILEPolicy": Mobile},
            "offlinerlkit.policy_trainer": {"MBPolicyTrainer": Trainer},
            "offlinerlkit.utils.load_dataset": {"qlearning_dataset": self._transitions},
            "offlinerlkit.utils.logger": {"make_log_dirs": self._make_log_dirs, "Logger": self._logger},
            "offlinerlkit.utils.termination_fns": {"get_termination_fn": get_termination_fn},
        })  # fmt: skip

    def _columns(self, spec):
        """D4RL's arrays for a stand-in environment, from the source that DOOF's flags name."""
        config = self.config
        self.loaded = data.load(config.source, spec, config.dataset_steps, config.seed, config.download)
        dataset = self.loaded.dataset
        names = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")
        return {name: getattr(dataset, name) for name in names} | {f"infos/{n}": s for n, s in dataset.states.items()}

    def _transitions(self, env, dataset=None, terminate_on_end=False, **settings):
        spec = get_spec(self.config.task)
        if dataset is None:
            try:
                dataset = env.get_dataset(**settings)
            except UserError:
                raise
            except Exception as error:  # its download and its file may fail in many ways
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                print(f"doof_ext: {spec.name} has no dataset here ({reason}): doof_ext's own source gives it")
                dataset = self._columns(spec)
        if self.loaded is None:  # D4RL's own environment gave them
            whole = dataset_from_columns(f"d4rl:{spec.name}", dataset, spec=spec)
            self.loaded = data.labelled(whole, "d4rl", f"package:{spec.name}")
        return qlearning_dataset(env, dataset, terminate_on_end)

    def _make_log_dirs(self, *_, **__):
        self.record = RunRecord(self.config, self.loaded).__enter__()
        self.directory = self.record.directory
        return self.directory

    def _logger(self, *_):
        self.record.logger.log_hyperparameters = lambda arguments: None  # the run's own are written at its begin
        return self.record.logger

    def run(self, pretrain):
        """Stage 1 as the runner has it, then the rest of Algorithm 1."""
        config, trainer, record = self.config, self.trainer, self.record
        env = trainer.eval_env = self._task_env(trainer.eval_env)
        record.begin(env, check_world(env, build_termination_fn(env.spec), self.loaded.dataset))
        trainer.state = record.state
        with StageProgress("1 pretrain policy", trainer.epoch, record.logger) as progress:
            trainer.on_epoch = lambda epoch, result: progress.report(
                epoch, score=f"{result.mean:.1f} ± {result.std:.1f}"
            )
            with record.state.stage("pretrain", 1, config.seed, env) as figures:
                result = pretrain()
                pairs = draw_fake_pairs(trainer.fake_buffer, config.distance_samples, record.state)
                figures["gradient_steps"] = trainer.epoch * trainer.step_per_epoch
                figures["dynamics_steps"] = self.dynamics_steps
        policy = trainer.policy
        pretraining = Pretraining(
            policy, policy.dynamics, pairs, trainer.evaluation, figures["gradient_steps"], self.dynamics_steps
        )
        self.summary = pipeline.finetune(
            config, env.spec, env, self.loaded, trainer.real_buffer, pretraining, record
        )  # fmt: skip
        return result

    def _task_env(self, env):
        """The runner's environment as DOOF's stages need it."""
        if isinstance(env, gym_standin.D4RLEnv):
            return env.task_env
        from doof_ext.tasks.mujoco_py_env import MujocoPyTaskEnv

        return MujocoPyTaskEnv(get_spec(self.config.task), env=env)

    def close(self):
        """Closes what is open of the run."""
        if self.record is not None:
            self.record.__exit__(*sys.exc_info())
