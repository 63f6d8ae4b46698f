"""What a run's numbers depend on besides its settings and data."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from doof_ext import kit
from doof_ext.config.run_settings import RunSettings


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on; and the commit, where this code is a checkout of it."""
    found = {"python": platform.python_version()}
    for package in ("doof_ext", "torch", "numpy", "gymnasium", "mujoco", "h5py", "wandb"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    checkout = commit_of(os.path.dirname(os.path.dirname(__file__)))
    return found | ({"commit": checkout} if checkout else {})


@functools.cache
def commit_of(package: str) -> str:
    """The commit, with -dirty where files differ from it, of a package at the top of a git checkout; else ""."""

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", package, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10)
        return done.stdout.strip() if done.returncode == 0 else ""

    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        if git("ls-files", "--full-name", "__init__.py") == f"{os.path.basename(package)}/__init__.py":
            commit = git("rev-parse", "--short", "HEAD")
            return f"{commit}-dirty" if git("status", "--porcelain", "--", ".") else commit
    return ""


def provenance(config: RunSettings) -> dict[str, Any]:
    """Versions, kit, threads and the user's own modules: what a run's numbers depend on, to the last bit."""
    own = (getattr(config, name, None) or "" for name in ("env_id", "termination", "stop_rule"))
    modules = {text.partition(":")[0] for text in own if ":" in text}
    contents = {f"module {module}": _content_of(module) for module in sorted(modules)}
    return {**versions(), "kit": f"{kit.NAME} {kit.VERSION}", "threads": torch.get_num_threads(), **contents}


def _content_of(module: str) -> str:
    """The beginning of the hash of an imported module's file; "" where it has none that can be read."""
    path = getattr(sys.modules.get(module), "__file__", None)
    with contextlib.suppress(OSError):
        if path is not None:
            with open(path, "rb") as file:
                return hashlib.sha256(file.read()).hexdigest()[:12]
    return ""
