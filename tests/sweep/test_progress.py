"""How far a run is, by its own log; what a search judges it by, by its curve."""

import csv
import io

import pytest

from doof_ext.sweep.progress import Metric, Progress, gradient_steps, read_progress

LOG = """data: RECIPE hopper-medium-v2, 50000 transitions (made here; this is not D4RL's data)
1 pretrain dynamics 1/8: loss -20.01, holdout 0.1701, 0:15 left
1 pretrain policy 6/6: score 1.0 ± 0.0
2 explore 1/2: score -2.5 ± 0.0, 0:05 left
3 collect: 4000 environment steps in 296 episodes
4 finetune dynamics 3: loss -22.24, holdout 0.02073
5 finetune policy 1/5: score 1.2 ± 0.0, 0:20 left
5 finetune policy 5/5: score 3.4 ± 0.0
2 explore 2/2: score 3.0 ± 0.0
5 finetune policy 1/5: score 30.2 ± 0.0, 0:20 left
"""


@pytest.mark.parametrize(
    ("lines", "progress"),
    [
        (0, Progress()),
        (1, Progress()),
        (2, Progress("1 pretrain dynamics", 1, 1, 8)),
        (4, Progress("2 explore", 1, 1, 2, -2.5)),
        (5, Progress("3 collect", 1, 1, None, -2.5)),
        (6, Progress("4 finetune dynamics", 1, 3, None, -2.5)),
        (8, Progress("5 finetune policy", 1, 5, 5, 2.3)),
        (9, Progress("2 explore", 2, 2, 2, 3.0)),
        (10, Progress("5 finetune policy", 2, 1, 5, 30.2)),
    ],
)
def test_the_last_line_says_where_a_run_is(tmp_path, lines, progress):
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "consoleout_backup.txt").write_text("".join(LOG.splitlines(True)[:lines]), "utf-8")
    assert read_progress(tmp_path) == progress


def test_a_refused_round_has_no_stage_5_and_ends_all_the_same(tmp_path):
    (tmp_path / "record").mkdir()
    lines = [
        "4 finetune dynamics 2/2: loss 1.0",
        "4 finetune dynamics: refused, the pretrained dynamics is kept: worse",
    ]
    again = ["2 explore 1/2: score 3.0 ± 0.0"]
    log = tmp_path / "record" / "consoleout_backup.txt"
    log.write_text("\n".join(lines), "utf-8")
    assert read_progress(tmp_path).round == 1
    log.write_text("\n".join(lines + again), "utf-8")
    assert read_progress(tmp_path).round == 2


def test_a_run_without_a_log_has_not_begun(tmp_path):
    assert read_progress(tmp_path) == Progress()


def test_the_log_of_a_run_is_read(smoke):
    _, run_dir, summary = smoke
    progress = read_progress(run_dir)
    assert (progress.stage, progress.round, progress.epoch, progress.epochs) == ("5 finetune policy", 1, 2, 2)
    assert progress.score == summary["scores"]["finetuned"]["last_10"]


def test_the_score_is_the_mean_of_the_stages_last_ten_evaluations(tmp_path):
    epochs = [*range(1, 15), *range(13, 16)]  # resumed from epoch 12
    lines = "".join(f"5 finetune policy {epoch}/20: score {epoch}.0 ± 0.0\n" for epoch in epochs)
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "consoleout_backup.txt").write_text("2 explore 1/1: score 90.0 ± 0.0\n" + lines, "utf-8")
    assert read_progress(tmp_path).score == pytest.approx(sum(range(6, 16)) / 10)


def _curve(folder, rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, sorted({name for row in rows for name in row}), restval="")
    writer.writeheader()
    writer.writerows(rows)
    (folder / "record").mkdir()
    (folder / "record" / "policy_training_progress.csv").write_text(text.getvalue())


def test_the_model_reward_has_one_penalty_for_all_and_no_score(tmp_path):
    reward, u = "rollout_info/raw_reward_mean", "rollout_info/uncertainty_mean"
    _curve(
        tmp_path,
        [
            {"timestep": 50, "stage": 1, reward: 2.0, u: 0.5, "eval/normalized_episode_reward": 90},
            {"timestep": 100, "stage": 2, reward: 9.0, u: 0.5, "eval/normalized_episode_reward": 90},
            {"timestep": 150, "stage": 5, "eval/normalized_episode_reward": 90},  # no rollout in this epoch
            {"timestep": 200, "stage": 5, reward: 3.0, "uncertainty": 0.25, "eval/normalized_episode_reward": 90},
        ],
    )
    assert Metric("model-reward", 4.0).read(tmp_path) == [
        {"timestep": 50, "model-reward": 0.0},
        {"timestep": 200, "model-reward": 2.0},
    ]
    assert [point["score"] for point in Metric("score", 4.0).read(tmp_path)] == [90, 90, 90]


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [({}, 2 + 1 + 2), ({"exploration_ratio": 0.0}, 2 + 2), ({"control": "extra-training"}, 4), ({"rounds": 2}, 8)],
)
def test_gradient_steps_are_those_of_the_summary(tiny, settings, epochs):
    assert gradient_steps(tiny(**settings)) == 4 * epochs
