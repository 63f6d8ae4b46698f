"""The gain of a run over the controls that have ended beside it."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from doof_ext import pipeline
from doof_ext.config import config_from
from doof_ext.experiment.controls import gains_over_controls
from doof_ext.experiment.summary import read_summary


@pytest.fixture(scope="module")
def arms(tiny, _own_data_folder, tmp_path_factory):
    """(Summary, run directory) of two controls, which share a stage 1, and of a DOOF run that ends after them."""
    logdir = tmp_path_factory.mktemp("log")

    def run(**given):
        return pipeline.run(tiny(source="recipe", dataset_steps=400, logdir=str(logdir), **given))

    extra = run(control="extra-training")
    strict = run(control="no-online-data", pretrained=extra[1])
    return {"extra-training": extra, "no-online-data": strict, "doof": run(pretrained=extra[1], exploration_ratio=0.5)}


@pytest.fixture
def gains(arms):
    """``gains_over_controls`` of the DOOF run, with other settings or another summary."""
    summary, directory = arms["doof"]

    def found(changes=None, **settings):
        config = dataclasses.replace(config_from({"resume": directory}), **settings)
        return gains_over_controls(config, summary | (changes or {}), directory)

    return found


def test_the_summary_has_the_gain_over_each_control_the_strictest_first(arms):
    summary, directory = arms["doof"]
    assert list(summary["gain_over"]) == ["no-online-data", "extra-training"]
    for kind, gain in summary["gain_over"].items():
        assert gain == pytest.approx(summary["gain"] - arms[kind][0]["gain"])
    assert read_summary(os.path.join(directory, "result", "summary.json"))["gain_over"] == summary["gain_over"]
    assert arms["extra-training"][0]["gain_over"] == arms["no-online-data"][0]["gain_over"] == {}


def test_only_a_control_of_the_same_settings_seed_and_data_counts(gains):
    assert len(gains()) == len(gains(threads=1, explore_epochs=7, preset="quick", distance_samples=3)) == 2
    for other in (dict(seed=2), dict(rounds=2), dict(finetune_epochs=9), dict(penalty_coef=1.0), dict(gamma=0.5)):
        assert gains(**other) == {}, other
    assert gains({"dataset": {"sha256": "another"}}) == {}
    assert gains(control="extra-training") == {}


def test_of_several_the_newest_counts_and_a_damaged_one_does_not(gains, arms):
    strict = Path(arms["no-online-data"][1])
    newer = strict.parent / "seed_1&timestamp_99-0101-000000"
    (newer / "record").mkdir(parents=True)
    (newer / "result").mkdir()
    settings = (strict / "record" / "hyper_param.json").read_text()
    (newer / "record" / "hyper_param.json").write_text(settings)
    summary = arms["no-online-data"][0] | {"gain": arms["doof"][0]["gain"] - 7.0}
    (newer / "result" / "summary.json").write_text(json.dumps(summary))
    assert gains()["no-online-data"] == pytest.approx(7.0)
    (newer / "result" / "summary.json").write_text('{"half": ')
    assert gains() == arms["doof"][0]["gain_over"]
    (newer / "result" / "summary.json").unlink()
    assert gains() == arms["doof"][0]["gain_over"]
