"""How far a run is, read from what it logs while another process runs it."""

from __future__ import annotations

import csv
import os
import re
import statistics
from dataclasses import dataclass
from typing import Any

from doof_ext.config import Config, RunSettings
from doof_ext.experiment.summary import read_summary

_LINE = re.compile(r"(\d [a-z ]+?)(?: (\d+)(?:/(\d+))?)?: ")  # of doof_ext.progress.StageProgress and of stage 3
_SCORE = re.compile(r"score (-?\d+(?:\.\d+)?)")


@dataclass
class Progress:
    """Where a run is.

    Attributes:
        stage: Its present stage, with its number, as the run's log has it; "" before the first epoch.
        round: Of stages 2-5.
        epoch: Epochs of the stage that are done.
        epochs: How many it has at most; None where that is not known.
        score: The mean of its last ten evaluations, of which the log has a decimal; None before the first. Of a
            finished run, its score.
    """

    stage: str = ""
    round: int = 1
    epoch: int = 0
    epochs: int | None = None
    score: float | None = None


def read_progress(directory: str) -> Progress:
    """The progress of the run in ``directory``, by the lines that it has logged."""
    progress = Progress()
    ended, scores = False, dict[int, float]()
    for line in _lines(os.path.join(directory, "record", "consoleout_backup.txt")):
        match = _LINE.match(line)
        if match is None:
            continue
        stage, epoch, epochs = match.groups()
        if ended and not stage.startswith("5 "):
            progress.round, ended = progress.round + 1, False
        if stage != progress.stage:
            progress.stage, scores = stage, {}
        progress.epoch, progress.epochs = int(epoch or 1), int(epochs) if epochs else None
        is_refused = line[match.end() :].startswith("refused")
        ended = is_refused or (stage.startswith("5 ") and epoch == epochs)
        score = _SCORE.search(line, match.end())
        if score:
            scores = {of: score for of, score in scores.items() if of < progress.epoch}  # a resumed run does some anew
            scores[progress.epoch] = float(score[1])
            progress.score = statistics.fmean(list(scores.values())[-10:])
    summary = os.path.join(directory, "result", "summary.json")
    if os.path.exists(summary):
        progress.score = read_summary(summary)["scores"]["finetuned"]["last_10"]
    return progress


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


@dataclass(frozen=True)
class Metric:
    """What a search judges runs by, the larger the better.

    ``model-reward`` needs no true score: it is the mean reward of the policy's rollouts in the ensemble, less λ times
    the mean uncertainty there, with one λ for all runs, whatever λ_off they train with. ``score`` is the true one.
    """

    name: str
    penalty_coef: float

    def read(self, directory: str) -> list[dict[str, Any]]:
        """A point for each epoch of stages 1 and 5: ``timestep`` (gradient steps so far) and the metric."""
        path = os.path.join(directory, "record", "policy_training_progress.csv")
        points = []
        for row in csv.DictReader(_lines(path)):
            value = self._value(row) if row.get("stage") in ("1", "5") else None
            if value is not None:
                points.append({"timestep": int(float(row["timestep"])), self.name: value})
        return points

    def _value(self, row: dict[str, str]) -> float | None:
        if self.name == "score":
            return float(row["eval/normalized_episode_reward"])
        reward = row.get("rollout_info/raw_reward_mean")
        uncertainty = row.get("rollout_info/uncertainty_mean") or row.get("uncertainty")  # MOBILE's is in its Q target
        return float(reward) - self.penalty_coef * float(uncertainty) if reward and uncertainty else None


def gradient_steps(config: RunSettings) -> int:
    """Gradient steps of the policy in a whole DOOF run."""
    assert isinstance(config, Config)
    epochs = config.epoch + config.most_rounds * (config.explores * config.explore_epochs + config.finetune_epochs)
    return epochs * config.step_per_epoch
