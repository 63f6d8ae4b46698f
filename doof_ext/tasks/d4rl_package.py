"""The d4rl package, where it is installed: its environments and its datasets need gym and mujoco-py."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
from typing import Any


def is_installed(name: str) -> bool:
    """Whether a package is installed; a shim for it in this process does not count."""
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a shim in sys.modules has no spec
        return False


def prepare_import() -> None:
    """Call before importing d4rl or mujoco_py: importing triton after them crashes the process (LLVM twice)."""
    os.environ.setdefault("D4RL_SUPPRESS_IMPORT_ERROR", "1")
    if is_installed("triton") and is_installed("mujoco_py"):
        import torch._dynamo  # noqa: F401 - imports triton


def make_gym(task: str, **settings: Any) -> Any:
    """gym's own environment of a D4RL task; raises what gym, d4rl and mujoco-py raise where it cannot be made."""
    prepare_import()
    with contextlib.redirect_stderr(io.StringIO()):
        import d4rl.gym_mujoco  # noqa: F401 - registers the environments; `import d4rl` fails where mjrl is missing
        import gym

        make = getattr(gym.make, "__wrapped__", gym.make)  # never gym_shim's
        return make(task, **settings)


def read_d4rl_package(task: str) -> dict[str, Any] | None:
    """The task's recorded arrays by D4RL's names, or None where the package cannot load them.

    D4RL downloads the file on first use.
    """
    if not (is_installed("d4rl") and is_installed("gym")):
        return None
    try:
        return make_gym(task).get_dataset()
    except Exception as error:  # mujoco-py, gym and the download each raise their own types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(f"the d4rl package is installed but cannot give {task} ({reason})")
        return None
