"""Files that are whole or not there, and that run nothing when they are read."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from conftest import unreadable

from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.config.recorded import recorded_settings
from doof_ext.errors import UserError
from doof_ext.experiment.artifacts import save_dynamics
from doof_ext.files import load_state, publish_folder, read_json, save_tensors, write_json
from doof_ext.learning.factory import build_policy


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 100_000, "\xff\x00", '{"a": NaN'])
def test_what_is_no_json_object_is_one_line(tmp_path, content):
    path = tmp_path / "summary.json"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_a_state_that_shares_storage_is_saved_apart(tmp_path):
    shared = torch.arange(1000.0)
    save_tensors(tmp_path / "m.pth", {"one": shared[:2]})
    assert torch.load(tmp_path / "m.pth", weights_only=True)["one"].untyped_storage().nbytes() == 8


class _Malicious:
    """Pickles to a call that writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture(params=["pickle", "torch zip", "torch legacy"])
def malicious(request, tmp_path):
    """A file that runs a command when it is unpickled, and what the command would leave behind."""
    victim, path = tmp_path / "victim", tmp_path / "bad.pth"
    if request.param == "pickle":
        path.write_bytes(pickle.dumps({"weight": _Malicious(victim)}))
    else:
        torch.save({"weight": _Malicious(victim)}, path, _use_new_zipfile_serialization=request.param == "torch zip")
    return path, victim


def test_a_malicious_policy_runs_nothing(malicious, tiny, spec, dynamics):
    path, victim = malicious
    policy = build_policy(tiny(), spec, dynamics, uncertainty_coef=-1.0)
    with pytest.raises(UserError, match="not loaded"):
        load_state(path, policy)
    assert not victim.exists()


def test_a_malicious_dynamics_runs_nothing(malicious, dynamics, tmp_path):
    path, victim = malicious
    folder = tmp_path / "model"
    folder.mkdir()
    save_dynamics(folder, dynamics)
    dynamics.load(folder)
    path.rename(folder / "dynamics.pth")
    with pytest.raises(UserError, match="not loaded"):
        dynamics.load(folder)
    assert not victim.exists()


def test_a_malicious_scaler_runs_nothing(dynamics, tmp_path):
    victim = tmp_path / "victim"
    save_dynamics(tmp_path, dynamics)
    np.save(tmp_path / "mu.npy", np.array([_Malicious(victim)], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"mu\.npy"):
        dynamics.load(tmp_path)
    assert not victim.exists()


def test_a_policy_of_another_network_is_one_line(tmp_path, dynamics):
    save_tensors(tmp_path / "p.pth", {"other": torch.zeros(2)})
    with pytest.raises(UserError, match="does not hold these networks' weights") as caught:
        load_state(tmp_path / "p.pth", dynamics.model)
    assert "\n" not in str(caught.value)
    (tmp_path / "p.pth").write_text(json.dumps({}))
    with pytest.raises(UserError):
        load_state(tmp_path / "p.pth", dynamics.model)
    with pytest.raises(UserError, match="no file"):
        load_state(tmp_path / "none.pth", dynamics.model)


def test_a_folder_is_whole_or_not_there(tmp_path):
    def half(folder):
        write_json(os.path.join(folder, "a.json"), {"a": 1})
        assert not (tmp_path / "out").exists()
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        publish_folder(tmp_path / "out", half)
    assert not list(tmp_path.iterdir())
    publish_folder(tmp_path / "out", lambda folder: write_json(os.path.join(folder, "a.json"), {"a": 1}))
    (tmp_path / "plain").mkdir()
    assert read_json(tmp_path / "out" / "a.json") == {"a": 1}
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode
    with pytest.raises(OSError, match="not empty"):
        publish_folder(tmp_path / "out", lambda folder: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "plain"]


def test_what_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("record")
    CheckpointStore("checkpoints").save({"a": 1})
    readers = {
        "s.json": lambda path: read_json(path),
        "record/hyper_param.json": lambda path: recorded_settings("."),
        "p.pth": lambda path: load_state(path, torch.nn.Linear(1, 1)),
        "checkpoints/state-000001/manifest.json": lambda path: CheckpointStore("checkpoints").load(),
        "checkpoints": lambda path: CheckpointStore(path).load(),
    }
    for path, read in readers.items():
        if not os.path.exists(path):
            open(path, "w").close()
        with unreadable(path), pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
            read(path)
