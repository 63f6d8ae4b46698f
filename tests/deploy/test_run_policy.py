"""Policies loaded from a run directory answer as the run's own."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from kept_run import HOPPER, LEVER, keep_run, observations_of

import doof_ext
from doof_ext import pipeline
from doof_ext.deploy import POLICIES
from doof_ext.deploy.run_policy import load_policy
from doof_ext.errors import UserError
from doof_ext.experiment.task_record import read_task
from doof_ext.files import load_state, save_tensors
from doof_ext.learning.factory import build_dynamics, build_policy
from doof_ext.tasks import make_env


@pytest.fixture
def lever(tmp_path, tiny):
    """A run on a task of one's own."""
    return keep_run(tmp_path / "lever-run", tiny(), LEVER)


@pytest.mark.parametrize("algo", ["mopo", "mobile"])
def test_each_policy_answers_as_the_runs(algo, tmp_path, tiny):
    run = keep_run(tmp_path / "run", tiny(algo=algo, hidden_dims=(256, 256)), HOPPER)
    observations = observations_of(run)
    for which, policy in run.policies.items():
        wanted = policy.select_action(observations, deterministic=True)
        np.testing.assert_allclose(load_policy(run.directory, which).act(observations), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("which", POLICIES)
def test_actions_are_in_the_units_of_a_task_of_ones_own(lever, which):
    observations, policy = observations_of(lever), load_policy(lever.directory, which)
    wanted = lever.policies[which].select_action(observations, deterministic=True)
    np.testing.assert_allclose(policy.act(observations), wanted, atol=1e-5, rtol=0)
    assert wanted[:, 1].min() > 1.0 and policy.action_high.tolist() == list(lever.spec.action_high)


def test_sampled_actions_have_the_actors_deviation(lever):
    observations, noise = observations_of(lever), np.random.default_rng(3).standard_normal((1000, 2), np.float32)
    actor = lever.policies["exploration"].actor
    mean, log_std = actor.dist_net.mu, actor.dist_net.sigma
    with torch.no_grad():
        features = actor.backbone(torch.from_numpy(observations))
        bounded = log_std(features).clamp(-5.0, 2.0)
        squashed = torch.tanh(mean(features) + bounded.exp() * torch.from_numpy(noise)).numpy()
    assert (bounded.numpy() == 2.0).any() and (bounded.numpy() < 2.0).any()
    low, high = (np.float32(bound) for bound in (lever.spec.action_low, lever.spec.action_high))
    actions = load_policy(lever.directory, "exploration").act(observations, np.random.default_rng(3))
    np.testing.assert_allclose(actions, low + (squashed + 1) / 2 * (high - low), atol=1e-5)


def test_a_whole_run_keeps_its_three_policies_and_its_task(settings):
    config = settings()
    _, directory = pipeline.run(config)
    task = read_task(f"{directory}/record/task.json")
    assert (task.name, task.obs_dim, task.action_dim) == (config.task, 11, 3)
    assert (task.action_low, task.action_high, task.observation_names) == ((-1.0,) * 3, (1.0,) * 3, None)
    spec = make_env(config.task).spec
    policy = build_policy(config, spec, build_dynamics(config, spec), uncertainty_coef=0.0)
    observations, answers = np.random.default_rng(0).normal(size=(1000, 11)).astype(np.float32), []
    for which, path in (
        ("pretrained", "checkpoint/pretrained_policy.pth"),
        ("exploration", "checkpoint/exploration_policy.pth"),
        ("finetuned", "model/policy.pth"),
    ):
        load_state(f"{directory}/{path}", policy)
        answers.append(doof_ext.load_policy(directory, which).act(observations))
        wanted = policy.select_action(observations, deterministic=True)
        np.testing.assert_allclose(answers[-1], wanted, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(doof_ext.load_policy(directory).act(observations), answers[-1])
    assert not any(np.array_equal(one, answers[-1]) for one in answers[:2])


def test_an_interrupted_run_has_the_policies_of_the_stages_that_ended(interrupted):
    assert load_policy(interrupted, "pretrained").act(np.zeros(11)).shape == (3,)
    for which, stage in (("finetuned", "finetune_policy"), ("exploration", "explore")):
        with pytest.raises(UserError, match=f"no {which} policy, which the stage {stage} leaves; it has: pretrained"):
            load_policy(interrupted, which)


def test_a_run_that_kept_no_record_of_its_task_asks_the_environment(interrupted):
    (interrupted / "record" / "task.json").unlink()
    policy = load_policy(interrupted, "pretrained")
    assert policy.action_low.tolist() == [-1.0] * 3 and policy.obs_dim == 11


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda task: task.pop("action_low"), "is damaged: it has"),
        (lambda task: task.update(obs_dim="4"), "obs_dim is '4'"),
        (lambda task: task.update(obs_dim=0), "0 dimensions"),
        (lambda task: task.update(action_low=[-1.0]), "bound 2 actions"),
        (lambda task: task.update(action_high=[1.0, float("nan")]), "bound 2 actions"),
        (lambda task: task.update(action_names=["torque"]), "names of 2 dimensions"),
        (lambda task: task.update(obs_dim=5, observation_names=None), "does not hold these networks' weights"),
    ],
)
def test_a_damaged_record_of_the_task_is_one_line(lever, damage, message):
    path = lever.directory / "record" / "task.json"
    task = json.loads(path.read_text())
    damage(task)
    path.write_text(json.dumps(task))
    with pytest.raises(UserError, match=message) as caught:
        load_policy(lever.directory)
    assert "\n" not in str(caught.value)


def test_weights_that_are_damaged_are_one_line(lever):
    path = lever.directory / "model" / "policy.pth"
    weights = {name: tensor.clone() for name, tensor in lever.policies["finetuned"].state_dict().items()}
    weights["actor.dist_net.mu.bias"][0] = float("nan")
    save_tensors(path, weights)
    with pytest.raises(UserError, match="a weight is not finite"):
        load_policy(lever.directory)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"policy\.pth"):
        load_policy(lever.directory)


def test_what_is_no_run_and_no_policy_is_one_line(lever, tmp_path):
    with pytest.raises(UserError, match="is no run directory"):
        load_policy(tmp_path / "nowhere")
    with pytest.raises(UserError, match="there is no policy 'best'; choose finetuned, pretrained, exploration"):
        load_policy(lever.directory, "best")


def test_no_simulator_is_needed(lever):
    code = (
        "import sys\n"
        "for name in ('gym', 'gymnasium', 'mujoco'): sys.modules[name] = None\n"
        "import doof_ext; assert 'torch' not in sys.modules\n"
        "print(doof_ext.load_policy(sys.argv[1]).act([0.0] * 4).shape)"
    )
    command = [sys.executable, "-c", code, str(lever.directory)]
    environment = os.environ | {"DOOF_KIT": "embedded"}  # the installed kit imports gym itself
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "(2,)\n", done.stderr
