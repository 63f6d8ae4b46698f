"""Arms of an experiment: a shared stage 1, and the control."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import resumed, wrap_stage

from doof_ext import pipeline
from doof_ext.errors import RunStoppedError, UserError
from doof_ext.report.runs import find_runs


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
