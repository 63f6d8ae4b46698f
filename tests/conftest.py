"""Tiny settings and data that every room's tests share: real environments, small networks."""

import contextlib
import functools
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the networks are tiny; before torch is imported, here and in commands

import numpy as np
import pytest
import torch

from doof_ext import pipeline
from doof_ext.algorithm import doof
from doof_ext.algorithm.context import StageContext
from doof_ext.checkpointing.training_state import TrainingState
from doof_ext.config import BaselineConfig, Config, config_from, resolve
from doof_ext.data.dataset import read_dataset
from doof_ext.data.recipe import generate
from doof_ext.errors import Interrupted
from doof_ext.learning.factory import build_dynamics
from doof_ext.learning.policy_trainer import DOOFTrainer
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.tasks import get_spec, make_env, specs

TASK = "hopper-random-v2"


def needs(extra, *packages):
    """Skips a test where an extra's packages are missing, and names the extra."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs doof_ext[{extra}] ({', '.join(missing)})")


needs_adroit = needs("adroit", "gymnasium_robotics")
needs_report = needs("report", "matplotlib", "jinja2", "rliable")
on_a_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")]
ROOT = Path(__file__).parents[1]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=on_a_gpu)])
def device(request):
    """Each device that networks and buffers can live on."""
    return request.param


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def _registered_tasks():
    """Tasks that a test registers are gone after it."""
    before = dict(specs._SPECS)
    yield
    specs._SPECS.clear()
    specs._SPECS.update(before)


@pytest.fixture(scope="session", autouse=True)
def _own_data_folder(tmp_path_factory):
    """Recipe caches and D4RL look-ups stay inside the test run."""
    os.environ["DOOF_DATA_DIR"] = str(tmp_path_factory.mktemp("data"))
    os.environ["D4RL_DATASET_DIR"] = str(tmp_path_factory.mktemp("d4rl"))


def run_command(*argv, cwd=ROOT):
    """run_doof.py as a user types it."""
    command = [sys.executable, str(ROOT / "run_example" / "run_doof.py"), *map(str, argv)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def smoke(_own_data_folder, tmp_path_factory):
    """One smoke run on hopper-medium-v2, W&B offline as a user without a key has it: process, run_dir, summary."""
    logdir = tmp_path_factory.mktemp("log")
    done = run_command(
        "--task",
        "hopper-medium-v2",
        "--preset",
        "smoke",
        "--logdir",
        logdir,
        "--source",
        "recipe",
        "--wandb",
        "offline",
        "--seed",
        3,
    )
    assert done.returncode == 0, done.stderr
    (run_dir,) = logdir.glob("hopper-medium-v2/doof*/seed_3&timestamp_*")
    return done, run_dir, json.loads((run_dir / "result" / "summary.json").read_text())


@pytest.fixture(scope="session")
def spec():
    return get_spec(TASK)


@pytest.fixture(scope="session")
def dataset():
    return generate(get_spec(TASK), steps=600, seed=0, processes=1)


@pytest.fixture
def offline(dataset):
    return TensorReplayBuffer.from_dataset(dataset.transitions())


@pytest.fixture
def env():
    environment = make_env(TASK, seed=0)
    yield environment
    environment.close()


@pytest.fixture(scope="session")
def tiny():
    """A factory of resolved configs with tiny networks and budgets; keyword arguments override."""

    def make(**overrides):
        settings = (
            dict(
                task=TASK,
                preset="smoke",
                hidden_dims=(16, 16),
                dynamics_hidden_dims=(16, 16),
                dynamics_weight_decay=(1e-5, 1e-5, 1e-5),
                n_ensemble=3,
                n_elites=2,
                rollout_batch_size=40,
                rollout_length=2,
                step_per_epoch=4,
                rollout_freq=2,
                eval_episodes=1,
                online_steps=50,
                uncertainty_buffer_size=100,
                finetune_dynamics_steps=3,
                distance_samples=20,
                guard="off",
                wandb="off",
            )
            | overrides
        )
        return resolve(Config(**settings), set(settings))

    return make


@pytest.fixture(scope="session")
def baseline(_own_data_folder):
    """A factory of a baseline's resolved settings with tiny networks and budgets; keyword arguments override."""

    def make(algo, **overrides):
        settings = dict(
            task=TASK,
            preset="smoke",
            source="recipe",
            dataset_steps=400,
            hidden_dims=(16, 16),
            step_per_epoch=10,
            batch_size=32,
            eval_episodes=1,
            online_steps=45,
            wandb="off",
            checkpoint_every=1,
        )
        settings |= {"sampled_actions": 3} if algo in ("cql", "cal-ql") else {}
        settings |= {"algo": algo, **overrides}
        return resolve(BaselineConfig(**settings), set(settings))

    return make


@pytest.fixture(scope="session")
def runs_folder(tiny, _own_data_folder, tmp_path_factory):
    """Run directories of two tasks, two ratios and two seeds with a control each, and one of two rounds."""
    folder = tmp_path_factory.mktemp("runs")

    def run(**settings):
        shared = dict(source="recipe", dataset_steps=400, finetune_epochs=3, logdir=str(folder))
        return pipeline.run(tiny(**shared | settings))[1]

    for task, seed in itertools.product(("hopper-medium-v2", "walker2d-random-v2"), (1, 2)):
        first = run(task=task, seed=seed)
        run(task=task, seed=seed, exploration_ratio=0.0, pretrained=first)
        run(task=task, seed=seed, control="extra-training", pretrained=first)
        if task == "hopper-medium-v2":
            run(task=task, seed=seed, control="no-online-data", pretrained=first)
    run(task="hopper-medium-v2", rounds=2, distance_task="hopper-medium-replay-v2")
    return folder


@pytest.fixture
def dynamics(tiny, spec, dataset):
    """An untrained P̂ with D's scaler."""
    untrained = build_dynamics(tiny(), spec)
    rows = dataset.transitions()
    untrained.scaler.fit(np.hstack([rows["observations"], rows["actions"]]))
    return untrained


class MemoryLogger:
    """What the trainer and the dynamics need of a logger, kept in memory."""

    def __init__(self):
        self.rows, self.lines, self._row = [], [], {}

    def logkv(self, key, value):
        self._row[key] = value

    def set_timestep(self, timestep):
        self._row["timestep"] = timestep

    def dumpkvs(self, exclude=None):
        self.rows.append(self._row)
        self._row = {}

    def log(self, line):
        self.lines.append(line)


@pytest.fixture
def logger():
    return MemoryLogger()


@pytest.fixture
def settings(tiny, tmp_path):
    """A factory of tiny runs' settings, each in the test's log directory."""

    def make(**overrides):
        return tiny(**dict(source="recipe", dataset_steps=400, logdir=str(tmp_path), checkpoint_every=1) | overrides)

    return make


def resumed(directory, **overrides):
    """The settings by which a run is resumed."""
    return config_from({"resume": str(directory), **overrides})


def stopped(monkeypatch, todo, place, count=2, after="after_step"):
    """The settings by which a run is resumed that SIGTERM stopped at a place, a stage or a component of the state.

    It comes when the run has been there ``count`` times, in the TrainingState's ``after_step`` or ``after_epoch``.
    """
    seen, method = itertools.count(1), getattr(TrainingState, after)

    def stopping(self):
        if place in (self._stage, self._key) and next(seen) == count:
            self._signals.received = signal.SIGTERM
        method(self)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, after, stopping)
        with pytest.raises(Interrupted) as caught:
            pipeline.run(todo)
    return resumed(caught.value.run_directory)


def final_weights(directory):
    """The networks that a run ends with."""
    return {
        path: torch.load(Path(directory) / "model" / path, weights_only=True) for path in ("policy.pth", "dynamics.pth")
    }


def assert_same_run(directory, other):
    """The same networks and online steps, bit for bit."""
    for path, state in final_weights(directory).items():
        for name, tensor in final_weights(other)[path].items():
            assert torch.equal(tensor, state[name]), (path, name)
    summaries = [json.loads((Path(run) / "result" / "summary.json").read_text()) for run in (directory, other)]
    for name in ("scores", "gain", "control"):
        assert summaries[0][name] == summaries[1][name], name
    online = [Path(run) / "result" / "online_buffer.hdf5" for run in (directory, other)]
    if summaries[0]["control"] is None:
        assert len({read_dataset(path).sha256() for path in online}) == 1
    else:
        assert not any(path.exists() for path in online)


def wrap_stage(monkeypatch, name, wrapper):
    """Has Algorithm 1 call ``wrapper(stage)`` in place of a stage."""
    stage = getattr(doof, name)
    monkeypatch.setattr(doof, name, functools.wraps(stage)(wrapper(stage)))


@pytest.fixture
def interrupted(settings, monkeypatch):
    """The directory of a run that was stopped in stage 2."""

    def stopped(explore):
        def wrapper(ctx, *inputs):
            ctx.state._signals.received = signal.SIGTERM
            return explore(ctx, *inputs)

        return wrapper

    with monkeypatch.context() as patch:
        wrap_stage(patch, "explore", stopped)
        with pytest.raises(Interrupted) as caught:
            pipeline.run(settings())
    return Path(caught.value.run_directory)


@contextlib.contextmanager
def unreadable(*paths):
    """Takes from this process the right to read files; name them relative to the working folder."""
    root = os.geteuid() == 0
    for path in paths:
        os.chmod(path, 0o000)
    if root:  # whom no mode stops
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def damaged(whole, damage, rng):
    """A file's bytes, truncated or with one bit flipped."""
    place = rng.randrange(len(whole))
    if damage == "truncated":
        return whole[:place]
    return whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :]


@pytest.fixture
def context(tiny, env, logger):
    """A factory of stage contexts with tiny settings; keyword arguments override."""
    return lambda **overrides: StageContext(tiny(**overrides), env, logger)


@pytest.fixture
def trainers(monkeypatch):
    """Every trainer that a stage makes, with the weights its policy had before training and the batches it drew."""
    made = []
    train = DOOFTrainer.train

    def spy(self):
        state = {name: value.clone() for name, value in self.policy.state_dict().items()}
        batches, starts = [], []
        learn, rollout = self.policy.learn, self.policy.rollout
        self.policy.learn = lambda batch: batches.append(_joined(batch)) or learn(batch)
        self.policy.rollout = lambda obs, length: starts.append((obs, length)) or rollout(obs, length)
        made.append(dict(trainer=self, initial=state, batches=batches, starts=starts))
        return train(self)

    monkeypatch.setattr(DOOFTrainer, "train", spy)
    return made


def _joined(batch):
    """The real rows, then the fake ones, and how many of them are real."""
    rows = {name: torch.cat([batch["real"][name], batch["fake"][name]]) for name in batch["real"]}
    return rows | {"real_rows": len(batch["real"]["rewards"])}


def marked(buffer, mark):
    """A copy whose rewards and first coordinate are ``mark``: rows that tell where they come from."""
    rows = buffer.sample_all()
    rows["rewards"][:] = mark
    rows["observations"][:, 0] = mark
    return TensorReplayBuffer.from_dataset(rows)


def rows_with(batch, mark):
    """How many rows of a batch a mark tells."""
    return int((batch["rewards"] == mark).sum())
