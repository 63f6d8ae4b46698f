"""What a run's numbers depend on besides its settings and data."""

from __future__ import annotations

import contextlib
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from doof_ext import kit


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in ("doof_ext", "torch", "numpy", "gymnasium", "mujoco", "h5py", "wandb"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def provenance() -> dict[str, Any]:
    """Versions, kit and threads: what the last bits of a run's numbers depend on."""
    return {**versions(), "kit": f"{kit.NAME} {kit.VERSION}", "threads": torch.get_num_threads()}
