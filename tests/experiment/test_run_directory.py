"""Run directories, whole files, and what a run reports to W&B."""

import pytest

import doof_ext
from doof_ext.experiment import run_directory, wandb_logger


def test_every_public_name_is_there():
    for name in doof_ext.__all__:
        assert getattr(doof_ext, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = doof_ext.nothing


def test_two_runs_of_one_second_get_two_directories(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory.time, "strftime", lambda _: "26-0101-000000")
    config = tiny(logdir=str(tmp_path))
    first, second = run_directory.create_run_directory(config), run_directory.create_run_directory(config)
    assert first != second
    assert first.endswith(
        "hopper-random-v2/doof&uncertainty=aleatoric&exploration_ratio=1/seed_1&timestamp_26-0101-000000"
    )


def test_a_run_that_explores_with_penalised_rollouts_says_so_in_its_directorys_name(tiny, tmp_path):
    made = run_directory.create_run_directory(tiny(logdir=str(tmp_path), explore_rollouts="penalty"))
    assert "/doof&uncertainty=aleatoric&exploration_ratio=1&explore_rollouts=penalty/seed_1&" in made


@pytest.mark.parametrize(("key", "mode"), [("0" * 40, "online"), (None, "offline")])
def test_wandb_auto_asks_nobody(key, mode, monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    assert wandb_logger.resolve_mode("auto") == mode
    assert wandb_logger.resolve_mode("off") == "off"


def test_wandb_auto_finds_the_key_of_wandb_login(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password " + "0" * 40 + "\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert wandb_logger.resolve_mode("auto") == "online"
