"""DOOF's classes against the kit's, whichever kit is present: hierarchy, names, files both ways, numbers.

Parity of SAC's step, of the ensemble's step and loss, and of rollouts stands with the tests of those rooms:
test_sac.py, test_dynamics.py, test_policy.py. These too run on whichever kit is present.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from doof_ext import kit
from doof_ext.kit.embedded.load_dataset import qlearning_dataset
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.factory import build_dynamics, build_policy
from doof_ext.learning.policy import DOOFMobilePolicy, DOOFPolicy
from doof_ext.learning.policy_trainer import ExplorationTrainer, PolicyFinetuneTrainer
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.plugin.namespaces import OFFERED
from doof_ext.uncertainty import make_estimator

ROOT = Path(__file__).parents[2]
needs_kit = pytest.mark.skipif(kit.NAME != "offlinerlkit", reason="OfflineRL-Kit is not installed")


@pytest.mark.parametrize(
    ("ours", "kits"),
    [
        (DOOFPolicy, kit.MOPOPolicy),
        (DOOFPolicy, kit.SACPolicy),
        (DOOFMobilePolicy, kit.MOBILEPolicy),
        (DOOFDynamics, kit.EnsembleDynamics),
        (TensorReplayBuffer, kit.ReplayBuffer),
        (ExplorationTrainer, kit.MBPolicyTrainer),
        (PolicyFinetuneTrainer, kit.MBPolicyTrainer),
    ],
)
def test_doofs_classes_are_the_kits(ours, kits):
    assert issubclass(ours, kits) and kits.__module__.startswith(
        "offlinerlkit." if kit.NAME == "offlinerlkit" else "doof_ext.kit.embedded."
    )


@needs_kit
@pytest.mark.parametrize("order", ["doof_ext first", "kit first"])
def test_doofs_names_are_importable_from_the_kits_namespaces(order):
    lines = [
        f"from {module} import {name}; assert {name}.__module__.startswith('doof_ext')"
        for module, names in OFFERED.items()
        for name in names
    ]
    imports = ["import doof_ext", "import offlinerlkit.policy"]
    code = "\n".join([*(imports if order == "doof_ext first" else imports[::-1]), *lines])
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_doof_ext_imports_neither_torch_nor_the_kit():
    code = "import sys, doof_ext; assert not {'torch', 'offlinerlkit', 'gym'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ).returncode == 0


@pytest.fixture
def mobile(tiny, spec, dynamics):
    """DOOF's MOBILE policy and the kit's with the same weights."""

    def make(**settings):
        config = tiny(algo="mobile", num_samples=3, **settings)
        dynamics.estimator = make_estimator(config.uncertainty, config)
        ours = build_policy(config, spec, dynamics, uncertainty_coef=-1.5)
        twin = build_policy(config, spec, dynamics, uncertainty_coef=-1.5, start_from=ours)
        log_alpha = torch.zeros(1, requires_grad=True)
        plain = kit.MOBILEPolicy(
            dynamics,
            twin.actor,
            twin.critics,
            *(
                torch.optim.Adam(net.parameters(), lr=lr)
                for net, lr in ((twin.actor, config.actor_lr), (twin.critics, config.critic_lr))
            ),
            tau=config.tau,
            gamma=config.gamma,
            penalty_coef=1.5,
            num_samples=3,
            alpha=(-3.0, log_alpha, torch.optim.Adam([log_alpha], lr=config.alpha_lr)),
            deterministic_backup=config.deterministic_backup,
            max_q_backup=config.max_q_backup,
        )
        return ours, plain

    return make


@pytest.mark.parametrize(
    "settings", [{}, {"deterministic_backup": False}, {"max_q_backup": True}], ids=["default", "entropy", "max-q"]
)
def test_mobile_learns_as_the_kits(mobile, offline, settings):
    ours, plain = mobile(**settings)
    for step in range(4):
        torch.manual_seed(step)
        batch = {"real": offline.sample(12), "fake": offline.sample(52)}
        torch.manual_seed(100 + step)
        expected = plain.learn(batch)
        torch.manual_seed(100 + step)
        losses = ours.learn(batch)
        for name in ("loss/actor", "loss/critic", "loss/alpha"):
            assert float(losses[name]) == pytest.approx(expected[name], rel=1e-3, abs=1e-4), name
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_model_bellman_inconsistency_is_the_kits(mobile, offline):
    ours, plain = mobile()
    rows = offline.sample(30)
    torch.manual_seed(7)
    expected = plain.compute_lcb(rows["observations"], rows["actions"])
    torch.manual_seed(7)
    torch.testing.assert_close(ours.compute_lcb(rows["observations"], rows["actions"]), expected, rtol=1e-3, atol=1e-5)
    assert expected.min() >= 0 and expected.shape == (30, 1)


def test_only_fake_rows_get_the_bonus_inside_the_target(mobile, offline):
    """The written-out target of 5 real and 6 fake rows, with +λ_on·u as stage 2 has it."""
    ours, _ = mobile()
    ours.uncertainty_coef, ours.nonnegative_target = 2.0, False
    batch = {"real": offline.sample(5), "fake": offline.sample(6)}
    joined = {name: torch.cat([batch["real"][name], batch["fake"][name]]) for name in batch["real"]}
    torch.manual_seed(3)
    u = ours.compute_lcb(joined["observations"], joined["actions"])
    next_actions, _ = ours.actforward(joined["next_observations"])
    targets = []
    for row in range(11):
        q = min(
            float(critic(joined["next_observations"][row : row + 1], next_actions[row : row + 1]).detach())
            for critic in ours.critics_old
        )
        bonus = 2.0 * float(u[row]) if row >= 5 else 0.0
        targets.append(float(joined["rewards"][row]) + bonus + 0.99 * (1 - float(joined["terminals"][row])) * q)
    values = torch.stack([critic(joined["observations"], joined["actions"]) for critic in ours.critics])
    expected = (values - torch.tensor(targets)[:, None]).square().mean()
    torch.manual_seed(3)
    assert float(ours.learn(batch)["loss/critic"]) == pytest.approx(expected.item(), rel=1e-4)


def test_files_go_both_ways(tiny, spec, dynamics, tmp_path):
    config = tiny()
    policy = build_policy(config, spec, dynamics, uncertainty_coef=-1.0)
    plain_actor = build_policy(config, spec, dynamics, uncertainty_coef=-1.0)
    plain = kit.MOPOPolicy(
        dynamics,
        plain_actor.actor,
        plain_actor.critic1,
        plain_actor.critic2,
        *(torch.optim.Adam(net.parameters()) for net in (plain_actor.actor, plain_actor.critic1, plain_actor.critic2)),
    )
    assert set(plain.state_dict()) == set(policy.state_dict())
    torch.save(policy.state_dict(), tmp_path / "policy.pth")
    plain.load_state_dict(torch.load(tmp_path / "policy.pth", weights_only=True))
    obs = np.zeros((4, spec.obs_dim), np.float32)
    np.testing.assert_allclose(plain.select_action(obs, True), policy.select_action(obs, True), atol=1e-6)
    for source, target_class in ((dynamics, kit.EnsembleDynamics), (None, DOOFDynamics)):
        fresh = build_dynamics(config, spec)
        target = target_class(fresh.model, fresh.optim, kit.StandardScaler(), fresh.terminal_fn)
        if source is None:
            source = kit.EnsembleDynamics(dynamics.model, dynamics.optim, dynamics.scaler, dynamics.terminal_fn)
        source.save(str(tmp_path))
        target.load(str(tmp_path))
        np.testing.assert_allclose(target.scaler.mu, dynamics.scaler.mu)
        for name, value in dynamics.model.state_dict().items():
            torch.testing.assert_close(target.model.state_dict()[name], value, msg=name)


def _d4rl_columns(dataset):
    names = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")
    return {name: getattr(dataset, name) for name in names}


def test_the_elites_are_those_the_kit_chooses(tiny, spec, offline, logger):
    """The kit's own validation of the trained members, and its choice among them."""
    ours = build_dynamics(tiny(), spec)
    ours.train(offline.sample_all(), logger, max_epochs=2)
    plain = kit.EnsembleDynamics(ours.model, ours.optim, ours.scaler, ours.terminal_fn)
    held_out, _ = ours.split_rows(len(offline), 0.2)
    inputs, targets = (
        tensor[held_out].numpy() for tensor in ours.training_pairs(ours.training_table(offline.sample_all()))
    )
    chosen = plain.select_elites(plain.validate(inputs, targets))
    assert ours.model.elites.tolist() == list(chosen)


def test_the_kits_plotter_draws_our_curve(smoke, tmp_path):
    for package in ("matplotlib", "pandas"):
        pytest.importorskip(package)
    checkout = os.environ.get("DOOF_KIT_CHECKOUT", "")
    if not checkout:
        pytest.skip("DOOF_KIT_CHECKOUT names no checkout of OfflineRL-Kit")
    logdir = shutil.copytree(smoke[1].parents[2], tmp_path / "log")
    (algo,) = (logdir / "hopper-medium-v2").iterdir()
    plotter = os.path.join(checkout, "run_example", "plotter.py")
    code = (  # its style has had another name since matplotlib 3.6
        "import runpy, matplotlib.style as s; s.library.setdefault('seaborn', s.library['seaborn-v0_8']);"
        f"runpy.run_path({plotter!r}, run_name='__main__')"
    )
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        code,
        "--root-dir",
        str(logdir),
        "--task",
        "hopper-medium-v2",
        "--algos",
        algo.name,
        "--smooth",
        "0",
        "--output-path",
        str(tmp_path / "curve.png"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"MPLBACKEND": "Agg"})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curve.png").stat().st_size > 10_000


@pytest.mark.parametrize("without", [(), ("next_observations",), ("timeouts",)])
def test_qlearning_dataset_keeps_what_a_loop_keeps(dataset, without):
    columns = {name: column for name, column in _d4rl_columns(dataset).items() if name not in without}

    class Env:
        _max_episode_steps = 17

    ours = qlearning_dataset(Env, columns)
    rows, step = [], 0
    for row in range(len(dataset) - 1):
        step += 1
        cut = columns["timeouts"][row] if "timeouts" in columns else step == 17
        if cut or columns["terminals"][row]:
            step = 0
        if not cut and ("next_observations" in columns or not columns["terminals"][row]):
            rows.append(row)
    successors = columns["next_observations"] if "next_observations" in columns else columns["observations"][1:]
    np.testing.assert_array_equal(ours["next_observations"], successors[rows])
    for name in ("observations", "actions", "rewards", "terminals"):
        np.testing.assert_array_equal(ours[name], columns[name][rows])


@needs_kit
@pytest.mark.parametrize("without", [(), ("next_observations",)])
def test_qlearning_dataset_is_the_kits(dataset, without):
    """Not without timeouts: after a terminal the kit counts an episode's steps from one, and cuts it a step early."""
    from offlinerlkit.utils.load_dataset import qlearning_dataset as kits

    columns = {name: column for name, column in _d4rl_columns(dataset).items() if name not in without}

    class Env:
        _max_episode_steps = 17

    expected, ours = kits(Env, columns), qlearning_dataset(Env, columns)
    for name, column in ours.items():
        np.testing.assert_array_equal(column, expected[name], err_msg=name)
