"""The run directory (contract 2): its place, its lock, its logger."""

import glob
import os
import time

import filelock

from doof_ext import kit
from doof_ext.errors import UserError
from doof_ext.files import save_tensors
from doof_ext.wandb_run import staged


def create_run_dir(config) -> str:
    """Makes LOGDIR/TASK/doof[&param=value…]/seed_S&timestamp_T, never one that exists already.

    Raises: UserError for a log directory that cannot be written.
    """
    algo = "doof" if config.algo == "mopo" else f"doof&algo={config.algo}"
    algo += f"&uncertainty={config.uncertainty}&exploration_ratio={config.exploration_ratio:g}"
    if config.control is not None:
        algo += f"&control={config.control}"
    name = f"seed_{config.seed}&timestamp_{time.strftime('%y-%m%d-%H%M%S')}"
    parent = os.path.join(config.logdir, config.task, algo)
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


def lock(directory):
    """Holds the run directory for this process until ``release()``; it is free again when the process ends.

    Raises: UserError where another process holds it.
    """
    held = filelock.FileLock(os.path.join(directory, "lock"), timeout=0)
    try:
        return held.acquire()
    except filelock.Timeout as error:
        raise UserError(f"another process is at work in {directory}; wait for its end, or stop it") from error
    except OSError as error:
        raise UserError(f"cannot write to {directory} ({error.strerror})") from error


def sweep(directory):
    """Removes what a killed process had not finished writing."""
    for name in ("record", "model", "result", "checkpoint"):
        for path in glob.glob(os.path.join(glob.escape(directory), name, "*.tmp")):
            if os.path.isfile(path):
                os.remove(path)


def save_dynamics(folder, dynamics) -> None:
    """Writes dynamics.pth, mu.npy and std.npy, as the kit's dynamics loads them, and what u has learned."""
    save_tensors(os.path.join(folder, "dynamics.pth"), dynamics.model.state_dict())
    dynamics.scaler.save_scaler(folder)
    if dynamics.estimator.state_dict():
        save_tensors(os.path.join(folder, "uncertainty.pth"), dynamics.estimator.state_dict())


class RunLogger(kit.Logger):
    """The kit's Logger on a run directory, whose rows a Weights & Biases run sees as well."""

    def __init__(self, run_dir, wandb_run=None, position=None):
        outputs = {
            "consoleout_backup": "stdout",
            "policy_training_progress": "csv",
            "dynamics_training_progress": "csv",
            "tb": "tensorboard",
        }
        super().__init__(run_dir, outputs, position)
        self._wandb_run, self._row = wandb_run, {}
        if wandb_run is not None:
            wandb_run.go_on_from((position or {}).get("wandb", 0))

    def position(self):
        """As the kit's; W&B's is its number of rows."""
        rows = {} if self._wandb_run is None else {"wandb": self._wandb_run.rows}
        return super().position() | rows

    def logkv(self, key, val):
        """As the kit's."""
        super().logkv(key, val)
        self._row[key] = val

    def set_timestep(self, timestep):
        """As the kit's."""
        super().set_timestep(timestep)
        self._row["timestep"] = timestep

    def dumpkvs(self, exclude=None):
        """As the kit's."""
        super().dumpkvs(exclude)
        if self._wandb_run is not None:
            self._wandb_run.log(staged(self._row))
        self._row = {}
