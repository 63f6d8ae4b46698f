"""Checkpoints: a tree of tensors and plain values as a folder that is whole or not there, without pickle.

A checkpoint is ``state-NNNNNN/`` with ``state.safetensors`` and ``manifest.json``; the manifest has the shape of the
tree, the SHA-256 of the tensors' file, and a SHA-256 of itself.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from doof_ext import __version__
from doof_ext.errors import RunStoppedError, UserError, unreadable

_FORMAT = 3
_KEPT = 2
_NAME = re.compile(r"state-(\d{6,})")


class CheckpointStore:
    """The checkpoints of one folder; the last two are kept."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._damaged: set[int] = set()

    def save(self, tree: dict[str, Any]) -> str:
        """Writes a checkpoint beside the last ones. Until all is on the disk, nothing has a checkpoint's name.

        Args:
            tree: Dicts, lists and tuples of tensors, arrays, numbers, strings and None.

        Returns:
            The checkpoint's folder.

        Raises:
            RunStoppedError: It cannot be written.
        """
        numbers = self._numbers()
        whole = [number for number in numbers if number not in self._damaged]
        name = f"state-{(numbers[-1] if numbers else 0) + 1:06d}"
        temporary = os.path.join(self._folder, f"{name}.tmp")
        path = os.path.join(self._folder, name)
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            os.makedirs(temporary)
            _write(temporary, tree)
            os.replace(temporary, path)
            _sync(self._folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            kept = "; the last one before it is kept" if whole else ""
            raise RunStoppedError(f"checkpoint {path} cannot be written ({reason}){kept}") from error
        for old in {*whole[: 1 - _KEPT], *self._damaged}:
            shutil.rmtree(os.path.join(self._folder, f"state-{old:06d}"), ignore_errors=True)
        return path

    def load(self, warn: Callable[[str], object] = print) -> dict[str, Any] | None:
        """The newest whole checkpoint's tree, or None where there is none.

        Args:
            warn: Called with a line for each damaged checkpoint.

        Raises:
            UserError: There are checkpoints, but all are damaged, or another version of the package wrote them.
        """
        try:
            numbers = self._numbers()
        except PermissionError as error:
            raise unreadable(self._folder, error) from error
        for number in reversed(numbers):
            path = os.path.join(self._folder, f"state-{number:06d}")
            try:
                return _read(path)
            except _DamagedError as error:
                self._damaged.add(number)
                warn(f"WARNING: checkpoint {path} is damaged ({error}); trying the one before it")
        if numbers:
            raise UserError(f"every checkpoint in {self._folder} is damaged: this run cannot be resumed")
        return None

    def _numbers(self) -> list[int]:
        with contextlib.suppress(FileNotFoundError):
            found = (_NAME.fullmatch(name) for name in os.listdir(self._folder))
            return sorted(int(match[1]) for match in found if match)
        return []


class _DamagedError(Exception):
    """A checkpoint that is not what was written."""


def _refuse_other_format(path: str, content: dict[str, Any]) -> None:
    """Raises UserError for a whole checkpoint that another version of the package wrote."""
    if content["format"] != _FORMAT:
        writer = content.get("version", "0.1")  # format 1 did not name it
        raise UserError(
            f"{path} was written by doof_ext {writer} (checkpoint format {content['format']}); this is {__version__} "
            f"(format {_FORMAT}), which cannot resume it: finish the run with doof_ext {writer}, or start it anew"
        )


def _write(folder: str, tree: dict[str, Any]) -> None:
    tensors: dict[str, torch.Tensor] = {}
    shape = _flatten(tree, tensors, set())
    state = os.path.join(folder, "state.safetensors")
    save_file(tensors, state)
    content = {"format": _FORMAT, "version": __version__, "state_sha256": _sync_and_hash(state), "tree": shape}
    manifest = os.path.join(folder, "manifest.json")
    with open(manifest, "w", encoding="utf-8") as file:
        file.write(json.dumps({"content": content, "sha256": _hash_json(content)}))
    _sync_and_hash(manifest)
    _sync(folder)


def _read(folder: str) -> dict[str, Any]:
    try:
        with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
            manifest = json.load(file)
        content = manifest["content"]
        if manifest["sha256"] != _hash_json(content):
            raise _DamagedError("its manifest does not have its checksum")
        _refuse_other_format(folder, content)
        state = os.path.join(folder, "state.safetensors")
        with open(state, "rb") as file:
            if _digest(file) != content["state_sha256"]:
                raise _DamagedError("its state does not have its checksum")
        return _unflatten(content["tree"], load_file(state))
    except UserError:
        raise
    except PermissionError as error:  # it may be whole: never to be replaced by the one before it
        raise unreadable(folder, error) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise _DamagedError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _flatten(tree: Any, tensors: dict[str, torch.Tensor], storages: set[int]) -> list[Any]:
    """The tree's shape as JSON; its tensors and arrays go to ``tensors`` under running numbers.

    A file holds each storage once: of tensors that share one (parameters are views of flat tensors), the first goes as
    it is, the others as copies.
    """
    if isinstance(tree, torch.Tensor | np.ndarray):
        kind = "tensor" if isinstance(tree, torch.Tensor) else "array"
        tensor = torch.as_tensor(tree).detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        tensors[str(len(tensors))] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
        return [kind, str(len(tensors) - 1)]
    if isinstance(tree, dict):
        return ["dict", [[_plain(key), _flatten(value, tensors, storages)] for key, value in tree.items()]]
    if isinstance(tree, list | tuple):
        return [type(tree).__name__, [_flatten(value, tensors, storages) for value in tree]]
    return ["value", _plain(tree)]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")


def _unflatten(shape: Any, tensors: dict[str, torch.Tensor]) -> Any:
    kind, content = shape
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return tensors[content].numpy()
    if kind == "dict":
        return {key: _unflatten(value, tensors) for key, value in content}
    if kind in ("list", "tuple"):
        values = [_unflatten(value, tensors) for value in content]
        return values if kind == "list" else tuple(values)
    if kind == "value":
        return content
    raise ValueError(f"unknown kind {kind!r}")


def _hash_json(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sync_and_hash(path: str) -> str:
    with open(path, "rb+") as file:
        digest = _digest(file)
        os.fsync(file.fileno())
    return digest


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def _sync(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
