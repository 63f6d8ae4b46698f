"""The whole command with each estimator, and with MOBILE as the algorithm."""

import csv
import json

import pytest
from conftest import run_command

RUNS = {
    "aleatoric": [],
    "pairwise-diff": ["--uncertainty", "pairwise-diff"],
    "ensemble-std": ["--uncertainty", "ensemble_std"],
    "mobile": ["--uncertainty", "mobile", "--num-samples", "2"],
    "count": ["--uncertainty", "count", "--hash-bits", "16"],
    "algo mobile": ["--algo", "mobile", "--num-samples", "2"],
}
SMALL = ["--hidden-dims", "32", "32", "--dynamics-hidden-dims", "32", "32", "--dynamics-weight-decay", "0", "0", "0"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Each run's summary and the rows of its progress."""
    found = {}
    for name, flags in RUNS.items():
        logdir = tmp_path_factory.mktemp("log")
        done = run_command(
            "--preset",
            "smoke",
            "--source",
            "recipe",
            "--wandb",
            "off",
            "--rollout-length",
            "5",
            "--penalty-coef",
            "1",
            "--logdir",
            logdir,
            *SMALL,
            *flags,
        )
        assert done.returncode == 0, done.stderr
        (path,) = logdir.glob("*/*/*/result/summary.json")
        with open(path.parents[1] / "record" / "policy_training_progress.csv") as file:
            found[name] = json.loads(path.read_text()), list(csv.DictReader(file)), path.parents[1]
    return found


def test_every_estimator_runs_all_five_stages(runs):
    for name, (summary, _, _) in runs.items():
        assert len(summary["stages"]) == 5
        assert summary["uncertainty"] == name.removeprefix("algo ")
        assert summary["algo"] == ("mobile" if name == "algo mobile" else "mopo")


def test_rollout_rewards_differ_between_estimators(runs):
    rewards = {name: [row["rollout_info/reward_mean"] for row in rows] for name, (_, rows, _) in runs.items()}
    assert len({tuple(values) for values in rewards.values()}) == len(RUNS)
    for name, (_, rows, _) in runs.items():  # stages 1, 1, 2, 5, 5: penalty, penalty, bonus, penalty, penalty
        for row, sign in zip(rows, (-1, -1, 1, -1, -1), strict=True):
            if name == "algo mobile":  # the Q target has the penalty
                assert row["rollout_info/reward_mean"] == row["rollout_info/raw_reward_mean"]
                assert float(row["uncertainty"]) > 0
            else:
                u = float(row["rollout_info/uncertainty_mean"])
                raw, shaped = (float(row[f"rollout_info/{kind}"]) for kind in ("raw_reward_mean", "reward_mean"))
                assert shaped == pytest.approx(raw + sign * u, abs=1e-3) and u > 0


def test_what_an_estimator_learned_is_saved_with_the_run(runs):
    assert (runs["count"][2] / "model" / "uncertainty.pth").exists()
    assert not (runs["aleatoric"][2] / "model" / "uncertainty.pth").exists()
