"""Which settings a run may be resumed with."""

import dataclasses
import json
import os
import random
from pathlib import Path

import pytest
from conftest import damaged, resumed, wrap_stage

from doof_ext import pipeline
from doof_ext.config import Config, config_from, parse_args, resolve
from doof_ext.config.recorded import differences, recorded_settings
from doof_ext.data.dataset import first_steps, write_dataset
from doof_ext.data.download import folder
from doof_ext.data.recipe import load_recipe
from doof_ext.errors import EnvironmentFailedError, UserError
from doof_ext.tasks import get_spec


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


@pytest.fixture
def file_run(settings, dataset, monkeypatch, tmp_path):
    """An unfinished run on a file that was named relative to its working folder."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    write_dataset("d.hdf5", dataset)

    def stopped(explore):
        def wrapper(ctx, *inputs):
            raise EnvironmentFailedError("the power went")

        return wrapper

    with monkeypatch.context() as patch:
        wrap_stage(patch, "explore", stopped)
        with pytest.raises(EnvironmentFailedError) as caught:
            pipeline.run(settings(source="hdf5:d.hdf5", dataset_steps=None))
    return caught.value.run_directory


def test_a_relative_source_is_found_again_from_another_folder(file_run, monkeypatch, tmp_path, settings):
    monkeypatch.chdir(tmp_path / "other")
    given = {"source": f"hdf5:{tmp_path}/one/d.hdf5", "dataset_steps": None}
    other = settings(**given, pretrained=os.path.relpath(file_run), control="extra-training")
    assert os.path.isabs(other.pretrained)
    pipeline.run(other)
    pipeline.run(parse_args("", ["--resume", os.path.relpath(file_run)]))


def test_data_that_were_moved_are_the_same_and_others_are_not(file_run, tmp_path, dataset, settings):
    (tmp_path / "one" / "d.hdf5").rename(tmp_path / "other" / "moved.hdf5")
    with pytest.raises(UserError, match=r"no dataset file at .*/one/d.hdf5"):
        pipeline.run(parse_args("", ["--resume", file_run]))
    write_dataset(tmp_path / "another.hdf5", first_steps(dataset, 500))
    another = f"hdf5:{tmp_path}/another.hdf5"
    with pytest.raises(UserError, match="other dataset"):
        pipeline.run(parse_args("", ["--resume", file_run, "--source", another]))
    with pytest.raises(UserError, match="its stage 1 is not this run's: the dataset is another"):
        pipeline.run(settings(source=another, dataset_steps=None, pretrained=file_run))
    moved = f"hdf5:{tmp_path}/other/moved.hdf5"
    pipeline.run(settings(source=moved, dataset_steps=None, pretrained=file_run))
    pipeline.run(parse_args("", ["--resume", file_run, "--source", moved]))


def test_the_newest_run_is_looked_for_among_those_of_the_same_source_first(file_run, interrupted, settings):
    given = dataclasses.asdict(settings(dataset_steps=None)) | {"resume": ""}
    os.utime(Path(file_run, "record", "hyper_param.json"), (1, 1))
    path = interrupted / "record" / "hyper_param.json"
    path.write_text(path.read_text().replace('"dataset_steps": 400', '"dataset_steps": null'))
    assert config_from(given | {"source": "hdf5:d.hdf5"}).resume == file_run
    assert config_from(given | {"source": "recipe"}).resume == str(interrupted)


def test_a_home_folder_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    given = ["--source=hdf5:~/d.hdf5", "--logdir=~/log", "--pretrained=~/run"]
    config = parse_args("", given)
    expected = (f"hdf5:{tmp_path}/d.hdf5", f"{tmp_path}/log", f"{tmp_path}/run")
    assert (config.source, config.logdir, config.pretrained) == expected
    with pytest.raises(UserError, match=f"{tmp_path}/run is no run directory"):
        parse_args("", ["--resume=~/run"])
    monkeypatch.setenv("DOOF_DATA_DIR", "~/cache")
    load_recipe(get_spec("hopper-random-v2"), steps=20, processes=1)
    assert list((tmp_path / "cache").glob("recipe-*.hdf5"))
    monkeypatch.setenv("D4RL_DATASET_DIR", "~/d4rl")
    assert folder() == f"{tmp_path}/d4rl"


def test_a_run_from_before_the_guard_had_none_and_returned_the_last_policy_of_stage_1(tmp_path):
    settings = dataclasses.asdict(resolve(Config(preset="lite", guard="off"), {"guard"}))
    for name in ("guard", "round_steps", "max_return_drop", "policy_selection"):
        del settings[name]
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "hyper_param.json").write_text(json.dumps(settings))
    recorded = recorded_settings(str(tmp_path))
    assert (recorded["guard"], recorded["round_steps"], recorded["max_return_drop"]) == ("off", None, 0.5)
    assert recorded["policy_selection"] == "last"
