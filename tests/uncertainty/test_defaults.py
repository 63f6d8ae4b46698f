"""Settings of each (algorithm, estimator, task), with their sources."""

from pathlib import Path

import pytest

from doof_ext.config import Config, resolve
from doof_ext.tasks import get_spec, task_names
from doof_ext.uncertainty.defaults import table, task_defaults


@pytest.mark.parametrize(
    ("settings", "rollout_length", "penalty_coef", "auto_alpha"),
    [
        ({}, 5, 5.0, True),
        ({"algo": "mobile"}, 5, 1.5, False),
        ({"algo": "mobile", "task": "walker2d-medium-replay-v2"}, 1, 0.5, True),
        ({"algo": "mobile", "task": "pen-human-v1"}, 1, 1.5, True),
        ({"uncertainty": "mobile", "task": "hopper-medium-replay-v2"}, 5, 0.1, True),
        ({"uncertainty": "count", "task": "walker2d-random-v2"}, 5, 1.0, True),
        ({"uncertainty": "ensemble-std", "task": "halfcheetah-random-v2"}, 1, 0.25, True),
        ({"algo": "mobile", "penalty_coef": 9.0, "auto_alpha": True}, 5, 9.0, True),
    ],
)
def test_defaults_follow_their_source(settings, rollout_length, penalty_coef, auto_alpha):
    config = resolve(Config(**settings), set(settings))
    assert (config.rollout_length, config.penalty_coef) == (rollout_length, penalty_coef)
    assert config.auto_alpha is auto_alpha


def test_mobile_is_its_own_uncertainty_unless_told_otherwise():
    assert resolve(Config(algo="mobile")).uncertainty == "mobile"
    assert resolve(Config(algo="mobile", uncertainty="count")).uncertainty == "count"
    assert resolve(Config()).uncertainty == "aleatoric"


def test_the_docs_table_is_of_the_code():
    page = (Path(__file__).parents[2] / "docs" / "uncertainty.md").read_text()
    assert table([get_spec(task) for task in task_names() if get_spec(task).domain]) in page


def test_every_combination_names_its_source():
    for task in task_names():
        for algo, uncertainty in (("mopo", "aleatoric"), ("mopo", "count"), ("mobile", "mobile")):
            settings, source = task_defaults(get_spec(task), algo, uncertainty)
            assert settings["rollout_length"] >= 1 and settings["penalty_coef"] > 0 and source
