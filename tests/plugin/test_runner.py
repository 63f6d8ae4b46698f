"""The kit's runners under the launcher: the kit's own checkout where there is one, and a runner of its shape."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from doof_ext import kit
from doof_ext.deploy import POLICIES
from doof_ext.deploy.run_policy import load_policy
from doof_ext.errors import UserError
from doof_ext.plugin.runner import doof_settings, read_runner, runner_settings, split_arguments
from doof_ext.tasks.d4rl_package import is_installed

ROOT = Path(__file__).parents[2]
BUDGET = [
    "--epoch",
    "2",
    "--step-per-epoch",
    "20",
    "--rollout-batch-size",
    "200",
    "--rollout-freq",
    "20",
    "--eval_episodes",
    "1",
    "--batch-size",
    "64",
]
STAGES = ["pretrain", "explore", "collect", "finetune_dynamics", "finetune_policy"]

RUNNER = """
import argparse
import gym
import d4rl
import numpy as np
import torch
from offlinerlkit.nets import MLP
from offlinerlkit.modules import ActorProb, Critic, TanhDiagGaussian, EnsembleDynamicsModel
from offlinerlkit.dynamics import EnsembleDynamics
from offlinerlkit.utils.scaler import StandardScaler
from offlinerlkit.utils.termination_fns import get_termination_fn
from offlinerlkit.utils.load_dataset import qlearning_dataset
from offlinerlkit.buffer import ReplayBuffer
from offlinerlkit.utils.logger import Logger, make_log_dirs
from offlinerlkit.policy_trainer import MBPolicyTrainer
from offlinerlkit.policy import MOPOPolicy

parser = argparse.ArgumentParser()
parser.add_argument("--task", type=str, default="hopper-random-v2")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--epoch", type=int, default=9)
parser.add_argument("--step-per-epoch", type=int, default=9)
parser.add_argument("--batch-size", type=int, default=9)
parser.add_argument("--rollout-freq", type=int, default=9)
parser.add_argument("--rollout-batch-size", type=int, default=9)
parser.add_argument("--rollout-length", type=int, default=2)
parser.add_argument("--penalty-coef", type=float, default=1.5)
parser.add_argument("--eval_episodes", type=int, default=1)
args = parser.parse_args()
env = gym.make(args.task)
data = qlearning_dataset(env)
env.seed(args.seed)
obs_dim, action_dim = env.observation_space.shape[0], env.action_space.shape[0]
backbone = MLP(obs_dim, [256, 256])
actor = ActorProb(backbone, TanhDiagGaussian(256, action_dim, unbounded=True, conditioned_sigma=True), "cpu")
critics = [Critic(MLP(obs_dim + action_dim, [256, 256]), "cpu") for _ in range(2)]
optims = [torch.optim.Adam(net.parameters(), lr=3e-4) for net in (actor, *critics)]
log_alpha = torch.zeros(1, requires_grad=True)
alpha = (-float(action_dim), log_alpha, torch.optim.Adam([log_alpha], lr=1e-4))
model = EnsembleDynamicsModel(obs_dim, action_dim, [200] * 4, weight_decays=[2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4])
optim = torch.optim.Adam(model.parameters(), lr=1e-3)
dynamics = EnsembleDynamics(model, optim, StandardScaler(), get_termination_fn(args.task), args.penalty_coef)
policy = MOPOPolicy(dynamics, actor, *critics, *optims, alpha=alpha)
real = ReplayBuffer(len(data["observations"]), (obs_dim,), np.float32, action_dim, np.float32)
real.load_dataset(data)
fake = ReplayBuffer(5000, (obs_dim,), np.float32, action_dim, np.float32)
logger = Logger(make_log_dirs(args.task, "mopo", args.seed, vars(args)), {"tb": "tensorboard"})
logger.log_hyperparameters(vars(args))
trainer = MBPolicyTrainer(policy, env, real, fake, logger, (args.rollout_freq, args.rollout_batch_size, 2),
                          epoch=args.epoch, step_per_epoch=args.step_per_epoch, batch_size=args.batch_size,
                          eval_episodes=args.eval_episodes)
dynamics.train(real.sample_all(), logger, max_epochs_since_update=5)
trainer.train()
"""


def _run_kit_script(runner, *argv, cwd):
    command = [sys.executable, "-W", "ignore", "-m", "doof_ext", str(runner), *map(str, argv)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def _summary(logdir):
    (path,) = Path(logdir).glob("*/*/*/result/summary.json")
    return json.loads(path.read_text())


@pytest.fixture
def runner(tmp_path):
    (tmp_path / "run_like_the_kits.py").write_text(RUNNER)
    return tmp_path / "run_like_the_kits.py"


def test_a_runner_of_the_kits_shape_becomes_a_doof_run(tmp_path, runner):
    done = _run_kit_script(
        runner,
        "--task",
        "hopper-random-v2",
        *BUDGET,
        "--doof-preset",
        "smoke",
        "--doof-wandb",
        "off",
        "--doof-exploration-ratio",
        "0.5",
        "--doof-policy-selection",
        "model_return",
        "--doof-source",
        "recipe",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    summary = _summary(tmp_path / "log")
    (choice,) = summary["policy_choice"]
    assert (choice["round"], choice["by"], choice["epochs"]) == (0, "model_lower_bound", 2)
    assert choice["epoch"] in (1, 2)
    assert [stage["name"] for stage in summary["stages"]] == STAGES
    assert summary["stages"][0]["gradient_steps"] == 40 and summary["stages"][0]["dynamics_steps"] > 0
    assert (summary["penalty_coef"], summary["exploration_ratio"], summary["preset"]) == (1.5, 0.5, "smoke")
    assert summary["dataset"]["source"] == "recipe" and summary["dataset"]["transitions"] == 4000
    assert summary["kit"]["name"] == kit.NAME and summary["online_steps"] == 300
    if all(map(is_installed, ("gym", "d4rl", "mujoco_py"))):
        assert summary["physics"] == "mujoco-py"
    else:
        assert summary["physics"] == "d4rl"
        assert "hopper-random-v2 is doof_ext's own environment and data" in done.stdout
    assert "not D4RL's data" in done.stdout and "gain" in done.stdout
    (directory,) = (tmp_path / "log").glob("*/doof*/seed_1*")
    assert [load_policy(directory, which).act([0.0] * 11).shape for which in POLICIES] == [(3,)] * 3


@pytest.mark.parametrize(
    "after",
    [
        "1 pretrain policy 1/",
        *(
            pytest.param(f"{stage} 1/", marks=pytest.mark.slow)
            for stage in ("1 pretrain dynamics", "4 finetune dynamics")
        ),
    ],
)
def test_a_launched_run_that_was_stopped_goes_on_to_the_same_end(tmp_path, runner, after):
    argv = [
        "--task",
        "hopper-random-v2",
        *BUDGET,
        "--doof-preset",
        "smoke",
        "--doof-wandb",
        "off",
        "--doof-source",
        "recipe",
        "--doof-threads",
        "1",
    ]
    command = [sys.executable, "-W", "ignore", "-m", "doof_ext", str(runner), *argv]
    environment, whole, stopped = os.environ | {"PYTHONPATH": str(ROOT)}, tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    assert _run_kit_script(runner, *argv, cwd=whole).returncode == 0
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(command, cwd=stopped, env=environment, **pipes) as process:
        next(line for line in process.stdout if line.startswith(after))
        process.terminate()
        _, stderr = process.communicate()
    assert process.returncode == 143 and "--doof-resume" in stderr
    done = _run_kit_script(runner, *argv, "--doof-resume", cwd=stopped)
    assert done.returncode == 0, done.stderr
    assert "resuming from the checkpoint" in done.stdout
    for path in ("model/policy.pth", "model/dynamics.pth"):
        (one,), (other,) = (folder.glob(f"log/*/*/*/{path}") for folder in (whole, stopped))
        states = [torch.load(file, weights_only=True) for file in (one, other)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(("name", "algo"), [("run_mopo.py", "mopo"), ("run_mobile.py", "mobile")])
def test_the_kits_own_runners_end_with_five_stages(tmp_path, name, algo):
    checkout = os.environ.get("DOOF_KIT_CHECKOUT", "")
    if not checkout:
        pytest.skip("DOOF_KIT_CHECKOUT names no checkout of OfflineRL-Kit")
    done = _run_kit_script(
        Path(checkout) / "run_example" / name,
        "--task",
        "hopper-random-v2",
        *BUDGET,
        "--doof-preset",
        "smoke",
        "--doof-wandb",
        "off",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    summary = _summary(tmp_path / "log")
    assert [stage["name"] for stage in summary["stages"]] == STAGES and summary["algo"] == algo
    assert summary["dataset"]["source"] == "recipe"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "give a runner"),
        (["none.py"], "no runner at none.py"),
        (["run_cql.py"], "not one of the kit's model-based runners"),
        (["script.py"], "not one of the kit's model-based runners"),
        (
            ["tune.py"],
            "starts processes of its own with Ray, which DOOF is not plugged into; run the kit's run_mopo.py",
        ),
        (["lacking.py"], "lacking.py cannot be run: No module named 'nowhere'"),
        (["run_like_the_kits.py", "--doof-nonsense", "1"], "--doof-nonsense"),
        (["run_like_the_kits.py", "--nonsense", "1"], "unrecognized arguments: --nonsense"),
        (["run_like_the_kits.py", "--doof-preset", "huge"], "--doof-preset"),
        (["run_like_the_kits.py", "--doof-epoch", "3"], "that is the runner's to say"),
        (["run_like_the_kits.py", "--task", "hopper-medum-v2"], "did you mean"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, runner, argv, message):
    (tmp_path / "run_cql.py").write_text("from offlinerlkit.policy import CQLPolicy\n")
    (tmp_path / "script.py").write_text("print('hello')\n")
    (tmp_path / "tune.py").write_text(f"from ray import tune\n{RUNNER}")
    (tmp_path / "lacking.py").write_text(f"import nowhere\n{RUNNER}")
    before = sorted(tmp_path.iterdir())
    done = _run_kit_script(*argv, cwd=tmp_path) if argv else _run_kit_script("--doof-preset", "smoke", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_arguments_are_split_between_runner_and_doof(runner):
    path, own, doof = split_arguments(
        ["r.py", "--task", "t", "--doof-preset", "smoke", "--hidden-dims", "8", "8", "--doof-download", "--seed=3"]
    )
    assert (path, own) == ("r.py", ["--task", "t", "--hidden-dims", "8", "8", "--seed=3"])
    assert doof == ["--preset", "smoke", "--download"]
    assert read_runner(runner).algo == "mopo" and "rollout_length" in read_runner(runner).flags
    with pytest.raises(UserError, match="runner"):
        doof_settings(read_runner(runner), ["--algo", "mobile"])


def test_a_runners_arguments_become_settings():
    arguments = {"task": "t", "hidden_dims": [8, 8], "auto_alpha": "False", "target_entropy": None, "algo_name": "mopo"}
    assert runner_settings(arguments) == {"task": "t", "hidden_dims": (8, 8), "auto_alpha": True}
