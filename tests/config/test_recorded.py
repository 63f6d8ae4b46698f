"""Which settings a run may be resumed with."""

import dataclasses
import random

import pytest
from conftest import damaged, resumed

from doof_ext import pipeline
from doof_ext.config import Config, config_from, parse_args
from doof_ext.config.recorded import differences
from doof_ext.errors import UserError


def test_other_settings_are_refused_with_a_list(interrupted):
    with pytest.raises(UserError, match="--epoch is 9, the run's is 2; --exploration-ratio is "):
        parse_args("", ["--resume", str(interrupted), "--epoch", "9", "--exploration-ratio", "0.5"])
    config = parse_args("", ["--resume", str(interrupted), "--epoch", "2", "--threads", "1", "--wandb", "off"])
    with pytest.raises(UserError, match="--gamma is "):
        pipeline.run(dataclasses.replace(config, gamma=0.5))


def test_resume_without_a_directory_takes_the_newest_alike_run(interrupted, settings, tmp_path):
    _, finished = pipeline.run(settings())
    given = dataclasses.asdict(settings()) | {"resume": ""}
    assert config_from(given).resume == str(interrupted) != finished
    with pytest.raises(UserError, match="no unfinished run of these settings"):
        config_from(given | {"gamma": 0.5})


def test_other_data_are_refused(interrupted, monkeypatch):
    load = pipeline.data.load
    monkeypatch.setattr(
        pipeline.data, "load", lambda source, spec, steps, seed, download: load(source, spec, steps, seed + 1, download)
    )
    with pytest.raises(UserError, match="other dataset"):
        pipeline.run(resumed(interrupted))


def test_settings_that_were_changed_behind_its_back_are_refused(interrupted):
    path = interrupted / "record" / "hyper_param.json"
    path.write_text(path.read_text().replace('"gamma": 0.99', '"gamma": 0.5'))
    with pytest.raises(UserError, match="other settings"):
        pipeline.run(resumed(interrupted))


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_settings_that_are_damaged_are_refused_or_the_same(interrupted, damage):
    path, rng = interrupted / "record" / "hyper_param.json", random.Random(0)
    whole, recorded = path.read_bytes(), config_from({"resume": str(interrupted)})
    for _ in range(50):
        path.write_bytes(damaged(whole, damage, rng))
        try:
            config = config_from({"resume": str(interrupted)})
        except UserError as error:
            assert "\n" not in str(error)
            continue
        if differences(
            dataclasses.asdict(config), dataclasses.asdict(recorded), lambda rules: rules.resumable
        ):  # the checkpoint knows better
            with pytest.raises(UserError):
                pipeline.run(config)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"task": 1}'])
def test_what_is_no_run_directory_is_refused(tmp_path, content):
    with pytest.raises(UserError, match="no run directory"):
        config_from({"resume": str(tmp_path)})
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "hyper_param.json").write_text(content)
    with pytest.raises(UserError):
        config_from({"resume": str(tmp_path)})


def test_every_recorded_setting_comes_back_as_it_was(settings, interrupted):
    recorded = dataclasses.asdict(config_from({"resume": str(interrupted)}))
    assert recorded == dataclasses.asdict(settings()) | {"resume": str(interrupted)}
    assert set(recorded) == {field.name for field in dataclasses.fields(Config)}
