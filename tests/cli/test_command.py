"""The whole command, as a user types it."""

import csv
import json
import subprocess
import sys
import time

import h5py
import pytest
import torch
from conftest import ROOT, needs_adroit, run_command

from doof_ext import kit


def test_smoke_has_five_stages_and_three_scores_of_real_episodes(smoke):
    _, directory, summary = smoke
    assert json.loads((directory / "record" / "dataset.json").read_text()) == summary["dataset"]
    names = ["pretrain", "explore", "collect", "finetune_dynamics", "finetune_policy"]
    assert [stage["name"] for stage in summary["stages"]] == names
    assert list(summary["scores"]) == ["pretrained", "exploration", "finetuned"]
    for score in summary["scores"].values():
        assert len(score["returns"]) == score["episodes"] == 2
        assert score["mean"] == pytest.approx(sum(score["returns"]) / 2) and score["length"] > 1
    scores = summary["scores"]
    assert summary["gain"] == pytest.approx(scores["finetuned"]["last_10"] - scores["pretrained"]["last_10"])


def test_summary_has_the_contracts_keys(smoke):
    _, _, summary = smoke
    wanted = {
        "task",
        "seed",
        "preset",
        "algo",
        "uncertainty",
        "exploration_ratio",
        "penalty_coef",
        "exploration_coef",
        "rounds",
        "kit",
        "physics",
        "dataset",
        "online_steps",
        "scores",
        "gain",
        "gain_over",
        "distance",
        "stages",
        "versions",
        "command",
    }
    assert wanted <= set(summary)
    of_a_score = {"last_10", "best", "mean", "std", "episodes", "returns", "length", "final"}
    assert all(set(score) == of_a_score for score in summary["scores"].values())
    assert (summary["penalty_coef"], summary["exploration_coef"], summary["physics"]) == (5.0, 5.0, "d4rl")
    assert summary["kit"]["name"] == kit.NAME
    assert summary["dataset"]["source"] == "recipe" and summary["dataset"]["transitions"] == 4000
    assert summary["online_steps"] == 300 == sum(stage["env_steps"] for stage in summary["stages"])
    for which in ("fake_buffer", "uniform"):
        for when in ("before", "after"):
            assert set(summary["distance"][which][when]) == {"mean", "max"}


def test_the_run_directory_is_the_kits(smoke):
    _, run_dir, _ = smoke
    for path in (
        "record/hyper_param.json",
        "record/consoleout_backup.txt",
        "record/dynamics_training_progress.csv",
        "model/policy.pth",
        "model/dynamics.pth",
        "model/mu.npy",
        "model/std.npy",
        "result/online_buffer.hdf5",
    ):
        assert (run_dir / path).is_file(), path
    assert list((run_dir / "record" / "tb").iterdir())
    assert list((run_dir / "wandb").glob("offline-run-*/*.wandb"))
    assert not list(run_dir.rglob("*.tmp"))
    assert json.loads((run_dir / "record" / "hyper_param.json").read_text())["epoch"] == 2


def test_the_plotter_finds_its_columns(smoke):
    _, run_dir, _ = smoke
    with open(run_dir / "record" / "policy_training_progress.csv") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["timestep"]) for row in rows]
    assert steps == [50, 100, 150, 200, 250]  # stages 1, 2 and 5 on one axis
    assert all(float(row["eval/normalized_episode_reward"]) < 200 for row in rows)
    assert {"eval/episode_length", "eval/episode_length_std"} <= set(rows[0])  # as the kit names them
    assert [row["stage"] for row in rows] == ["1", "1", "2", "5", "5"]
    with open(run_dir / "record" / "dynamics_training_progress.csv") as file:
        assert [row["timestep"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]


def test_d_on_is_in_d4rls_format(smoke):
    _, run_dir, _ = smoke
    with h5py.File(run_dir / "result" / "online_buffer.hdf5") as file:
        assert file["observations"].shape == (300, 11) and file["infos/qpos"].shape == (300, 6)


def test_the_policy_loads_without_pickle(smoke):
    _, run_dir, _ = smoke
    state = torch.load(run_dir / "model" / "policy.pth", weights_only=True)
    assert state["actor.backbone.model.0.weight"].shape == (256, 11)
    assert "critic1_old.last.weight" in state


def test_what_is_printed(smoke):
    done, _, _ = smoke
    for words in (
        "RECIPE hopper-medium-v2",
        "not D4RL's data",
        "pretrained",
        "exploration",
        "finetuned",
        "gain",
        "score: mean of the last ten evaluations",
        "dynamics distance on the fake buffer",
        "summary.json",
    ):
        assert words in done.stdout, words
    assert "Traceback" not in done.stderr


def test_ratio_0_collects_with_pi_off_and_rounds_repeat_stages(tmp_path):
    done = run_command(
        "--task",
        "hopper-random-v2",
        "--preset",
        "smoke",
        "--logdir",
        tmp_path,
        "--source",
        "recipe",
        "--dataset-steps",
        1000,
        "--wandb",
        "off",
        "--exploration-ratio",
        0,
        "--rounds",
        2,
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*/*/*/result/summary.json")
    summary = json.loads(path.read_text())
    rounds = [(stage["name"], stage["round"]) for stage in summary["stages"]]
    assert rounds[0] == ("pretrain", 1) and [r for _, r in rounds] == [1, 1, 1, 1, 1, 2, 2, 2, 2]
    assert all(s["gradient_steps"] == 0 for s in summary["stages"] if s["name"] == "explore")
    assert summary["online_steps"] == 600 and summary["exploration_coef"] == 0
    with h5py.File(path.parent / "online_buffer.hdf5") as file:
        assert len(file["rewards"]) == 600
    checkpoints = path.parents[1] / "checkpoint"
    assert (checkpoints / "pretrained_policy.pth").is_file()


def test_help_is_quick_and_imports_no_torch():
    started = time.time()
    done = run_command("--help")
    assert done.returncode == 0 and "--exploration-ratio" in done.stdout
    assert time.time() - started < 10  # a guard against importing torch, not a benchmark
    code = (
        "import sys; from doof_ext.config.parser import make_parser; make_parser(''); assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def _blocked(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    return tmp_path / "file" / "log"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--task", "hopper-medum-v2"], "did you mean hopper-medium-v2"),
        (["--uncertainty", "magic"], "choose aleatoric"),
        (["--online-steps", "-5"], "--online-steps is -5"),
        (["--source", "hdf5:none.hdf5"], "/none.hdf5; give the path of a D4RL HDF5 file"),
        pytest.param(["--task", "pen-human-v1"], "--source dapg:FILE", marks=needs_adroit),
        (["--env-id", "Pendulum-v1"], "when does an episode end"),
        (["--env-id", "Pendulum-v1", "--termination", "never"], "a task of your own"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, argv, message):
    done = run_command("--preset", "smoke", "--logdir", tmp_path / "log", *argv, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_log_directory_that_cannot_be_written_is_one_line(tmp_path):
    done = run_command("--preset", "smoke", "--logdir", _blocked(tmp_path))
    assert done.returncode == 2 and "choose another --logdir" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_truncated_file_is_one_line(tmp_path, dataset):
    from doof_ext.data.dataset import write_dataset

    path = tmp_path / "d.hdf5"
    write_dataset(path, dataset)
    path.write_bytes(path.read_bytes()[:20_000])
    done = run_command(
        "--task", "hopper-random-v2", "--preset", "smoke", "--source", f"hdf5:{path}", "--logdir", tmp_path / "log"
    )
    assert done.returncode == 2 and "not a whole HDF5 file" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / "log").exists()
