"""Pickles of arrays: what NumPy 1 and 2 write is read, and nothing that a file names is run."""

import os
import pickle
import random

import numpy as np
import pytest
from conftest import damaged

from doof_ext.data.array_pickle import load_arrays
from doof_ext.errors import UserError

ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    np.arange(4, dtype=">i4"),
    np.array([True, False]),
    np.array(1.5),
    np.zeros((0, 3)),
    np.arange(10, dtype=np.uint8)[::3],
]


def _load(tmp_path, content):
    path = tmp_path / "d.pickle"
    path.write_bytes(content)
    return load_arrays(path)


def _refused(tmp_path, content):
    with pytest.raises(UserError) as caught:
        _load(tmp_path, content)
    assert "d.pickle" in str(caught.value) and len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def _as_written_by(core, content):
    """A pickle of protocol 3 as NumPy 1 (``numpy.core``) or NumPy 2 (``numpy._core``) writes it."""
    assert b"multiarray" in content
    return content.replace(b"cnumpy._core.", b"cnumpy.core.").replace(b"cnumpy.core.", b"c" + core + b".")


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_what_numpy_1_and_2_write_is_read(tmp_path, core):
    listed = [{"a": ARRAYS, "number": np.float64(2.5)}, "text", 3, None]
    content = _as_written_by(core, pickle.dumps(listed, protocol=3))
    assert core + b".multiarray\n_reconstruct" in content and core + b".multiarray\nscalar" in content
    (item, *rest) = _load(tmp_path, content)
    assert rest == ["text", 3, None] and item["number"] == 2.5 and type(item["number"]) is float
    for read, written in zip(item["a"], ARRAYS, strict=True):
        np.testing.assert_array_equal(read.array, written)
        assert read.array.dtype == written.dtype


@pytest.mark.parametrize("protocol", [4, 5])
def test_later_protocols_are_read(tmp_path, protocol):
    for read, written in zip(_load(tmp_path, pickle.dumps(ARRAYS, protocol=protocol)), ARRAYS, strict=True):
        np.testing.assert_array_equal(read.array, written)


class _Call:
    """Pickles to a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_runs_nothing(tmp_path, protocol):
    victim = tmp_path / "victim"
    call = _Call(os.system, f"touch {victim}")
    for content in ([{"actions": call}], call, [np.array([call, None], dtype=object)]):
        assert "only arrays, lists, dicts and numbers" in _refused(tmp_path, pickle.dumps(content, protocol=protocol))
    assert "system" in _refused(tmp_path, pickle.dumps(call, protocol=protocol))
    assert not victim.exists()


def test_pickle_itself_would_have_run_it(tmp_path):
    victim = tmp_path / "victim"
    pickle.loads(pickle.dumps(_Call(os.system, f"touch {victim}")))
    assert victim.exists()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.array([{}], dtype=object), "an array of 'O8'"),
        (np.array(["text"]), "an array of 'U4'"),
        (np.zeros(2, [("a", "f8")]), "an array of 'V8'"),
        (np.datetime64("2020-01-01"), "an array of 'M8'"),
        (np.zeros(2, complex), "an array of 'c16'"),
        (1j, "builtins.complex"),
        (np.ma.masked_array([1.0]), "numpy.ma"),
        (np.load, "load"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_by_name(tmp_path, value, named):
    assert named in _refused(tmp_path, pickle.dumps([value], protocol=4))


LITTLE_ENDIAN = b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
NEW_ARRAY = b"\x80\x03cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"


def _array_pickle(dtype_state=LITTLE_ENDIAN, content=b"C\x08" + bytes(8)):
    """A pickled array of one float64, in which the state of its dtype or its content may be replaced."""
    dtype = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8K\x00K\x01tR" + dtype_state + b"b"
    return NEW_ARRAY + b"(K\x00tC\x01btR(K\x01(K\x01t" + dtype + b"\x89" + content + b"tb."


def test_numpys_own_constructors_are_not_handed_a_files_arguments(tmp_path):
    assert _load(tmp_path, _array_pickle()).array.tolist() == [0.0]
    objects = b"(K\x03X\x01\x00\x00\x00|NX\x01\x00\x00\x00a\x85}X\x01\x00\x00\x00aK\x00K\x00\x86sK\x08K\x01K\x3ft"
    assert "a structured array" in _refused(tmp_path, _array_pickle(dtype_state=objects))
    assert "an array of list" in _refused(tmp_path, _array_pickle(content=b"]"))
    assert "cannot reshape" in _refused(tmp_path, _array_pickle(content=b"C\x10" + bytes(16)))
    assert "takes no state" in _refused(tmp_path, b"\x80\x03cnumpy\nndarray\n)R}b.")
    huge = NEW_ARRAY + b"\x8a\x08" + bytes(7) + b"\x10\x85C\x01btR."  # 2 ** 60 bytes, were it believed
    assert _load(tmp_path, huge).array.size == 0


def test_a_damaged_file_is_one_line(tmp_path):
    whole, rng = pickle.dumps([{"a": np.arange(30.0), "b": [np.float32(1)]}], protocol=3), random.Random(0)
    for damage in ("truncated", "flipped"):
        for _ in range(60):
            try:
                _load(tmp_path, damaged(whole, damage, rng))
            except UserError as error:
                assert len(str(error).splitlines()) == 1
    assert "no whole pickle" in _refused(tmp_path, whole[:-1]) and "no whole pickle" in _refused(tmp_path, b"")


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path):
    for path, reason in ((tmp_path / "none.pickle", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError, match=f"cannot be read .{reason}"):
            load_arrays(path)
