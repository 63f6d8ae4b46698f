"""The run directory (contract 2): its place, and files that appear under their final name only when whole."""

import json
import os
import time

import torch

from doof_ext import kit
from doof_ext.errors import UserError


def create_run_dir(config) -> str:
    """Makes LOGDIR/TASK/doof&param=value…/seed_S&timestamp_T, never one that exists already.

    Raises: UserError for a log directory that cannot be written.
    """
    algo = "doof" if config.algo == "mopo" else f"doof&algo={config.algo}"
    algo += f"&uncertainty={config.uncertainty}&exploration_ratio={config.exploration_ratio:g}"
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


def _publish(path, write):
    """Calls ``write(file)`` on a temporary file, flushes it to the disk and gives it its final name."""
    temporary = f"{path}.{os.getpid()}.tmp"
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
    _publish(path, lambda file: file.write((json.dumps(content, indent=2) + "\n").encode()))


def save_state(path, module) -> None:
    """Writes a module's state_dict, as the kit's policy.pth; loads with ``torch.load(weights_only=True)``."""
    state = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
    _publish(path, lambda file: torch.save(state, file))


def save_dynamics(folder, dynamics) -> None:
    """Writes dynamics.pth, mu.npy and std.npy, as the kit's dynamics loads them."""
    save_state(os.path.join(folder, "dynamics.pth"), dynamics.model)
    dynamics.scaler.save_scaler(folder)
    learned = {name: tensor.cpu() for name, tensor in dynamics.estimator.state_dict().items()}
    if learned:
        _publish(os.path.join(folder, "uncertainty.pth"), lambda file: torch.save(learned, file))


class RunLogger(kit.Logger):
    """The kit's Logger on a run directory, whose rows a Weights & Biases run sees as well."""

    def __init__(self, run_dir, wandb_run=None):
        outputs = {
            "consoleout_backup": "stdout",
            "policy_training_progress": "csv",
            "dynamics_training_progress": "csv",
            "tb": "tensorboard",
        }
        super().__init__(run_dir, outputs)
        self._wandb_run, self._row = wandb_run, {}

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
            self._wandb_run.log(self._row)
        self._row = {}
