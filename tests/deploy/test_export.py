"""Exported folders: what is in them, that they answer as the run, and that they are whole or not there."""

import hashlib
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import needs
from kept_run import HOPPER, LEVER, keep_run, observations_of

from doof_ext import __version__, pipeline
from doof_ext.cli import main
from doof_ext.deploy import FORMATS, POLICIES, export
from doof_ext.deploy.export import export_policy
from doof_ext.errors import UserError

needs_onnx = needs("deploy", "onnx", "onnxruntime")
each_format = pytest.mark.parametrize(
    "format", [pytest.param(name, marks=needs_onnx if name == "onnx" else ()) for name in FORMATS]
)


@pytest.fixture
def lever(tmp_path, tiny):
    """A run on a task of one's own."""
    return keep_run(tmp_path / "lever-run", tiny(), LEVER)


def _answer(folder, observations):
    """The actions of an exported folder, read as its user reads it."""
    path = str(folder / json.loads((folder / "policy.json").read_text())["file"])
    if path.endswith(".onnx"):
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.run(None, {"observation": observations})[0]
    if path.endswith(".pt"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(path)(torch.from_numpy(observations)).numpy()
    return _in_numpy_alone(folder, observations)


ONLY_NUMPY = """
import sys
class OnlyNumpy:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "numpy", "numpy_policy"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, OnlyNumpy())
import numpy as np
from numpy_policy import load
np.save(sys.argv[2], load().act(np.load(sys.argv[1])))
"""


def _in_numpy_alone(folder, observations):
    """The actions of a NumPy folder in a process that can import nothing but NumPy and Python's own modules."""
    asked, answered = folder.parent / "asked.npy", folder.parent / "answered.npy"
    np.save(asked, observations)
    command = [sys.executable, "-c", ONLY_NUMPY, str(asked), str(answered)]
    done = subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(answered)


@each_format
def test_a_folder_answers_as_the_runs_policy(format, tmp_path, tiny):
    run = keep_run(tmp_path / "run", tiny(hidden_dims=(256, 256)), HOPPER)
    export_policy(run.directory, format, tmp_path / "out")
    observations = observations_of(run)
    wanted = run.policies["finetuned"].select_action(observations, deterministic=True)
    np.testing.assert_allclose(_answer(tmp_path / "out", observations), wanted, atol=1e-5, rtol=0)


@each_format
@pytest.mark.parametrize("which", POLICIES)
def test_policy_json_says_how_to_use_it(lever, format, which, tmp_path):
    out = tmp_path / "new" / "folder"
    said = export_policy(lever.directory, format, out, which)
    assert said == json.loads((out / "policy.json").read_text())
    assert said["format"] == format and said["deterministic"] is True
    ends = {name: (said[name]["shape"], said[name]["names"]) for name in ("input", "output")}
    assert ends["input"] == (["batch", 4], list(LEVER.observation_names))
    assert ends["output"] == (["batch", 2], list(LEVER.action_names))
    assert (said["output"]["low"], said["output"]["high"]) == (list(LEVER.action_low), list(LEVER.action_high))
    np.testing.assert_allclose(said["input"]["data_mean"], 2.0, atol=0.5)
    np.testing.assert_allclose(said["input"]["data_std"], 3.0, atol=0.5)
    stage, weights = {
        "finetuned": ("finetune_policy", "model/policy.pth"),
        "pretrained": ("pretrain", "checkpoint/pretrained_policy.pth"),
        "exploration": ("explore", "checkpoint/exploration_policy.pth"),
    }[which]
    origin = said["provenance"]
    assert (origin["task"], origin["policy"], origin["stage"], origin["seed"]) == ("lever", which, stage, 1)
    assert origin["run"].endswith("lever-run") and origin["run_complete"] is False
    assert (origin["doof_ext"], origin["weights"]) == (__version__, weights)
    assert origin["weights_sha256"] == hashlib.sha256((lever.directory / weights).read_bytes()).hexdigest()
    assert said["sha256"] == hashlib.sha256((out / said["file"]).read_bytes()).hexdigest()
    assert said["checked"]["observations"] == 1000 and said["checked"]["largest_difference"] <= 1e-5
    observation, action = (np.float32([said["sample"][name]]) for name in ("observation", "action"))
    np.testing.assert_allclose(_answer(out, observation), action, atol=1e-6)
    np.testing.assert_allclose(lever.policies[which].select_action(observation, deterministic=True), action, atol=1e-5)
    assert not list(out.parent.glob(".*"))


def test_what_a_finished_run_adds(settings, tmp_path):
    summary, directory = pipeline.run(settings())
    origin = export_policy(directory, "numpy", tmp_path / "out")["provenance"]
    assert origin["run_complete"] and origin["dataset"] == {"source": "recipe", "id": summary["dataset"]["id"]}
    assert origin["run"] == str(Path(directory).relative_to(tmp_path))


def test_an_empty_folder_is_taken_and_any_other_refused(lever, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    export_policy(lever.directory, "numpy", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(before) == {"policy.json", "policy.safetensors", "numpy_policy.py"}
    with pytest.raises(UserError, match="is there already, and no empty folder"):
        export_policy(lever.directory, "torchscript", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="no empty folder"):
        export_policy(lever.directory, "numpy", tmp_path / "file")
    with pytest.raises(UserError, match="choose another --out"):
        export_policy(lever.directory, "numpy", tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "kept"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match="is the working folder"):
        export_policy(lever.directory, "numpy", ".")


def test_what_answers_otherwise_is_not_published(lever, tmp_path, monkeypatch):
    def shifted(folder, policy):
        name, answer = write_numpy(folder, policy)
        return name, lambda observations: answer(observations) + np.float32(1e-4)

    write_numpy = export.WRITERS["numpy"]
    monkeypatch.setitem(export.WRITERS, "numpy", shifted)
    with pytest.raises(UserError, match=r"not exported: its actions are up to 1.0e-04 from those of .*policy\.pth"):
        export_policy(lever.directory, "numpy", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["lever-run"]


def test_until_all_is_written_nothing_has_the_folders_name(lever, tmp_path, monkeypatch):
    seen = []

    def stopped(path, content):
        seen.extend(sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "write_json", stopped)
    with pytest.raises(UserError, match="No space left"):
        export_policy(lever.directory, "numpy", tmp_path / "out")
    assert seen == ["lever-run"] == [path.name for path in tmp_path.iterdir()]


def test_a_missing_package_names_the_extra(lever, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'doof_ext\[deploy\]'"):
        export_policy(lever.directory, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_format_is_one_line(lever, tmp_path):
    with pytest.raises(UserError, match="there is no format 'pickle'; choose onnx, torchscript, numpy"):
        export_policy(lever.directory, "pickle", tmp_path / "out")


def test_a_scaler_that_is_missing_or_damaged_is_one_line(lever, tmp_path):
    for damage in (lambda path: np.save(path, np.zeros((1, 6), np.float32)), lambda path: path.unlink()):
        damage(lever.directory / "model" / "std.npy")
        with pytest.raises(UserError, match=r"mu\.npy and std\.npy"):
            export_policy(lever.directory, "numpy", tmp_path / "out")


def test_the_command_says_what_it_has_checked(lever, tmp_path, capsys):
    argv = [
        "export",
        str(lever.directory),
        "--format",
        "numpy",
        "--which",
        "pretrained",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(argv) == 0
    printed = capsys.readouterr()
    assert "the pretrained policy of lever in policy.safetensors; on 1000 observations within" in printed.out
    assert main(argv) == 2
    assert "no empty folder" in capsys.readouterr().err


@needs_onnx
def test_the_onnx_graph_takes_any_batch_and_is_old_enough_for_old_runtimes(lever, tmp_path):
    import onnx

    export_policy(lever.directory, "onnx", tmp_path / "out")
    model = onnx.load(tmp_path / "out" / "policy.onnx")
    assert [entry.version for entry in model.opset_import] == [17] and model.ir_version == 8
    for rows in (1, 3):
        observations = 1e4 * observations_of(lever, rows)
        actions = _answer(tmp_path / "out", observations)
        assert actions.shape == (rows, 2)
        assert (actions >= np.float32(LEVER.action_low)).all() and (actions <= np.float32(LEVER.action_high)).all()
