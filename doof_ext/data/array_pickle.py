"""Pickles of NumPy arrays, read without running what they name.

Unpickling calls whatever a file names, and NumPy's own constructors trust their arguments. So each name that an array's
pickle needs is met by a stand-in, which checks what it is given; every other name is refused before it is imported.
"""

from __future__ import annotations

import os
import pickle
import re
from typing import Any

import numpy as np

from doof_ext.errors import UserError

_NUMBERS = re.compile("f[248]|[iu][1248]|b1")  # dtypes as NumPy pickles them


def load_arrays(path: str | os.PathLike[str]) -> Any:
    """What a pickle holds: lists, dicts, strings and numbers, and each array as a :class:`PickledArray`.

    Args:
        path: The file, pickled with protocol 3 or later and any version of NumPy.

    Raises:
        UserError: It cannot be read, is damaged, or names anything but arrays of numbers; nothing it names is called.
    """
    try:
        with open(path, "rb") as file:
            return _ArrayUnpickler(file).load()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except _Refused as error:
        raise UserError(f"{path} is not read: it holds {error}; only arrays, lists, dicts and numbers are") from error
    except Exception as error:  # a damaged pickle may raise anything
        reason = str(error).strip() or type(error).__name__
        raise UserError(f"{path} is no whole pickle of arrays ({reason}); fetch it again") from error


class _Refused(Exception):
    """Names what is not admitted."""


class _StandIn:
    def __setstate__(self, state: Any) -> None:
        raise _Refused("an object that takes no state")


class _NumPyArray(_StandIn):
    """Stands in for ``numpy.ndarray``, which is named but never called."""


class _Number(_StandIn):
    """Stands in for ``numpy.dtype``: of plain numbers only."""

    def __init__(self, code: str, *_: Any) -> None:
        if not _NUMBERS.fullmatch(code):
            raise _Refused(f"an array of {code!a}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, *structure = state[1:5]
        if structure != [None] * 3:  # a subarray, names and fields
            raise _Refused("a structured array")
        self.dtype = self.dtype.newbyteorder(order)


class PickledArray(_StandIn):
    """An array out of a pickle; stands in for NumPy's ``_reconstruct``, whose result then takes its state."""

    def __init__(self, *_: Any) -> None:
        self.array = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, number, in_columns, content = state
        self.array = _array(content, number, shape, "F" if in_columns else "C")


class _BufferedArray(PickledArray):
    """Stands in for NumPy's ``_frombuffer``, of protocol 5."""

    def __init__(self, content: bytes, number: _Number, shape: tuple[int, ...], order: str) -> None:
        self.array = _array(content, number, shape, order)


class _Scalar(_StandIn):
    """Stands in for NumPy's ``scalar``; calling it gives a Python number."""

    def __new__(cls, number: _Number, content: bytes) -> Any:
        return _array(content, number, (), "C").item()


def _array(content: bytes, number: _Number, shape: tuple[int, ...], order: Any) -> np.ndarray:
    if not isinstance(content, (bytes, bytearray)):
        raise _Refused(f"an array of {type(content).__name__}")
    return np.frombuffer(content, number.dtype).reshape(shape, order=order)


_STAND_INS: dict[tuple[str, str], type[_StandIn]] = {
    ("numpy", "ndarray"): _NumPyArray,
    ("numpy", "dtype"): _Number,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")  # NumPy 1, NumPy 2
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", PickledArray),
            ("multiarray", "scalar", _Scalar),
            ("numeric", "_frombuffer", _BufferedArray),
        )
    },
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_StandIn]:
        if (module, name) not in _STAND_INS:
            raise _Refused(ascii(f"{module}.{name}"))
        return _STAND_INS[module, name]
