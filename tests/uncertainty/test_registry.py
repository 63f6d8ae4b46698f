"""Estimators of other packages, found through their entry points in a real installation's metadata."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from doof_ext.errors import UserError
from doof_ext.uncertainty import check_estimator, get_estimator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def installed(tmp_path):
    """A folder for PYTHONPATH with a package and its metadata, as pip leaves them."""
    info = tmp_path / "far_estimators-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far-estimators\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[doof_ext.uncertainty]\nfar = far_estimators:far\nbroken = far_estimators:missing\n"
        "aleatoric = far_estimators:far\n"
    )
    (tmp_path / "far_estimators.py").write_text("def far(prediction):\n    return prediction.std[0, :, :1] * 2\n")
    return tmp_path


def _python(code, folder):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True)


def test_another_packages_estimator_is_found_by_its_name(installed):
    code = (
        "from doof_ext.uncertainty import *; from doof_ext import uncertainty as u\n"
        "assert u.estimator_names()[-2:] == ['broken', 'far'], u.estimator_names()\n"
        "assert u.get_estimator('far').__module__ == 'far_estimators'\n"
        "assert u.get_estimator('aleatoric').__module__ == 'doof_ext.uncertainty.aleatoric'\n"
    )
    done = _python(code, installed)
    assert done.returncode == 0, done.stderr


def test_one_that_cannot_be_loaded_is_named(installed):
    code = (
        "from doof_ext.uncertainty import get_estimator\nfrom doof_ext.errors import UserError\n"
        "try:\n    get_estimator('broken')\nexcept UserError as error:\n    print(error)\n"
    )
    assert "'broken' (far_estimators:missing) cannot be loaded" in _python(code, installed).stdout


def test_names_are_checked():
    assert check_estimator("ensemble_std") == "ensemble-std"  # as the kit writes it
    with pytest.raises(UserError, match="choose aleatoric, pairwise-diff"):
        get_estimator("entropy")
