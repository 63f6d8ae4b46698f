"""Checkpoints: what goes in comes out, and nothing else ever does."""

import errno
import os
import random
import shutil

import numpy as np
import pytest
import torch

from doof_ext.checkpointing import store
from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.errors import RunStoppedError, UserError

FILES = ("manifest.json", "state.safetensors")


def _tree(value):
    flat = torch.arange(12.0) * value
    return {
        "views": [flat[:4], flat.view(3, 4).t()],
        "array": np.arange(5, dtype=np.int64),
        "none": None,
        "text": "π",
        "numbers": (1, 2.5, True, float("inf")),
        3: {"integer key": torch.tensor(True)},
        "value": value,
        "empty": torch.zeros(0, 4),
    }


def _assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            _assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            _assert_same(one, other)
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
    else:
        assert found == expected


def test_the_newest_tree_comes_back_and_two_are_kept(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoint")
    assert store.load() is None
    for value in range(1, 5):
        store.save(_tree(value))
        _assert_same(store.load(), _tree(value))
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == ["state-000003", "state-000004"]


def test_what_is_half_written_is_no_checkpoint(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(_tree(1))
    shutil.copytree(tmp_path / "state-000001", tmp_path / "state-000002.tmp")
    _assert_same(store.load(), _tree(1))
    store.save(_tree(2))
    _assert_same(store.load(), _tree(2))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(tmp_path, name, damage):
    store = CheckpointStore(tmp_path)
    store.save(_tree(1))
    path = tmp_path / "state-000002" / name
    store.save(_tree(2))
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(50):
        place = rng.randrange(len(whole))
        flipped = whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :]
        path.write_bytes(whole[:place] if damage == "truncated" else flipped)
        told = []
        _assert_same(store.load(told.append), _tree(1))
        (line,) = told
        assert "damaged" in line and "state-000002" in line and "\n" not in line
    path.write_bytes(whole)
    _assert_same(store.load(), _tree(2))


def test_a_damaged_checkpoint_takes_no_whole_ones_place(tmp_path):
    store = CheckpointStore(tmp_path)
    for value in (1, 2, 3):
        store.save(_tree(value))
    (tmp_path / "state-000003" / "manifest.json").write_text("{}")
    _assert_same(store.load(lambda line: None), _tree(2))
    store.save(_tree(4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-000002", "state-000004"]


def test_where_all_are_damaged_nothing_is_resumed(tmp_path):
    store = CheckpointStore(tmp_path)
    (tmp_path / "state-000001").mkdir()
    with pytest.raises(UserError, match="cannot be resumed"):
        store.load(lambda line: None)


def test_a_tree_that_cannot_be_held_leaves_the_last_checkpoint(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(_tree(1))
    with pytest.raises(TypeError, match="cannot hold object"):
        store.save({"odd": object()})
    _assert_same(store.load(), _tree(1))


def test_on_a_full_disk_the_last_checkpoint_is_named_where_there_is_one(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    kept = CheckpointStore(tmp_path / "kept")
    kept.save(_tree(1))
    monkeypatch.setattr(store, "_write", full)
    with pytest.raises(RunStoppedError, match=r"\(No space left on device\)$"):
        CheckpointStore(tmp_path / "new").save(_tree(1))
    with pytest.raises(RunStoppedError, match="the last one before it is kept"):
        kept.save(_tree(2))
    _assert_same(kept.load(), _tree(1))


def test_a_checkpoint_of_another_format_is_refused_with_its_version(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_FORMAT", 1)
    monkeypatch.setattr(store, "__version__", "0.1.0")
    CheckpointStore(str(tmp_path)).save({"a": 1})
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"written by doof_ext 0\.1\.0 \(checkpoint format 1\)") as caught:
        CheckpointStore(str(tmp_path)).load()
    assert "\n" not in str(caught.value) and "finish the run with doof_ext 0.1.0" in str(caught.value)
