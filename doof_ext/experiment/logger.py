"""The logger of a run: the kit's files, and Weights & Biases beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from doof_ext import kit
from doof_ext.experiment.wandb_logger import WandbLogger, by_stage


class RunLogger(kit.Logger):
    """The kit's Logger on a run directory, whose rows a Weights & Biases run receives as well.

    Args:
        directory: The run directory.
        wandb: The W&B run, or None.
        position: Where the files of a run that is resumed were at its last checkpoint.
    """

    def __init__(
        self, directory: str, wandb: WandbLogger | None = None, position: Mapping[str, Any] | None = None
    ) -> None:
        outputs = {
            "consoleout_backup": "stdout",
            "policy_training_progress": "csv",
            "dynamics_training_progress": "csv",
            "tb": "tensorboard",
        }
        super().__init__(directory, outputs, position)
        self._wandb = wandb
        self._row: dict[str, Any] = {}
        if wandb is not None:
            wandb.resume_from((position or {}).get("wandb", 0))

    def position(self) -> dict[str, Any]:
        """As the kit's; W&B's is its number of rows."""
        rows = {} if self._wandb is None else {"wandb": self._wandb.rows}
        return super().position() | rows

    def logkv(self, key: str, val: Any) -> None:
        """As the kit's."""
        super().logkv(key, val)
        self._row[key] = val

    def set_timestep(self, timestep: int) -> None:
        """As the kit's."""
        super().set_timestep(timestep)
        self._row["timestep"] = timestep

    def dumpkvs(self, exclude: Sequence[str] | None = None) -> None:
        """As the kit's."""
        super().dumpkvs(exclude)
        if self._wandb is not None:
            self._wandb.log(by_stage(self._row))
        self._row = {}
