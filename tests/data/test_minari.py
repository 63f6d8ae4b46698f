"""Minari's datasets as a source."""

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from test_episodes import assert_same, recordings, written_out

from doof_ext import data
from doof_ext.data import episodes
from doof_ext.data.dataset import dataset_from_columns
from doof_ext.data.minari_source import read_minari
from doof_ext.errors import UserError
from doof_ext.evaluation.consistency import origin_findings
from doof_ext.tasks import get_spec

minari = pytest.importorskip("minari")
EpisodeBuffer = pytest.importorskip("minari.data_collector").EpisodeBuffer


@settings(max_examples=15, deadline=None)
@given(recordings())
def test_minari_keeps_every_transition_terminal_and_timeout(tmp_path_factory, recording):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        buffers = [
            EpisodeBuffer(
                id=index,
                observations=list(observations),
                actions=list(actions),
                rewards=list(rewards),
                terminations=[False] * (len(actions) - 1) + [terminal],
                truncations=[False] * (len(actions) - 1) + [not terminal],
            )
            for index, (observations, actions, rewards, terminal) in enumerate(recording)
        ]
        minari.create_dataset_from_buffers(
            "doof/test-v0",
            buffers,
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (2,)),
            action_space=gymnasium.spaces.Box(-1, 1, (1,)),
            description="random numbers",
        )
        columns, metadata = read_minari("doof/test-v0")
    assert_same(dataset_from_columns("minari", columns, metadata), written_out(recording))
    assert metadata == {"minari": "doof/test-v0"}


def test_minari_that_cannot_be_had_says_how(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="minari download doof/none-v0") as caught:
        read_minari("doof/none-v0")
    assert "\n" not in str(caught.value)


def test_minari_is_a_source(tmp_path, monkeypatch, dataset):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    starts, stops = episodes.bounds(dataset)
    buffers = [
        EpisodeBuffer(
            id=i,
            observations=[*dataset.observations[a:b], dataset.next_observations[b - 1]],
            actions=list(dataset.actions[a:b]),
            rewards=list(dataset.rewards[a:b]),
            terminations=list(dataset.terminals[a:b]),
            truncations=list(dataset.timeouts[a:b]),
        )
        for i, (a, b) in enumerate(zip(starts, stops, strict=True))
    ]
    minari.create_dataset_from_buffers("mujoco/hopper/test-v0", buffers, env="Hopper-v5", description="as recorded")
    loaded = data.load("minari:mujoco/hopper/test-v0", get_spec("hopper-random-v2"))
    assert (loaded.source, loaded.id) == ("minari", "mujoco/hopper/test-v0")
    assert loaded.dataset.sha256() == dataset.sha256() and loaded.dataset.metadata["env_id"] == "Hopper-v5"
    np.testing.assert_array_equal(loaded.dataset.timeouts, dataset.timeouts)
    with pytest.raises(UserError, match=r"expected .*17.*another task"):
        data.load("minari:mujoco/hopper/test-v0", get_spec("walker2d-random-v2"))


def test_a_damaged_or_odd_minari_dataset_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    flags = dict(terminations=[False] * 2, truncations=[False] * 2)
    episode = dict(id=0, observations=[np.zeros(2, np.float32)] * 3, rewards=[0.0] * 2, **flags)
    box = gymnasium.spaces.Box(-1, 1, (2,))
    spaces = {"odd/discrete-v0": gymnasium.spaces.Discrete(2), "odd/cut-v0": box}
    for name, space in spaces.items():
        actions = [0, 1] if name == "odd/discrete-v0" else [np.zeros(2, np.float32)] * 2
        minari.create_dataset_from_buffers(
            name,
            [EpisodeBuffer(**episode, actions=actions)],
            observation_space=box,
            action_space=space,
            description="odd",
        )
    with pytest.raises(UserError, match="its actions are Discrete"):
        read_minari("odd/discrete-v0")
    (path,) = (tmp_path / "odd" / "cut-v0").rglob("*.hdf5")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="Minari cannot give odd/cut-v0") as caught:
        read_minari("odd/cut-v0")
    assert "\n" not in str(caught.value)


def test_a_set_of_another_environment_with_the_same_dimensions_is_warned_of(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    rng = np.random.default_rng(0)
    buffer = EpisodeBuffer(
        id=0,
        observations=list(rng.normal(size=(6, 17))),
        actions=list(rng.uniform(-1, 1, (5, 6)).astype(np.float32)),
        rewards=[1.0] * 5,
        terminations=[False] * 5,
        truncations=[False] * 4 + [True],
    )
    minari.create_dataset_from_buffers("doof/walker-v0", [buffer], env="Walker2d-v5", description="random numbers")
    loaded = data.load("minari:doof/walker-v0", get_spec("halfcheetah-medium-v2"))
    (line,) = origin_findings(get_spec("halfcheetah-medium-v2"), loaded.dataset)
    assert line == "WARNING: the data were recorded in Walker2d-v5, the environment is HalfCheetah-v4"
    assert origin_findings(get_spec("walker2d-medium-v2"), loaded.dataset) == []
