"""The d4rl package, where it is installed: its environments need gym and mujoco-py, so it is asked here."""

import contextlib
import importlib.util
import io
import os


def is_installed(name) -> bool:
    """Whether a package is installed; one that stands in for it in this process is not."""
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a stand-in has no spec
        return False


def prepare_import() -> None:
    """Call it before d4rl or mujoco_py is imported: triton crashes the process when it comes later (LLVM twice)."""
    os.environ.setdefault("D4RL_SUPPRESS_IMPORT_ERROR", "1")
    if is_installed("triton") and is_installed("mujoco_py"):
        import torch._dynamo  # noqa: F401 - imports triton


def make_gym(task, **settings):
    """gym's own environment of a D4RL task; raises what gym, d4rl and mujoco-py raise where it cannot be had."""
    prepare_import()
    with contextlib.redirect_stderr(io.StringIO()):
        import d4rl.gym_mujoco  # noqa: F401 - registers the environments; `import d4rl` stops where mjrl is missing
        import gym

        make = getattr(gym.make, "__wrapped__", gym.make)  # never a stand-in
        return make(task, **settings)


def read_d4rl_package(task):
    """The task's recorded arrays, a dict by D4RL's names, or None where the package cannot give them.

    D4RL downloads the file on first use.
    """
    if not (is_installed("d4rl") and is_installed("gym")):
        return None
    try:
        return make_gym(task).get_dataset()
    except Exception as error:  # mujoco-py, gym and the download each raise kinds of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(f"the d4rl package is installed but cannot give {task} ({reason})")
        return None
