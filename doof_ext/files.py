"""Files and folders that are written atomically, and read without letting pickle run code."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import torch

from doof_ext.errors import UserError, unreadable

_Path = str | os.PathLike[str]


def publish(path: _Path, write: Callable[[BinaryIO], object]) -> None:
    """Calls ``write(file)`` on a temporary file, flushes it to the disk and renames it to ``path``."""
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def publish_folder(path: _Path, fill: Callable[[str], object]) -> None:
    """Calls ``fill(folder)`` on a temporary folder beside ``path`` and renames that to ``path``.

    ``path`` is new, or an empty folder; ``fill`` writes its files by :func:`publish`.
    """
    path = os.path.realpath(path)
    parent, name = os.path.split(path)
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=parent) as temporary:
        folder = os.path.join(temporary, name)
        os.mkdir(folder)
        fill(folder)
        os.replace(folder, path)


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with None in place of NaN and infinity, which JSON has no word for."""
    return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in values.items()}


def write_json(path: _Path, content: Any) -> None:
    """Writes a JSON file."""
    publish(path, lambda file: file.write((json.dumps(content, indent=2) + "\n").encode()))


def read_json(path: _Path) -> dict[str, Any]:
    """Reads a JSON object from a file; raises UserError where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        raise UserError(f"no file at {path}") from None
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no whole JSON file ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object")
    return content


def save_tensors(path: _Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes tensors by name, as the kit's policy.pth, for ``torch.load(weights_only=True)``."""
    state, content = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, io.BytesIO()
    torch.save(state, content)  # torch.save to a file hides the error of a full disk
    publish(path, lambda file: file.write(content.getvalue()))


def load_state(path: _Path, module: torch.nn.Module, prefix: str = "") -> None:
    """Loads what :func:`save_tensors` or the kit wrote into a module.

    Args:
        path: The file.
        module: What the tensors are loaded into.
        prefix: What the names of the module's tensors begin with in the file; other tensors are left alone.

    Raises:
        UserError: The file is missing, damaged or of another network, or it holds more than tensors: unpickling that
            could run code, so it is not unpickled.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        own = {name: tensor for name, tensor in state.items() if name.startswith(prefix)}
        module.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in own.items()})
    except FileNotFoundError:
        raise UserError(f"no file at {path}") from None
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is not loaded: it is damaged, or holds more than tensors") from error
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} does not hold these networks' weights ({reason})") from error
