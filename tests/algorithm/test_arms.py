"""Arms of an experiment: a shared stage 1, and the controls."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import TASK, resumed, wrap_stage

from doof_ext import data, pipeline
from doof_ext.errors import RunStoppedError, UserError
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.policy import DOOFPolicy
from doof_ext.report.runs import find_runs
from doof_ext.tasks import get_spec


def test_arms_share_one_pretraining(settings):
    _, first = pipeline.run(settings(exploration_ratio=0.5))
    alone, _ = pipeline.run(settings())
    shared, directory = pipeline.run(settings(pretrained=first))
    assert shared["scores"] == alone["scores"] and shared["distance"] == alone["distance"]
    assert shared["pretrained"] == first
    policies = [Path(run) / "checkpoint" / "pretrained_policy.pth" for run in (first, directory)]
    states = [torch.load(path, weights_only=True) for path in policies]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_run_resumes_without_the_run_that_pretrained_it(settings, monkeypatch):
    _, first = pipeline.run(settings(exploration_ratio=0.5))
    config = settings(pretrained=first)

    def fails(collect):
        def wrapper(*inputs):
            raise RunStoppedError("in stage 3")

        return wrapper

    with monkeypatch.context() as patch:
        wrap_stage(patch, "collect", fails)
        with pytest.raises(RunStoppedError) as caught:
            pipeline.run(config)
    shutil.rmtree(first)
    for path in Path(caught.value.run_directory).glob("checkpoint/pretraining/*/manifest.json"):
        path.write_text("{}")  # of its own copy for others, it has no need either
    pipeline.run(resumed(caught.value.run_directory))


def test_another_pretraining_is_refused(settings, tmp_path):
    _, first = pipeline.run(settings())
    before = sorted(Path(first).parents[2].rglob("*"))
    with pytest.raises(UserError, match="--penalty-coef is "):
        pipeline.run(settings(pretrained=first, penalty_coef=1.0))
    with pytest.raises(UserError, match="no run has ended its stage 1"):
        pipeline.run(settings(pretrained=str(tmp_path)))
    assert sorted(Path(first).parents[2].rglob("*")) == before  # no run directory was made


def test_the_control_trains_in_pretrained_dynamics_with_no_steps(settings):
    summary, directory = pipeline.run(settings(control="extra-training", finetune_epochs=3))
    assert [stage["name"] for stage in summary["stages"]] == ["pretrain", "finetune_policy"]
    assert summary["stages"][1]["gradient_steps"] == 12 and summary["online_steps"] == 0
    assert set(summary["scores"]) == {"pretrained", "finetuned"}
    models = [Path(directory) / path for path in ("model/dynamics.pth", "checkpoint/pretrained_dynamics.pth")]
    states = [torch.load(path, weights_only=True) for path in models]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert summary["distance"]["uniform"]["before"] == summary["distance"]["uniform"]["after"]


def _rows(*columns):
    """Rows as bytes, to look them up by."""
    joined = torch.cat([torch.as_tensor(column).flatten(0, -2) for column in columns], dim=-1)
    return [row.tobytes() for row in joined.numpy()]


@pytest.fixture
def seen(monkeypatch):
    """What a run's networks learn from: rows of each dynamics batch, real rows of each policy batch, start states."""
    found = dict(dynamics=[], real=[], fake=[], starts=[], models=[])
    step, learn, rollout = DOOFDynamics.training_step, DOOFPolicy.learn, DOOFPolicy.rollout

    def seen_step(self, inputs, targets, coef):
        found["models"].append(self)
        found["dynamics"].append(_rows(inputs, targets))
        return step(self, inputs, targets, coef)

    def seen_learn(self, batch):
        found["real"].append(_rows(batch["real"]["observations"], batch["real"]["actions"], batch["real"]["rewards"]))
        found["fake"].append(batch["fake"]["rewards"].shape)
        return learn(self, batch)

    def seen_rollout(self, observations, length):
        found["starts"].append(_rows(observations))
        return rollout(self, observations, length)

    monkeypatch.setattr(DOOFDynamics, "training_step", seen_step)
    monkeypatch.setattr(DOOFPolicy, "learn", seen_learn)
    monkeypatch.setattr(DOOFPolicy, "rollout", seen_rollout)
    return found


@pytest.mark.parametrize("rounds", [1, 2])
def test_without_online_data_all_is_doofs_but_the_rows(settings, seen, rounds):
    """Stages 4 and 5 of both arms: as many batches, rows and starts, but the control's are all of D."""
    given = dict(finetune_online_ratio=0.025, explore_epochs=1, finetune_dynamics_epochs=3, rounds=rounds)
    doof, first = pipeline.run(settings(**given, exploration_ratio=0.0))
    theirs = {name: list(rows) for name, rows in seen.items()}
    for rows in seen.values():
        rows.clear()
    control, directory = pipeline.run(settings(**given, pretrained=first, control="no-online-data"))

    names = ["pretrain", *["finetune_dynamics", "finetune_policy"] * rounds]
    assert [stage["name"] for stage in control["stages"]] == names
    for stage in control["stages"]:
        (same,) = (s for s in doof["stages"] if (s["name"], s["round"]) == (stage["name"], stage["round"]))
        assert stage["gradient_steps"] == same["gradient_steps"] > 0 and stage["env_steps"] == 0
    assert control["online_steps"] == 0 and set(control["scores"]) == {"pretrained", "finetuned"}
    assert not [path for path in Path(directory).rglob("*") if "online" in path.name]

    d = data.load("recipe", get_spec(TASK), 400, 1).dataset.transitions()
    known = {
        "dynamics": set(_rows(seen["models"][-1].training_table(d))),
        "real": set(_rows(d["observations"], d["actions"], d["rewards"])),
        "starts": set(_rows(d["observations"])),
    }
    for name, rows in known.items():
        count = len(seen[name])
        assert count > 0 and list(map(len, seen[name])) == list(map(len, theirs[name][-count:])), name
        assert all(row in rows for batch in seen[name] for row in batch), f"{name}: a row that is not D's"
        assert not all(row in rows for batch in theirs[name][-count:] for row in batch), f"{name}: nothing is online"
    assert seen["fake"] == theirs["fake"][-len(seen["fake"]) :]


def test_lambda_on_by_itself_explores_without_a_penalty(settings, monkeypatch):
    built = []

    def spied(explore):
        def wrapper(ctx, *inputs):
            built.append(explore(ctx, *inputs).policy.uncertainty_coef)
            return explore(ctx, *inputs)

        return wrapper

    wrap_stage(monkeypatch, "explore", spied)
    summary, directory = pipeline.run(settings(penalty_coef=0.0, exploration_coef=0.7))
    assert built == [0.7]
    assert (summary["exploration_ratio"], summary["exploration_coef"], summary["penalty_coef"]) == (None, 0.7, 0.0)
    assert Path(directory).parent.name == "doof&uncertainty=aleatoric&exploration_coef=0.7"
    (run,) = find_runs([directory])
    assert run.problem == "" and run.arm == "λ_on 0.7"
    assert resumed(directory).exploration_coef == 0.7


def test_a_run_that_did_not_record_lambda_on_is_resumed(interrupted):
    path = interrupted / "record" / "hyper_param.json"
    content = json.loads(path.read_text())
    assert content.pop("exploration_coef") == 5.0
    path.write_text(json.dumps(content))
    pipeline.run(resumed(interrupted))
