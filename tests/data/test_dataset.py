"""The D4RL HDF5 file: round trip, and every way it can be unusable."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import unreadable
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from doof_ext.data.dataset import (
    Dataset,
    check_writable,
    concatenate,
    dataset_from_columns,
    read_dataset,
    write_dataset,
)
from doof_ext.errors import UserError
from doof_ext.tasks import get_spec
from doof_ext.tasks.d4rl_package import prepare_import

FLOATS = dict(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def datasets(draw):
    count = draw(st.integers(1, 12))

    def floats(*shape):
        return draw(npst.arrays(np.float32, shape, elements=st.floats(-1e6, 1e6, **FLOATS)))

    terminals = draw(npst.arrays(bool, count))
    timeouts = draw(npst.arrays(bool, count)) & ~terminals
    return Dataset(floats(count, 3), floats(count, 2), floats(count, 3), floats(count), terminals, timeouts)


@settings(max_examples=25, deadline=None)
@given(datasets())
def test_what_is_written_is_read_back(tmp_path_factory, dataset):
    path = tmp_path_factory.mktemp("round") / "d.hdf5"
    write_dataset(path, dataset)
    again = read_dataset(path)
    for name in ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(dataset, name))
    assert again.sha256() == dataset.sha256()


def _columns(dataset):
    names = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")
    return {name: getattr(dataset, name).copy() for name in names}


def test_a_recorded_file_has_d4rls_names_and_states(tmp_path, dataset):
    path = tmp_path / "d.hdf5"
    write_dataset(path, dataset)
    with h5py.File(path) as file:
        assert file["infos/qpos"].shape == (600, 6) and file["infos/qvel"].shape == (600, 6)
        assert file["rewards"].shape == (600,) and file["terminals"].dtype == bool
        assert file["metadata/recipe"][()] == b"hopper-random-v2"
    np.testing.assert_array_equal(
        read_dataset(path, get_spec("hopper-random-v2")).states["qpos"], dataset.states["qpos"]
    )
    assert [p.name for p in tmp_path.iterdir()] == ["d.hdf5"]


def test_d4rls_own_layout_without_timeouts_or_states_is_read(dataset):
    columns = _columns(dataset)
    del columns["timeouts"]
    columns |= {name: columns[name][:, None] for name in ("rewards", "terminals")}  # D4RL's loader takes these too
    again = dataset_from_columns("file", columns)
    np.testing.assert_array_equal(again.timeouts, dataset.timeouts)
    assert again.rewards.shape == again.terminals.shape == (600,)


def test_transitions_keep_every_row_and_separate_timeouts(dataset):
    rows = dataset.transitions()
    assert len(rows["rewards"]) == 600 and rows["rewards"].shape == (600, 1)
    assert rows["terminals"].sum() == dataset.terminals.sum() > 0
    assert dataset.timeouts[-1] or dataset.terminals[-1]


@pytest.mark.parametrize("content", [b"", b"not hdf5 at all", None])
def test_a_file_that_is_no_whole_hdf5_is_refused_in_one_line(tmp_path, dataset, content):
    path = tmp_path / "d.hdf5"
    if content is None:  # a real file cut short
        write_dataset(path, dataset)
        content = path.read_bytes()[:30_000]
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a whole HDF5 file") as caught:
        read_dataset(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="no dataset file"):
        read_dataset(tmp_path / "none.hdf5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["observations"].__setitem__((3, 1), np.nan), "beyond 1e.15 in 1 of 600 rows, first in row 3"),
        (lambda c: c["rewards"].__setitem__(0, np.inf), "rewards is NaN, infinite"),
        (lambda c: c.update(actions=c["actions"][:, :2]), r"actions has shape \[600, 2\]; expected \[600, 3\]"),
        (lambda c: c.update(actions=c["actions"][:10]), "actions has shape"),
        (lambda c: c.update(observations=c["observations"][0]), "observations has shape"),
        (lambda c: (c.pop("next_observations"), c.pop("timeouts")), "neither next_observations nor timeouts"),
        (lambda c: c["rewards"].__setitem__(0, 1e30), "beyond 1e.15"),
        (lambda c: c.update({"infos/qpos": h5py.Empty("f")}), "infos/qpos is not an array"),
        (lambda c: c.update(rewards=c["rewards"].astype("S4")), "not numbers"),
        (lambda c: c.update({k: v[:0] for k, v in c.items()}), "no transitions"),
    ],
)
def test_unusable_columns_are_refused_by_name(dataset, change, message):
    columns = _columns(dataset)
    change(columns)
    with pytest.raises(UserError, match=message):
        dataset_from_columns("file", columns, spec=get_spec("hopper-random-v2"))


def test_float64_columns_become_float32_and_states_stay(tmp_path, dataset):
    path = tmp_path / "d.hdf5"
    with h5py.File(path, "w") as file:
        for name, column in _columns(dataset).items():
            file[name] = column.astype(np.float64) if column.dtype == np.float32 else column
        file["infos/qpos"] = dataset.states["qpos"]
    again = read_dataset(path)
    assert again.sha256() == dataset.sha256() and again.observations.dtype == np.float32
    assert again.states["qpos"].dtype == np.float64 and list(again.states) == ["qpos"]


_WRITE_WITH_A_LIMIT = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from doof_ext.data.dataset import read_dataset, write_dataset
from doof_ext.errors import UserError
dataset = read_dataset(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
try:
    write_dataset(sys.argv[2], dataset)
except UserError as error:
    print(error)
"""


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path, dataset):
    write_dataset(tmp_path / "d.hdf5", dataset)
    (tmp_path / "full").mkdir()
    argv = [sys.executable, "-c", _WRITE_WITH_A_LIMIT, str(tmp_path / "d.hdf5"), str(tmp_path / "full" / "e.hdf5")]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert "e.hdf5 cannot be written (File too large)" in done.stdout, done.stderr
    assert not list((tmp_path / "full").iterdir()) and len(done.stdout.splitlines()) == 1


def test_d4rls_own_loader_reads_what_we_write(tmp_path, dataset):
    prepare_import()
    d4rl = pytest.importorskip("d4rl")
    from d4rl.offline_env import OfflineEnv

    write_dataset(tmp_path / "d.hdf5", dataset)
    env = OfflineEnv()
    env.observation_space, env.action_space = np.empty(11), np.empty(3)  # it asks for their shapes
    rows = d4rl.qlearning_dataset(env, dataset=env.get_dataset(h5path=str(tmp_path / "d.hdf5")))
    kept = np.flatnonzero(~dataset.timeouts[:-1])  # it leaves out timeouts and the last row
    for name in ("observations", "actions", "rewards", "terminals"):
        np.testing.assert_array_equal(rows[name], getattr(dataset, name)[kept])
    inner = ~dataset.terminals[kept]  # after a terminal it gives the next episode's first observation
    np.testing.assert_array_equal(rows["next_observations"][inner], dataset.next_observations[kept][inner])


def test_what_is_missing_or_no_array_is_named(tmp_path, dataset):
    for name, change in (
        ("no terminals", lambda file: file.pop("terminals")),
        ("rewards holds", lambda file: (file.pop("rewards"), file.update(rewards=[b"a"]))),
        ("actions is not an array", lambda file: (file.pop("actions"), file.create_group("actions"))),
    ):
        write_dataset(tmp_path / "d.hdf5", dataset)
        with h5py.File(tmp_path / "d.hdf5", "a") as file:
            change(file)
        with pytest.raises(UserError, match=name) as caught:
            read_dataset(tmp_path / "d.hdf5")
        assert "not a whole" not in str(caught.value)


@pytest.mark.parametrize("values", [(-1, 1), (0, 1, 2), (0, 0.3)])
def test_flags_are_zero_and_one_positive_number(dataset, values):
    columns = {name: getattr(dataset, name) for name in ("observations", "actions", "next_observations", "rewards")}
    flags = np.resize(np.array(values), len(dataset))
    with pytest.raises(UserError, match=r"file: terminals holds .*; a flag is 0 or 1"):
        dataset_from_columns("file", columns | {"terminals": flags})
    whole = dataset_from_columns("file", columns | {"terminals": 255 * dataset.terminals.astype(np.uint8)})
    np.testing.assert_array_equal(whole.terminals, dataset.terminals)


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "d.hdf5"):
        with pytest.raises(UserError, match="cannot be written"):
            check_writable(path)
    check_writable(tmp_path / "new" / "d.hdf5")
    assert not list((tmp_path / "new").iterdir())


def test_arrays_without_a_required_column_are_refused(dataset):
    columns = {name: getattr(dataset, name) for name in ("observations", "actions", "terminals")}
    with pytest.raises(UserError, match=r"package: no rewards; a D4RL file has observations"):
        dataset_from_columns("package", columns)


def test_steps_without_states_follow_and_precede_those_with(dataset):
    bare = dataclasses.replace(dataset, states={})
    for first, second in ((dataset, bare), (bare, dataset)):
        both = concatenate(first, second)
        assert both.states == {} and len(both) == 2 * len(dataset)


def test_a_file_that_another_process_writes_is_refused_with_the_reason(tmp_path, dataset):
    path = tmp_path / "d.hdf5"
    write_dataset(path, dataset)
    code = "import sys; from doof_ext.data.dataset import read_dataset; read_dataset(sys.argv[1])"
    with h5py.File(path, "a"):
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    message = done.stderr.splitlines()[-1]
    assert f"{path} cannot be locked for reading: another process may be writing it" in message
    assert len(read_dataset(path)) == 600


def test_a_file_that_may_not_be_read_is_refused_with_the_reason(tmp_path, dataset, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset("d.hdf5", dataset)
    with unreadable("d.hdf5"), pytest.raises(UserError, match=r"^d.hdf5 cannot be read \(Permission denied\)$"):
        read_dataset("d.hdf5")


def test_a_folder_is_no_dataset(tmp_path):
    with pytest.raises(UserError, match="no dataset file"):
        read_dataset(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="no dataset file"):
        read_dataset(tmp_path / "file" / "d.hdf5")
