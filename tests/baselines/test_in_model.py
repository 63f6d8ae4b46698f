"""IQL in MOPO's place: the rows and signs of each stage, and whole runs."""

import dataclasses

import numpy as np
import pytest
import torch
from agents import box_spec, random_dataset
from conftest import assert_same_run, marked, needs_report, rows_with, stopped

from doof_ext import load_policy, pipeline
from doof_ext.algorithm.explore import explore, make_uncertainty_buffer
from doof_ext.algorithm.finetune_policy import finetune_policy
from doof_ext.algorithm.pretrain import pretrain
from doof_ext.baselines import in_model
from doof_ext.baselines.in_model import IQLInModel, policy_builder, settings_of_iql
from doof_ext.baselines.iql import IQL
from doof_ext.baselines.replay import reward_scale
from doof_ext.cli.baseline import main
from doof_ext.config import Config, resolve
from doof_ext.config.settings import IN_MODEL
from doof_ext.errors import UserError
from doof_ext.uncertainty import make_estimator


@pytest.fixture
def of_iql(context, dataset):
    """A factory of stage contexts in which IQL learns."""

    def make(**overrides):
        ctx = context(algo=IN_MODEL, **overrides)
        return dataclasses.replace(ctx, build_policy=policy_builder(ctx.config, ctx.spec, dataset))

    return make


@pytest.fixture
def pretrained(of_iql, dynamics):
    ctx = of_iql()
    return ctx.build_policy(ctx.config, ctx.spec, dynamics, uncertainty_coef=-5.0)


def _weights(policy):
    return {name: value.clone() for name, value in policy.state_dict().items()}


def _assert_weights(policy, weights):
    torch.testing.assert_close(dict(policy.state_dict()), weights, rtol=0, atol=0)


def test_pretraining_takes_rows_of_d_alone_and_no_rollouts(of_iql, offline, trainers):
    result = pretrain(of_iql(epoch=2), marked(offline, 1.25))
    (spied,) = trainers
    assert len(spied["batches"]) == 8
    assert [len(obs) for obs, _ in spied["starts"]] == [20]  # for the pairs that distances are measured on, at the end
    for batch in spied["batches"]:
        assert len(batch["rewards"]) == batch["real_rows"] == rows_with(batch, 1.25) == 256
    assert isinstance(result.policy, IQLInModel)
    assert len(result.fake_pairs["observations"]) == 20


def test_exploration_takes_d_d_u_and_rollouts_with_a_bonus(
    of_iql, offline, dynamics, pretrained, trainers, monkeypatch
):
    bonus = marked(make_uncertainty_buffer(offline, pretrained, 100, 5.0), 9.75)
    monkeypatch.setattr("doof_ext.algorithm.explore.make_uncertainty_buffer", lambda *_: bonus)
    before = _weights(pretrained)
    result = explore(of_iql(), pretrained, dynamics, marked(offline, 1.25))
    (spied,) = trainers
    for batch in spied["batches"]:
        assert (rows_with(batch, 1.25), rows_with(batch, 9.75), len(batch["rewards"])) == (6, 6, 256)
    for obs, _ in spied["starts"]:
        assert ((obs[:, 0] == 1.25).sum(), (obs[:, 0] == 9.75).sum()) == (20, 20)
    assert result.policy.uncertainty_coef == 5.0
    torch.testing.assert_close(_without_schedule(spied["initial"]), _without_schedule(before), rtol=0, atol=0)
    _assert_weights(pretrained, before)
    assert not torch.equal(result.policy.agent.policy.log_std, pretrained.agent.policy.log_std)


def test_policy_finetuning_takes_d_d_on_and_rollouts_with_a_penalty(of_iql, offline, dynamics, pretrained, trainers):
    before = _weights(pretrained)
    better = dynamics.copy_for_finetuning(1e-3)
    result = finetune_policy(of_iql(), pretrained, better, marked(offline, 1.25), marked(offline, 7.5))
    (spied,) = trainers
    for batch in spied["batches"]:
        assert (rows_with(batch, 1.25), rows_with(batch, 7.5), batch["real_rows"]) == (64, 64, 128)
        assert len(batch["rewards"]) == 256
    for obs, _ in spied["starts"]:
        assert ((obs[:, 0] == 1.25).sum(), (obs[:, 0] == 7.5).sum()) == (20, 20)
    assert result.policy.dynamics is better and result.policy.uncertainty_coef == -5.0
    torch.testing.assert_close(_without_schedule(spied["initial"]), _without_schedule(before), rtol=0, atol=0)
    _assert_weights(pretrained, before)


def _without_schedule(weights):
    return {name: value for name, value in weights.items() if name not in ("agent.schedule", "agent.steps_left")}


def test_extra_training_goes_on_with_d_alone(of_iql, offline, dynamics, pretrained, trainers):
    finetune_policy(of_iql(), pretrained, dynamics, marked(offline, 1.25), None)
    (spied,) = trainers
    assert all(rows_with(batch, 1.25) == 256 for batch in spied["batches"]) and not spied["starts"]


def test_rollouts_are_rewarded_with_r_plus_c_u(dynamics, pretrained, offline):
    starts = offline.sample(30)["observations"]
    found = {}
    for coef in (0.0, -5.0, 2.5):
        pretrained.uncertainty_coef = coef
        torch.manual_seed(3)
        found[coef], _ = pretrained.rollout(starts, 2)
    u = dynamics.uncertainty(found[0.0]["obss"], found[0.0]["actions"])
    for coef in (-5.0, 2.5):
        torch.testing.assert_close(found[coef]["actions"], found[0.0]["actions"])
        torch.testing.assert_close(found[coef]["rewards"], found[0.0]["rewards"] + coef * u, rtol=1e-4, atol=1e-4)


def test_d_u_has_the_recorded_reward_and_the_bonus(dynamics, pretrained, offline):
    rows = offline.sample(50)
    bonus = pretrained.with_uncertainty(rows, 2.5)
    u = dynamics.uncertainty(rows["observations"], rows["actions"])
    torch.testing.assert_close(bonus["rewards"], rows["rewards"] + 2.5 * u)


def test_rows_are_learned_from_in_the_agents_units(tiny, dynamics):
    """Actions in [-1, 1], rewards scaled after u is in them."""
    spec, data = box_spec(11, 3, low=-2.0, high=6.0), random_dataset(11, 3, 300)
    config = tiny(algo=IN_MODEL)
    assert config.normalize_rewards and config.normalize_observations
    policy = policy_builder(config, spec, data)(config, spec, dynamics, uncertainty_coef=-1.0)
    torch.manual_seed(0)
    twin = IQL(settings_of_iql(config), spec, data)
    twin.load_state_dict(policy.agent.state_dict())
    rows = {name: torch.as_tensor(column[:64]) for name, column in data.transitions().items()}
    squashed = rows["actions"].clone()
    real, fake = ({name: column[part] for name, column in rows.items()} for part in (slice(0, 20), slice(20, 64)))
    for batch in (real, fake):
        batch["actions"] = batch["actions"] * 4.0 + 2.0
    ours = policy.learn({"real": real, "fake": fake})
    theirs = twin.learn({**rows, "actions": squashed, "rewards": rows["rewards"] * reward_scale(data, None)})
    for name, loss in ours.items():
        if name != "policy_std":
            torch.testing.assert_close(loss, theirs[name], rtol=1e-5, atol=1e-6)
    actions = policy.select_action(rows["observations"].numpy(), deterministic=True)
    expected = twin.policy.act(twin.normalizer(rows["observations"]), True) * 4.0 + 2.0
    assert actions.min() < 0 or actions.max() > 2.5  # not the agent's own units
    assert policy.actforward(rows["observations"], True)[0].detach().numpy() == pytest.approx(actions, abs=1e-5)
    np.testing.assert_allclose(actions, expected.detach().numpy(), atol=1e-4)  # after the same step


def test_values_are_in_the_environments_units(tiny, dynamics, offline):
    """What an estimator of u reads: the penalty is of rewards that are not scaled yet."""
    spec, data = box_spec(11, 3, low=-2.0, high=6.0), random_dataset(11, 3, 300)
    config = tiny(algo=IN_MODEL, uncertainty="mobile")
    policy = policy_builder(config, spec, data)(config, spec, dynamics, uncertainty_coef=-1.0)
    obs, actions = torch.as_tensor(data.observations[:8]), torch.as_tensor(data.actions[:8])
    own = policy.agent.targets(policy.agent.normalizer(obs), actions).amin(0) / reward_scale(data, None)
    torch.testing.assert_close(policy.target_q(obs, actions * 4.0 + 2.0), own)
    inside = make_estimator("mobile", config)(obs, actions, dynamics, policy)
    assert inside.shape == (8, 1)


def test_the_schedule_is_stage_1s(of_iql, offline, dynamics, pretrained):
    result = pretrain(of_iql(epoch=2), offline)
    rate = result.policy.agent.optims["optimizer"].param_groups[1]["lr"]
    assert rate == pytest.approx(3e-4 * (1 - np.cos(np.pi / 8)) / 2)  # the last of 8 steps
    later = finetune_policy(of_iql(), result.policy, dynamics, offline, offline)
    assert later.policy.agent.optims["optimizer"].param_groups[1]["lr"] == 3e-4


@pytest.mark.parametrize("place", ["pretrain.1", "explore.1", "finetune_policy.1"])
def test_a_stopped_run_ends_as_if_it_had_not_been(settings, monkeypatch, place):
    todo = settings(algo=IN_MODEL, exploration_ratio=0.5, uncertainty="mobile")
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "run", lambda config, run=pipeline.run: run(config, policy_builder))
        rest = stopped(patch, todo, place)
    _, directory = in_model.run(rest)
    assert_same_run(directory, in_model.run(todo)[1])


@needs_report
def test_a_run_from_the_command_line_has_a_report(tmp_path, capsys):
    from doof_ext.cli.report import main as report

    flags = "--algo iql --doof --preset smoke --dataset-steps 400 --source recipe --wandb off --step-per-epoch 20"
    flags += " --normalize-rewards false"
    assert main([*flags.split(), "--logdir", str(tmp_path)]) == 0
    (run,) = tmp_path.glob("hopper-medium-v2/doof&algo=doof-iql&uncertainty=aleatoric&exploration_ratio=1/seed_1*")
    assert main(["--doof", "--resume", str(run)]) == 0  # it is complete
    assert report([str(tmp_path), "--out", str(tmp_path / "page")]) == 0
    assert "doof-iql" in (tmp_path / "page" / "report.html").read_text()
    with pytest.raises(UserError, match="doof-iql, which is experimental, cannot be taken out"):
        load_policy(run)
    capsys.readouterr()
    assert main(["--resume", str(run)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--algo", "cql", "--doof"], "--doof is built for --algo iql alone, not for cql"),
        (["--doof", "--density-weight", "2"], "unrecognized arguments: --density-weight 2"),
        (["--doof", "--alpha-lr", "0.1"], "--alpha-lr: doof-iql has no such setting; it is SAC's"),
        (
            ["--doof", "--env", "none"],
            "--env none: policies of doof-iql, which is experimental, cannot collect outside a run yet",
        ),
        (["--doof", "--expectile", "1"], "--expectile is 1.0; it must be above 0 and below 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(argv, message, capsys):
    assert main(argv) == 2
    assert capsys.readouterr().err == f"run_baseline.py: error: {message}\n"


def test_rewards_that_cannot_be_scaled_are_refused_before_a_run_begins(settings, tmp_path):
    with pytest.raises(UserError, match=r"the same return.*give --normalize-rewards false"):
        in_model.run(settings(task="hopper-medium-v2", algo=IN_MODEL, logdir=str(tmp_path / "log")))
    assert not (tmp_path / "log").exists()


def test_what_does_not_build_its_policies_refuses_it(settings, tmp_path):
    with pytest.raises(UserError, match=r"--algo doof-iql is not run here; run_doof\.py runs it"):
        pipeline.run(settings(algo=IN_MODEL, logdir=str(tmp_path / "log")))
    assert not (tmp_path / "log").exists()


def test_iqls_settings_are_no_other_algorithms():
    with pytest.raises(UserError, match="--expectile: mopo has no such setting; it is for --algo doof-iql"):
        resolve(Config(expectile=0.8), {"expectile"})


def test_iqls_settings_are_those_of_its_domain():
    hopper, pen = (
        resolve(Config(algo=IN_MODEL, task=task), {"algo", "task"}) for task in ("hopper-medium-v2", "pen-cloned-v1")
    )
    assert (hopper.expectile, hopper.normalize_rewards, pen.expectile, pen.normalize_rewards) == (0.7, True, 0.8, False)
    assert (hopper.real_ratio, hopper.finetune_real_ratio, hopper.finetune_online_ratio) == (1.0, 0.25, 0.25)
    own = resolve(
        Config(algo=IN_MODEL, finetune_real_ratio=0.1, hidden_dims=(8,)), {"algo", "finetune_real_ratio", "hidden_dims"}
    )
    without = dict(algo=IN_MODEL, finetune_real_ratio=0.5, finetune_online_ratio=0.5)
    assert resolve(Config(**without), set(without)).finetune_online_ratio == 0.5  # no rollouts in stage 5
    assert (own.finetune_real_ratio, own.hidden_dims, own.actor_lr) == (0.1, (8,), 3e-4)
