"""The run directory's place (contract 2), its lock, and what a killed process left in it."""

from __future__ import annotations

import glob
import os
import time

import filelock

from doof_ext.config import RunSettings
from doof_ext.errors import UserError


def create_run_directory(config: RunSettings) -> str:
    """Makes LOGDIR/TASK/METHOD[&param=value…]/seed_S&timestamp_T, never one that exists already.

    Raises:
        UserError: The log directory cannot be written.
    """
    name = f"seed_{config.seed}&timestamp_{time.strftime('%y-%m%d-%H%M%S')}"
    parent = os.path.join(config.logdir, config.task, config.folder)
    try:
        os.makedirs(parent, exist_ok=True)
        for copy in range(1, 1000):
            path = os.path.join(parent, name if copy == 1 else f"{name}-{copy}")
            try:
                os.mkdir(path)
                return path
            except FileExistsError:
                continue  # another run started in the same second
    except OSError as error:
        raise UserError(f"cannot write to {config.logdir} ({error.strerror}); choose another --logdir") from error
    raise UserError(f"{parent} already has a thousand runs of this second")


def check_logdir(logdir: str) -> None:
    """Raises UserError where a run directory could not be made, before any work is done for one."""
    existing = os.path.abspath(logdir)
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing) or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {logdir} ({existing} is no writable folder); choose another --logdir")


def lock(directory: str, timeout: float = 0) -> filelock.AcquireReturnProxy:
    """Holds the run directory for this process until ``release()``; it is free again when the process ends.

    Args:
        directory: The run directory.
        timeout: Seconds to wait for another process's end.

    Raises:
        UserError: Another process holds it, or it cannot be written.
    """
    held = filelock.FileLock(os.path.join(directory, "lock"), timeout=timeout)
    try:
        return held.acquire()
    except filelock.Timeout as error:
        raise UserError(f"another process is at work in {directory}; wait for its end, or stop it") from error
    except OSError as error:
        raise UserError(f"cannot write to {directory} ({error.strerror})") from error


def remove_temporary_files(directory: str) -> None:
    """Removes what a killed process had not finished writing."""
    for name in ("record", "model", "result", "checkpoint"):
        for path in glob.glob(os.path.join(glob.escape(directory), name, "*.tmp")):
            if os.path.isfile(path):
                os.remove(path)
