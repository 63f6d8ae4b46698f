"""What a run says of its data before it trains."""

import dataclasses

import numpy as np
import pytest

from doof_ext import data, pipeline
from doof_ext.data.dataset import write_dataset
from doof_ext.experiment.experiment import Experiment


@pytest.mark.parametrize(
    ("algo", "clamped", "rewards", "warned"),
    [("mobile", True, -1, True), ("mobile", False, -1, False), ("mobile", True, 1, False), ("mopo", True, -1, False)],
)
def test_mobiles_clamp_is_warned_of_where_returns_are_negative(tiny, env, dataset, algo, clamped, rewards, warned):
    config = tiny(algo=algo, nonnegative_target=clamped)
    paid = dataclasses.replace(dataset, rewards=np.full(600, rewards, np.float32))
    lines = [line for line in pipeline.check_data(config, env, paid) if "MOBILE" in line]
    episodes = int((dataset.terminals | dataset.timeouts).sum())
    expected = f"WARNING: {episodes} of {episodes} episodes have a negative return, and MOBILE clamps its Q target at 0"
    assert lines == [f"{expected}: give --nonnegative-target false"] * warned


def test_what_changes_nothing_is_told(tmp_path, monkeypatch, settings, env, dataset, capsys):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    write_dataset(tmp_path / "hopper_random-v2.hdf5", dataclasses.replace(dataset, metadata={}))
    config = settings(source="auto", dataset_steps=50, hash_bits=8, physics="gymnasium")
    with Experiment(config, data.load("auto", config.spec, 50)) as experiment:
        experiment.start(env, [])
    told = capsys.readouterr().out
    assert "data: D4RL hopper_random-v2.hdf5, 600 transitions" in told
    assert "WARNING: --dataset-steps 50 shortens recipes only: all transitions are used" in told
    assert "WARNING: --hash-bits 8 has no effect beside --uncertainty aleatoric" in told
    assert "WARNING: --physics gymnasium has no effect here, where there are no others" in told  # as with the pen
