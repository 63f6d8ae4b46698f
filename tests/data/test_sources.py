"""Where a task's data come from, and what a recipe yields."""

import os

import numpy as np
import pytest

from doof_ext import data
from doof_ext.data.dataset import write_dataset
from doof_ext.data.recipe import VERSION, generate, load_recipe
from doof_ext.errors import UserError
from doof_ext.tasks import TaskSpec, get_spec, make_env


def test_a_recipe_depends_on_its_seed_alone(dataset):
    again = generate(get_spec("hopper-random-v2"), steps=600, seed=0, processes=1)
    assert again.sha256() == dataset.sha256()
    assert generate(get_spec("hopper-random-v2"), steps=600, seed=1, processes=1).sha256() != dataset.sha256()


def test_recorded_states_reproduce_the_recorded_transitions(dataset):
    env = make_env("hopper-random-v2")
    next_obs, rewards, terminals = env.simulate(dataset.states["qpos"], dataset.states["qvel"], dataset.actions)
    np.testing.assert_allclose(next_obs, dataset.next_observations, atol=1e-4)
    np.testing.assert_allclose(rewards, dataset.rewards, atol=1e-4)
    np.testing.assert_array_equal(terminals, dataset.terminals)


def test_the_recipe_is_cached_whole_and_reused(tmp_path, monkeypatch):
    monkeypatch.setenv("DOOF_DATA_DIR", str(tmp_path))
    first = load_recipe(get_spec("hopper-random-v2"), steps=200, processes=1)
    (path,) = tmp_path.iterdir()
    before = path.stat().st_mtime_ns
    assert load_recipe(get_spec("hopper-random-v2"), steps=200).sha256() == first.sha256()
    assert path.stat().st_mtime_ns == before
    assert path.name.startswith("recipe-") and path.suffix == ".hdf5"


def test_auto_takes_d4rls_file_before_the_recipe(tmp_path, monkeypatch, dataset):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    dataset.metadata, recipe = {}, dataset.metadata
    write_dataset(os.path.join(tmp_path, "hopper_random-v2.hdf5"), dataset)
    dataset.metadata = recipe
    assert data.load("auto", get_spec("hopper-random-v2")).source == "d4rl"


def test_a_recipes_file_is_never_called_d4rl(tmp_path, monkeypatch, dataset):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    write_dataset(os.path.join(tmp_path, "hopper_random-v2.hdf5"), dataset)
    loaded = data.load("auto", get_spec("hopper-random-v2"))
    assert (loaded.source, loaded.id) == ("recipe", "hopper-random-v2")


def test_sources_that_have_nothing_say_so():
    with pytest.raises(UserError, match=r"--download fetches http.* into .*or take --source recipe"):
        data.load("d4rl", get_spec("hopper-random-v2"))
    for source in ("auto", "d4rl", "recipe"):
        with pytest.raises(UserError, match=r"--download .*minari:D4RL/pen/human-v2, or .*--source dapg:FILE"):
            data.load(source, get_spec("pen-human-v1"))
    with pytest.raises(UserError, match=r"minari:D4RL/pen/cloned-v2, or .*--source clone:FILE"):
        data.load("auto", get_spec("pen-cloned-v1"))
    for source in ("random", "clone:d.hdf5", "dapg:d.pickle"):
        with pytest.raises(UserError, match=r"make_dataset\.py's; .*--source hdf5:FILE"):
            data.load(source, get_spec("pen-cloned-v1"))
    with pytest.raises(UserError, match="a task of your own: give its data"):
        data.load("auto", TaskSpec("own", "Pendulum-v1", "never"))
    with pytest.raises(UserError, match="none of D4RL's tasks"):
        data.load("d4rl", TaskSpec("own", "Pendulum-v1", "never"), download=True)
    with pytest.raises(UserError, match="unknown source"):
        data.load("web", get_spec("hopper-random-v2"))


def test_random_data_are_uniform_actions_as_d4rls(dataset):
    assert dataset.metadata["behaviour"] == "uniform random actions"
    counts, _ = np.histogram(dataset.actions, bins=10, range=(-1, 1))
    assert counts.sum() == 1800 and abs(counts - 180).max() < 4 * 180**0.5
    assert abs(np.corrcoef(dataset.actions.T) - np.eye(3)).max() < 0.12


def test_a_file_that_an_earlier_version_cached_is_not_taken(tmp_path, monkeypatch, dataset):
    monkeypatch.setenv("DOOF_DATA_DIR", str(tmp_path))
    made = load_recipe(get_spec("hopper-random-v2"), steps=200, processes=1)
    (path,) = tmp_path.iterdir()
    assert f"-r{VERSION}." in path.name and made.metadata["recipe_version"] == VERSION > 2
    path.unlink()
    write_dataset(tmp_path / path.name.replace(f"-r{VERSION}.", "-r2."), dataset)
    assert load_recipe(get_spec("hopper-random-v2"), steps=200, processes=1).sha256() == made.sha256()


def test_a_cached_file_that_is_cut_short_is_made_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DOOF_DATA_DIR", str(tmp_path))
    whole = load_recipe(get_spec("hopper-random-v2"), steps=200, processes=1).sha256()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:10_000])
    assert load_recipe(get_spec("hopper-random-v2"), steps=200, processes=1).sha256() == whole
    (told,) = capsys.readouterr().err.splitlines()
    assert "not a whole HDF5 file" in told and told.endswith("making it again")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
