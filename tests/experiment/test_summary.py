"""result/summary.json: the scores of a run, and those of a run that version 0.1 made."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from doof_ext.cli.exit_code import closing_table
from doof_ext.errors import UserError
from doof_ext.experiment.summary import read_summary

OLDER = Path(__file__).parents[1] / "fixtures" / "summary_0.1.json"


@pytest.fixture(scope="module")
def run(tiny, _own_data_folder, tmp_path_factory):
    """(Summary, the rows of its curve) of a run with more than ten evaluations in stage 5."""
    from doof_ext import pipeline

    settings = dict(source="recipe", dataset_steps=400, finetune_epochs=13, final_episodes=4, eval_episodes=2)
    summary, directory = pipeline.run(tiny(**settings, logdir=str(tmp_path_factory.mktemp("log"))))
    with open(Path(directory) / "record" / "policy_training_progress.csv") as file:
        return summary, list(csv.DictReader(file))


def test_scores_are_the_means_of_the_last_ten_rows_of_each_stages_curve(run):
    summary, rows = run
    for stage, (name, score) in zip((1, 2, 5), summary["scores"].items(), strict=True):
        curve = [float(row["eval/normalized_episode_reward"]) for row in rows if int(row["stage"]) == stage]
        assert score["last_10"] == pytest.approx(np.mean(curve[-10:])) and score["best"] == pytest.approx(max(curve))
        assert score["mean"] == pytest.approx(curve[-1]) == pytest.approx(np.mean(score["returns"])), name
        length = [float(row["eval/episode_length"]) for row in rows if int(row["stage"]) == stage][-1]
        assert score["length"] == pytest.approx(length) and score["final"]["episodes"] == 4
    assert len(curve) == 13 and len(set(curve)) > 10
    before, after = summary["scores"]["pretrained"], summary["scores"]["finetuned"]
    assert summary["gain"] == pytest.approx(after["last_10"] - before["last_10"])


def test_the_spread_of_lengths_is_logged_under_the_kits_name(run):
    _, rows = run
    assert all(float(row["eval/episode_length_std"]) >= 0 for row in rows)
    assert any(float(row["eval/episode_length_std"]) > 0 for row in rows)  # two episodes each


def test_the_closing_table_has_all_of_a_score_and_says_what_it_is(run):
    summary, _ = run
    _, columns, pretrained, *_, gain, legend, _ = closing_table(summary).splitlines()
    assert columns.split() == ["policy", "score", "last", "std", "best", "length", "final"]
    score = summary["scores"]["pretrained"]
    numbers = [score[name] for name in ("last_10", "mean", "std", "best", "length")] + [score["final"]["mean"]]
    assert pretrained.split() == ["pretrained", *(f"{number:.1f}" for number in numbers)]
    assert gain.split() == ["gain", f"{summary['gain']:+.1f}"]
    assert "mean of the last ten evaluations" in legend and "final: 4 episodes at the end" in legend
    over = closing_table(summary | {"gain_over": {"no-online-data": 1.25, "extra-training": -3.0}})
    assert "(+1.2 over the control no-online-data, -3.0 over the control extra-training)" in over
    scores = {name: score | {"final": None} for name, score in summary["scores"].items()}
    assert "final" not in closing_table(summary | {"scores": scores})


def test_numbers_of_any_size_stand_apart(run):
    """Without reference returns a score is the return itself."""
    summary, _ = run
    scores = {name: score | {"last_10": -1.27e8, "mean": -6.366e8} for name, score in summary["scores"].items()}
    _, _, pretrained, *_ = closing_table(summary | {"scores": scores}).splitlines()
    assert pretrained.split()[:3] == ["pretrained", "-127000000.0", "-636600000.0"]


def test_a_model_return_that_is_none_is_explained(run):
    summary, _ = run
    figures = dict.fromkeys(("mean", "pessimistic", "spread", "penalised_mean"), 1.0)
    found = {"finetuned": figures | {"before": {"mean": 2.0}}}
    assert "an elite diverges" not in closing_table(summary | {"model_return": found, "horizon": 5})
    found["pretrained"] = dict.fromkeys(figures, None) | {"before": {"mean": 2.0}}
    assert "before: mean in the pretrained dynamics; -: an elite diverges" in closing_table(
        summary | {"model_return": found, "horizon": 5}
    )


def test_a_summary_of_version_0_1_reads_with_the_score_that_it_had():
    assert "last_10" not in OLDER.read_text()
    summary = read_summary(OLDER)
    for score in summary["scores"].values():
        assert score["last_10"] == score["mean"] and score["best"] is score["length"] is score["final"] is None
    assert summary["gain_over"] == {}
    table = closing_table(summary)
    assert "pretrained         8.4     8.4     0.1       -       -" in table
    assert "the last evaluation alone" in table and "+1.3" in table


@pytest.mark.parametrize(
    "change",
    [
        {"last_10": None},
        {"last_10": "9"},
        {"best": []},
        {"length": "long"},
        {"final": 3.0},
        {"final": {"mean": 1.0, "std": None, "episodes": 4}},
    ],
)
def test_a_score_that_is_not_whole_is_named(run, tmp_path, change):
    summary = json.loads(json.dumps(run[0]))
    summary["scores"]["finetuned"] |= change
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match="the score 'finetuned' is"):
        read_summary(tmp_path / "summary.json")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("guard", 7),
        ("guard", [{"accepted": True}]),
        ("guard", [{"accepted": True, "reasons": [], "held_out": 3, "attempts": []}]),
        ("policy_choice", None),
        ("policy_choice", [{"round": 1}]),
        ("policy_choice", ["x"]),
        ("ratio_choice", {"ratio": 1}),
        ("ratio_choice", [{"ratio": 1, "floor": 0, "candidates": [{"ratio": 1}]}]),
    ],
)
def test_what_the_guard_did_is_whole_or_named(run, tmp_path, name, found):
    (tmp_path / "summary.json").write_text(json.dumps(run[0] | {name: found}))
    with pytest.raises(UserError, match=f"damaged: {name} is"):
        read_summary(tmp_path / "summary.json")


@pytest.mark.parametrize("over", [3, {"no-online-data": "much"}, None])
def test_gains_over_controls_that_are_no_numbers_are_named(run, tmp_path, over):
    (tmp_path / "summary.json").write_text(json.dumps(run[0] | {"gain_over": over}))
    with pytest.raises(UserError, match="gain_over"):
        read_summary(tmp_path / "summary.json")
