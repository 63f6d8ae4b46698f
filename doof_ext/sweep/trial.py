"""What Ray's workers import of a sweep: a run as Ray Tune's trial. No torch, which its process has for itself."""

from __future__ import annotations

from typing import Any

from ray import tune

from doof_ext.sweep.swept_run import SweptRun


class Trial(tune.Trainable):
    """A run of the sweep; a step is what there is to tell after a second."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{"CPU": config["run"]["threads"], "GPU": config["gpus"]}])

    def setup(self, config: dict[str, Any]) -> None:
        self._run = SweptRun(**config["run"])

    def step(self) -> dict[str, Any]:
        news = self._run.next()
        return {**news, "done": news["state"] != "running"}

    def cleanup(self) -> None:
        self._run.stop()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._run.stop()  # ASHA may have ended it
        self.setup(new_config)
        return True
