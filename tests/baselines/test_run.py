"""Whole runs of baselines: what they leave, and that a run which was stopped ends as if it had not been."""

import functools
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from agents import make_agent
from conftest import resumed

from doof_ext.baselines import run as baselines
from doof_ext.baselines.iql import IQL
from doof_ext.baselines.stages import Training
from doof_ext.checkpointing.training_state import TrainingState
from doof_ext.cli.baseline import main
from doof_ext.config import BaselineConfig, parse_settings
from doof_ext.config.baseline_settings import METHODS
from doof_ext.config.parser import settings_from
from doof_ext.data.dataset import read_dataset
from doof_ext.errors import Interrupted, StoppedAfter, UserError
from doof_ext.experiment.summary import read_summary

POLICIES = ("model/policy.pth", "checkpoint/online_policy.pth", "checkpoint/pretrained_policy.pth")


def _policy(directory, path=POLICIES[0]):
    return torch.load(Path(directory) / path, weights_only=True)


def _assert_same(first, second):
    for path in POLICIES:
        for name, value in _policy(first, path).items():
            assert torch.equal(value, _policy(second, path)[name]), (path, name)
    summaries = [json.loads((Path(run) / "result" / "summary.json").read_text()) for run in (first, second)]
    assert summaries[0]["scores"] == summaries[1]["scores"]
    assert all(score["final"] is not None for score in summaries[0]["scores"].values())
    online = [read_dataset(Path(run) / "result" / "online_buffer.hdf5").sha256() for run in (first, second)]
    assert online[0] == online[1]


@pytest.fixture(scope="module")
def whole(baseline, tmp_path_factory):
    """The directory of a run that nothing stopped, by method."""

    @functools.cache
    def directory(algo):
        return baselines.run(baseline(algo, logdir=str(tmp_path_factory.mktemp("whole")), final_episodes=2))[1]

    return directory


@pytest.mark.parametrize("algo", METHODS)
def test_a_run_takes_its_online_steps_and_scores_three_policies(whole, algo):
    directory = whole(algo)
    summary = read_summary(str(Path(directory) / "result" / "summary.json"))
    assert summary["algo"] == algo
    assert list(summary["scores"]) == ["pretrained", "online", "finetuned"]
    assert summary["gain"] == summary["scores"]["finetuned"]["last_10"] - summary["scores"]["pretrained"]["last_10"]
    assert all(score["final"]["episodes"] == 2 for score in summary["scores"].values())
    assert summary["online_steps"] == 45
    steps = {stage["name"]: stage["gradient_steps"] for stage in summary["stages"]}
    assert steps == {"pretrain": 20, "finetune_online": 45, "finetune_offline": 20, "final_evaluation": 0}
    assert len(read_dataset(Path(directory) / "result" / "online_buffer.hdf5")) == 45
    assert Path(directory).parent.name == algo


@pytest.mark.parametrize("place", ["pretrain.1", "finetune_online.1", "finetune_offline.1"])
@pytest.mark.parametrize("algo", ["pex", "spot", "cal-ql", "fowm"])
def test_a_stopped_run_ends_as_if_it_had_not_been(baseline, whole, tmp_path, monkeypatch, algo, place):
    expected = whole(algo)
    seen, after_step = [], TrainingState.after_step

    def stopping(self):
        seen.append(self._stage)
        if seen.count(place) == 13:
            self._signals.received = signal.SIGTERM
        after_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "after_step", stopping)
        with pytest.raises(Interrupted) as caught:
            baselines.run(baseline(algo, logdir=str(tmp_path / "stopped"), final_episodes=2))
    directory = caught.value.run_directory
    baselines.run(settings_from({"resume": directory}, BaselineConfig))
    _assert_same(expected, directory)


def test_training_does_not_depend_on_how_often_it_is_evaluated(baseline, whole, tmp_path):
    """FOWM's plans are drawn at random, in evaluations as well."""
    _, more = baselines.run(baseline("fowm", logdir=str(tmp_path), eval_episodes=2, final_episodes=2))
    for name, value in _policy(whole("fowm")).items():
        assert torch.equal(value, _policy(more)[name]), name


def test_steps_beyond_the_last_checkpoint_are_learned_from_again(baseline, whole, tmp_path, monkeypatch):
    """A kill in the middle of an epoch: the journal has steps that no checkpoint knows of, and each is kept."""
    expected = whole("iql")
    step = Training.step

    def dying(self):
        if self.number == 3 and self.counts.steps == 27:  # two epochs and seven steps
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", dying)
        with pytest.raises(KeyboardInterrupt) as caught:
            baselines.run(baseline("iql", logdir=str(tmp_path / "killed"), final_episodes=2))
    directory = caught.value.run_directory
    baselines.run(settings_from({"resume": directory}, BaselineConfig))
    _assert_same(expected, directory)


def test_a_journal_that_lost_its_end_is_one_line(baseline, tmp_path, monkeypatch):
    """After a power cut the journal may be shorter than what the checkpoint has learned from."""
    step = Training.step

    def dying(self):
        if self.number == 3 and self.counts.steps == 27:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", dying)
        with pytest.raises(KeyboardInterrupt) as caught:
            baselines.run(baseline("iql", logdir=str(tmp_path)))
    directory = caught.value.run_directory
    journal = Path(directory) / "checkpoint" / "online-1.journal"
    record = (journal.stat().st_size - len(journal.read_bytes().split(b"\n")[0]) - 1) // 28
    os.truncate(journal, journal.stat().st_size - 12 * record)
    with pytest.raises(UserError, match="has learned from 20 online steps and their journal has 16"):
        baselines.run(settings_from({"resume": directory}, BaselineConfig))


def test_every_online_step_is_learned_from_once_and_in_order(baseline, tmp_path, monkeypatch):
    replays = []
    monkeypatch.setattr(baselines, "Replay", lambda *a, make=baselines.Replay: replays.append(make(*a)) or replays[-1])
    _, directory = baselines.run(baseline("iql", logdir=str(tmp_path), normalize_rewards=False))
    online = read_dataset(Path(directory) / "result" / "online_buffer.hdf5")
    (replay,) = replays
    assert len(replay) == 400 + 45
    np.testing.assert_allclose(replay.observations[400:], online.observations, atol=1e-6)
    np.testing.assert_allclose(replay.rewards[400:, 0], online.rewards, atol=1e-6)
    np.testing.assert_array_equal(replay.terminals[400:, 0], online.terminals)


def test_pretraining_is_shared(baseline, tmp_path):
    with pytest.raises(StoppedAfter) as caught:
        baselines.run(baseline("iql", logdir=str(tmp_path), stop_after="pretrain"))
    first = caught.value.run_directory
    _, rest = baselines.run(settings_from({"resume": first}, BaselineConfig))
    _, other = baselines.run(baseline("iql", logdir=str(tmp_path), pretrained=first, finetune_epochs=3))
    assert _policy(other).keys() == _policy(rest).keys()
    with pytest.raises(UserError, match=r"--expectile is 0\.9, the run's is 0\.7"):
        baselines.run(baseline("iql", logdir=str(tmp_path), pretrained=first, expectile=0.9))


@pytest.mark.parametrize(
    ("argv", "right"),
    [
        (["--algo", "iqll"], "'iqll' is not among iql, cql, cal-ql, spot, pex, fowm; did you mean iql?"),
        (["--algo", "mopo"], "'mopo' is not among iql, cql, cal-ql, spot, pex"),
        (["--algo", "iql", "--conservatism", "3"], "--conservatism: iql has no such setting; it is for CQL and Cal-QL"),
        (
            ["--algo", "cql", "--expectile", "0.8"],
            "--expectile: cql has no such setting; it is for IQL, PEX and FOWM only",
        ),
        (["--algo", "spot", "--online-ratio", "0.5"], "--online-ratio: spot has no such setting"),
        (["--algo", "iql", "--expectile", "1.5"], "--expectile is 1.5; it must be above 0 and below 1"),
        (["--algo", "iql", "--rounds", "2"], "unrecognized arguments: --rounds 2"),
    ],
)
def test_a_wrong_flag_is_one_line(argv, right, capsys):
    assert main(argv) == 2
    assert right in capsys.readouterr().err.replace("\n", " ")


def test_another_commands_run_is_not_resumed(baseline, tmp_path, settings):
    from doof_ext import pipeline

    _, doof = pipeline.run(settings())
    with pytest.raises(UserError, match=r"is a run of mopo; resume it with run_doof\.py"):
        settings_from({"resume": doof}, BaselineConfig)
    _, iql = baselines.run(baseline("iql", logdir=str(tmp_path)))
    with pytest.raises(UserError, match=r"is a run of iql; resume it with run_baseline\.py"):
        resumed(iql)


def test_without_evaluations_a_run_says_so_and_names_no_model(baseline, tmp_path):
    summary, _ = baselines.run(baseline("iql", logdir=str(tmp_path), eval_episodes=0, final_episodes=0))
    assert summary["gain"] is None
    assert summary["scores"]["finetuned"]["reason"].endswith("(--eval-episodes 0)")


def test_methods_have_their_authors_values():
    def of(*argv):
        return parse_settings("", list(argv), BaselineConfig)

    iql, pen = of("--algo", "iql"), of("--algo", "iql", "--task", "pen-human-v1")
    assert (iql.epoch, iql.online_steps, iql.finetune_epochs, iql.step_per_epoch) == (1000, 10_000, 300, 1000)
    assert (iql.expectile, iql.advantage_temperature, pen.expectile) == (0.7, 3.0, 0.8)
    assert (iql.conservatism, iql.online_ratio, iql.density_weight) == (None, None, None)
    pex = of("--algo", "pex", "--task", "halfcheetah-random-v2")
    assert (pex.expectile, pex.advantage_temperature, pex.selection_temperature) == (0.9, 10.0, 10.0)
    cql, of_pen = of("--algo", "cal-ql"), of("--algo", "cal-ql", "--task", "pen-cloned-v1")
    assert (cql.online_ratio, of("--algo", "cql").online_ratio) == (0.5, None)
    assert (cql.conservatism, cql.actor_lr, cql.hidden_dims, cql.max_q_backup) == (10.0, 3e-5, (256,) * 3, False)
    assert (of_pen.conservatism, of_pen.actor_lr, of_pen.max_q_backup) == (1.0, 1e-4, True)
    assert of("--algo", "spot").density_epochs == 100
    fowm = of("--algo", "fowm")
    assert (fowm.hidden_dims, fowm.tau, fowm.disagreement_cost, fowm.online_ratio) == ((512, 512), 0.01, 20.0, 0.5)
    assert iql.tau == 0.005
    scaled = {algo: of("--algo", algo).normalize_rewards for algo in METHODS}
    assert scaled == {"iql": True, "cql": True, "cal-ql": True, "spot": True, "pex": False, "fowm": True}
    assert not of("--algo", "cql", "--task", "walker2d-medium-v2").normalize_rewards
    assert not any(of("--algo", algo, "--task", "pen-cloned-v1").normalize_rewards for algo in METHODS)


def test_an_action_does_not_depend_on_the_precision_of_training(baseline):
    agent, obs = make_agent(IQL, baseline("iql")), np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    actions = [agent.select_action(obs, deterministic=True)]
    torch.set_float32_matmul_precision("medium")
    try:
        actions.append(agent.select_action(obs, deterministic=True))
    finally:
        torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(*actions)


def test_its_policy_is_not_exported_but_its_curve_is_reported(baseline, tmp_path, settings):
    from doof_ext import pipeline
    from doof_ext.deploy.run_policy import read_policy
    from doof_ext.report.runs import find_runs
    from doof_ext.report.score_tables import aggregate_table, score_table

    _, directory = baselines.run(baseline("cal-ql", logdir=str(tmp_path)))
    with pytest.raises(UserError, match="is a run of cal-ql: only policies of DOOF's runs"):
        read_policy(directory)
    pipeline.run(settings())
    doof, run = find_runs([tmp_path])
    assert (doof.method, run.method, run.arm, run.rounds) == (None, "Cal-QL", "Cal-QL", 1)
    assert doof.finetunes_dynamics and not run.finetunes_dynamics
    assert [steps for _, steps, _ in run.finetuning()] == [10, 20]
    table = score_table([doof, run])
    online, column = table.headings.index("ON-10K"), table.headings.index("finetuned")
    scores = run.results["scores"]
    assert table.rows[1][online] == f"{scores['online']['last_10']:.1f}" and table.rows[0][online] == ""
    for place, name in ((online, "online"), (column, "finetuned")):
        assert ((1, place) in table.faded) == (scores[name]["last_10"] < scores["pretrained"]["last_10"])
    assert [row[1] for row in aggregate_table([doof, run]).rows] == ["ratio 1", "Cal-QL"]
