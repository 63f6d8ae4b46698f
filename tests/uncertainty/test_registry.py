"""Estimators of other packages, found through their entry points in a real installation's metadata."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from doof_ext.errors import UserError
from doof_ext.uncertainty import check_estimator, make_estimator

ROOT = Path(__file__).parents[2]
FAR = """
import torch
from doof_ext.uncertainty.base import UncertaintyEstimator

class Far(UncertaintyEstimator):
    centre = None

    def fit(self, observations, actions):
        self.centre = observations.mean(0)

    def u(self, observations, actions):
        return (observations - self.centre).norm(dim=1, keepdim=True)

class Negative(Far):
    def u(self, observations, actions):
        return -super().u(observations, actions)

class NaN(Far):
    def u(self, observations, actions):
        return super().u(observations, actions) * float("nan")

class Flat(Far):
    def u(self, observations, actions):
        return super().u(observations, actions)[:, 0]
"""


@pytest.fixture
def installed(tmp_path):
    """A folder for PYTHONPATH with a package and its metadata, as pip leaves them."""
    info = tmp_path / "far_estimators-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far-estimators\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[doof_ext.uncertainty]\nfar = far_estimators:Far\nbroken = far_estimators:missing\n"
        "aleatoric = far_estimators:Far\nnegative = far_estimators:Negative\nflat = far_estimators:Flat\n"
        "nan = far_estimators:NaN\nno-class = far_estimators:torch\n"
    )
    (tmp_path / "far_estimators.py").write_text(FAR)
    return tmp_path


def _python(code, folder):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True)


def test_another_packages_estimator_is_found_by_its_name(installed):
    code = (
        "from doof_ext.uncertainty import *; from doof_ext import uncertainty as u\n"
        "assert u.estimator_names()[5:8] == ['broken', 'far', 'flat'], u.estimator_names()\n"
        "assert type(u.make_estimator('far')).__module__ == 'far_estimators'\n"
        "assert type(u.make_estimator('aleatoric')).__module__ == 'doof_ext.uncertainty.ensemble'\n"
    )
    done = _python(code, installed)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("broken", "'broken' (far_estimators:missing) cannot be made"), ("no-class", "'no-class' (far_estimators:torch)")],
)
def test_one_that_cannot_be_made_is_named(installed, name, complaint):
    code = (
        "from doof_ext.uncertainty import make_estimator\nfrom doof_ext.errors import UserError\n"
        f"try:\n    make_estimator({name!r})\nexcept UserError as error:\n    print(error)\n"
    )
    assert complaint in _python(code, installed).stdout


def _smoke(name, installed, tmp_path):
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(ROOT / "run_example" / "run_doof.py"),
        "--uncertainty",
        name,
        "--preset",
        "smoke",
        "--task",
        "hopper-random-v2",
        "--wandb",
        "off",
        "--source",
        "recipe",
        "--logdir",
        str(tmp_path / "log"),
        "--dynamics-epochs",
        "1",
        "--epoch",
        "1",
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)])}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_another_packages_estimator_runs_the_pipeline(installed, tmp_path):
    done = _smoke("far", installed, tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "log").glob("*/doof&uncertainty=far*/*/result/summary.json")
    summary = json.loads(path.read_text())
    assert summary["uncertainty"] == "far" and len(summary["stages"]) == 5


@pytest.mark.parametrize(
    ("name", "complaint"), [("negative", "negative values"), ("nan", "not finite"), ("flat", "for 1000 pairs")]
)
def test_what_is_no_uncertainty_is_refused_at_the_first_batch(installed, tmp_path, name, complaint):
    done = _smoke(name, installed, tmp_path)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert f"uncertainty '{name}' gives" in done.stderr and complaint in done.stderr
    assert "1 pretrain policy" not in done.stdout


def test_names_are_checked():
    assert check_estimator("ensemble_std") == "ensemble-std"  # as the kit writes it
    with pytest.raises(UserError, match="choose aleatoric, pairwise-diff"):
        make_estimator("entropy")
