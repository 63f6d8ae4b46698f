"""Files that appear under their final name only when whole, and are read without pickle's power to run code."""

import io
import json
import os
import pickle

import torch

from doof_ext.errors import UserError


def publish(path, write) -> None:
    """Calls ``write(file)`` on a temporary file, flushes it to the disk and gives it its final name."""
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


def write_json(path, content) -> None:
    """Writes a JSON file."""
    publish(path, lambda file: file.write((json.dumps(content, indent=2) + "\n").encode()))


def read_json(path) -> dict:
    """A JSON object from a file; raises UserError, one line, where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        raise UserError(f"no file at {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path} is no whole JSON file ({reason})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object")
    return content


def save_tensors(path, tensors) -> None:
    """Writes tensors by name, as the kit's policy.pth; loads with ``torch.load(weights_only=True)``."""
    state, content = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, io.BytesIO()
    torch.save(state, content)  # straight into a file it would hide that a disk is full
    publish(path, lambda file: file.write(content.getvalue()))


def load_state(path, module) -> None:
    """Loads what :func:`save_tensors` or the kit wrote into a module.

    Raises: UserError for a file that is missing, damaged, of another network, or holds anything but tensors: such a
    file could run code of its own when unpickled, and is not.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(state)
    except FileNotFoundError:
        raise UserError(f"no file at {path}") from None
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is not loaded: it is damaged, or holds more than tensors") from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} does not hold these networks' weights ({reason})") from error
