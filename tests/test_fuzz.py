"""A thousand strange files and command lines: refused in one line or answered; no traceback, nothing written astray."""

import io
import json
import os

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.config import Config, config_from, given_flags, parse_args
from doof_ext.data.dataset import read_dataset
from doof_ext.errors import UserError
from doof_ext.experiment.run_directory import create_run_directory
from doof_ext.files import read_json
from doof_ext.tasks import TaskSpec, get_spec, name_of_env, register

THOUSAND = settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def _one_line(function, *arguments):
    """What a function gives, or None where it refuses in one line."""
    try:
        return function(*arguments)
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        return None


def _valid_hdf5():
    file = io.BytesIO()
    rng = np.random.default_rng(0)
    with h5py.File(file, "w") as hdf5:
        for name, width in (("observations", 11), ("actions", 3), ("next_observations", 11)):
            hdf5[name] = rng.normal(size=(20, width)).astype(np.float32)
        hdf5["rewards"] = rng.normal(size=20).astype(np.float32)
        for name in ("terminals", "timeouts"):
            hdf5.create_dataset(name, data=np.zeros(20, bool), compression="gzip")
        hdf5["infos/qpos"], hdf5["metadata/task"] = rng.normal(size=(20, 6)), "hopper-medium-v2"
    return file.getvalue()


VALID = _valid_hdf5()


@THOUSAND
@given(
    st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=20), st.integers(0, len(VALID))
)
def test_hdf5_files_with_bytes_changed(tmp_path, changes, cut):
    content = bytearray(VALID)
    for place, value in changes:
        content[place] = value
    path = tmp_path / "d.hdf5"
    path.write_bytes(content[: cut if cut % 3 == 0 else None])
    dataset = _one_line(read_dataset, path, get_spec("hopper-medium-v2"))
    if dataset is not None:
        assert np.isfinite(dataset.observations).all() and dataset.observations.shape[1] == 11


arrays = st.one_of(
    st.sampled_from([(), (0,), (5,), (5, 1), (5, 3), (5, 11), (2, 11), (5, 11, 2)]).flatmap(
        lambda shape: st.sampled_from(["f4", "f8", "i8", "?", "S3", "u1"]).map(
            lambda kind: np.zeros(shape, kind) if kind == "S3" else np.ones(shape, kind)
        )
    ),
    st.just("group"),
    st.just(np.array([np.nan] * 5)),
    st.just("a string"),
)


@THOUSAND
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "observations",
                "actions",
                "next_observations",
                "rewards",
                "terminals",
                "timeouts",
                "infos/qpos",
                "metadata/task",
            ]
        ),
        arrays,
    )
)
def test_hdf5_files_of_strange_content(tmp_path, content):
    path = tmp_path / "d.hdf5"
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            if isinstance(value, str) and value == "group":
                file.create_group(name)
            else:
                file[name] = value
    _one_line(read_dataset, path, get_spec("hopper-medium-v2"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = [name for name in Config.__dataclass_fields__]


@THOUSAND
@given(
    st.one_of(
        st.binary(max_size=60),
        json_values.map(lambda value: json.dumps(value).encode()),
        st.dictionaries(st.sampled_from(names), json_values).map(
            lambda changes: json.dumps(Config().__dict__ | changes).encode()
        ),
    )
)
def test_recorded_settings_of_strange_content(tmp_path, content):
    (tmp_path / "record").mkdir(exist_ok=True)
    (tmp_path / "record" / "hyper_param.json").write_bytes(content)
    _one_line(config_from, {"resume": str(tmp_path)})
    _one_line(read_json, tmp_path / "record" / "hyper_param.json")


@THOUSAND
@given(
    st.one_of(
        st.binary(max_size=60),
        json_values.map(lambda value: json.dumps(value).encode()),
        json_values.map(lambda value: json.dumps({"content": value, "sha256": "0"}).encode()),
        st.dictionaries(st.sampled_from(["content", "sha256", "format", "tree"]), json_values).map(
            lambda value: json.dumps(value).encode()
        ),
    )
)
def test_checkpoint_manifests_of_strange_content(tmp_path, content):
    folder = tmp_path / "state-000001"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(content)
    (folder / "state.safetensors").write_bytes(content)
    assert _one_line(CheckpointStore(tmp_path).load, lambda line: None) is None


words = st.one_of(
    st.sampled_from([f"--{name.replace('_', '-')}" for name in names]),
    st.sampled_from(
        [
            "1",
            "-1",
            "0.5",
            "inf",
            "nan",
            "1e400",
            "smoke",
            "recipe",
            "../../x",
            "/etc/passwd",
            "a\nb",
            "",
            "hopper-medium-v2",
            "hdf5:",
            "hdf5:/dev/null",
            "minari:../x",
            "never",
            "\x00",
            "-",
            "--",
            "true",
        ]
    ),
    st.text(max_size=6),
)


@THOUSAND
@given(st.lists(words, max_size=7))
def test_command_lines(argv):
    try:
        config = _one_line(parse_args, "test", argv)
    except SystemExit as exit:  # --help, or an abbreviation of it
        assert exit.code == 0
        return
    if config is not None:
        assert given_flags(argv) is not None
        assert config.task.strip("./") and not set(config.task) & set("/\\\n\0")


@THOUSAND
@given(st.text(max_size=12) | st.sampled_from(["..", "../x", "/abs", "a\nb", "a/../../b", ".", "~", "C:\\x"]))
def test_no_task_name_leads_out_of_the_log_directory(tmp_path_factory, name):
    log = tmp_path_factory.getbasetemp() / "fuzz-log"
    for task in (name, name_of_env(name)):
        spec = _one_line(register, TaskSpec(task, "Pendulum-v1", "never"))
        if spec is not None:
            made = create_run_directory(Config(task=spec.name, uncertainty="aleatoric", logdir=str(log)))
            assert os.path.realpath(made).startswith(f"{os.path.realpath(log)}{os.sep}")
            assert len(os.path.relpath(made, log).split(os.sep)) == 3


@pytest.mark.parametrize("name", ["../x", "/abs", "a\nb", "..", ""])
def test_task_names_that_leave_their_folder_are_refused(name):
    with pytest.raises(UserError):
        register(TaskSpec(name, "Pendulum-v1", "never"))
    with pytest.raises(UserError):
        get_spec(name)
