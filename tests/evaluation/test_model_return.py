"""The policy's return in the ensemble: its formula, and that nothing else depends on it."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_same_run, final_weights

from doof_ext import pipeline
from doof_ext.checkpointing.random_state import get_random_state
from doof_ext.data.dataset import concatenate
from doof_ext.data.episodes import returns_and_lengths
from doof_ext.evaluation.model_return import ModelReturn, ModelReturns, first_states
from doof_ext.experiment.summary import read_summary
from doof_ext.learning.factory import build_policy
from doof_ext.progress import StageProgress, policy_epochs
from doof_ext.uncertainty import make_estimator

COEF = 0.7


@pytest.fixture
def policy(tiny, spec, dynamics):
    dynamics.model.set_elites([2, 0])
    return build_policy(tiny(), spec, dynamics, uncertainty_coef=-COEF)


def _written_out(policy, dynamics, starts, horizon, ends):
    """(returns, penalised returns) of each elite, one state after another."""
    returns, penalised = [], []
    for elite in dynamics.model.elites.tolist():
        totals = []
        for start in starts:
            obs, plain, less = torch.tensor(start)[None], 0.0, 0.0
            for _ in range(horizon):
                action = torch.as_tensor(policy.select_action(obs, deterministic=True))
                inputs = (torch.cat([obs, action], 1).numpy() - dynamics.scaler.mu) / dynamics.scaler.std
                mean, logvar = (part.detach() for part in dynamics.model(np.asarray(inputs, np.float32)))
                std = (0.5 * logvar).exp()
                u = max(float(std[member, 0].norm()) for member in range(len(std)))
                next_obs, reward = obs + mean[elite, :, :-1], float(mean[elite, 0, -1])
                plain, less = plain + reward, less + reward - COEF * u
                if ends(obs, action, next_obs):
                    break
                obs = next_obs
            totals.append((plain, less))
        mean_plain, mean_less = np.mean(totals, axis=0)
        returns.append(mean_plain)
        penalised.append(mean_less)
    return np.array(returns), np.array(penalised)


@pytest.mark.parametrize("limit", [None, 1.2])
def test_it_is_the_sum_that_the_paper_would_write(policy, dynamics, dataset, limit):
    """``limit``: of the height, so that episodes end after different numbers of steps."""
    lengths = []

    def rule(obs, act, next_obs):
        terminal = next_obs[:, :1] > limit if limit else next_obs[:, :1] != next_obs[:, :1]
        lengths.append(len(terminal))
        return terminal

    dynamics.terminal_fn, starts = rule, first_states(dataset, 6)
    found = ModelReturns(starts, 9, COEF)(policy, dynamics)
    if limit:
        assert 0 < lengths[-1] < lengths[0] or len(lengths) < 9  # some end early
    returns, penalised = _written_out(policy, dynamics, starts, 9, lambda *step: bool(rule(*step)))
    np.testing.assert_allclose(found.returns, returns, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.penalised, penalised, rtol=1e-4, atol=1e-4)
    assert len(set(found.returns)) == 2  # each elite by itself
    figures = found.figures
    assert figures["mean"] == pytest.approx(returns.mean(), rel=1e-4)
    assert figures["pessimistic"] == pytest.approx(returns.min(), rel=1e-4)
    assert figures["spread"] == pytest.approx(abs(returns[0] - returns[1]) / 2, rel=1e-2)
    assert figures["penalised_mean"] < figures["mean"]
    assert found.lower_bound == pytest.approx((returns.sum() - abs(returns[0] - returns[1])) / 2, rel=1e-2)


def test_it_starts_where_episodes_of_the_data_start(dataset):
    ends = np.zeros(600, bool)
    ends[[9, 99, 299]] = True
    cut = dataclasses.replace(dataset, terminals=np.zeros(600, bool), timeouts=ends)
    for count, rows in ((20, [0, 10, 100, 300]), (2, [0, 300])):
        np.testing.assert_array_equal(first_states(cut, count), dataset.observations[rows])


@pytest.mark.parametrize("name", ["aleatoric", "pairwise-diff", "mobile"])
def test_it_leaves_every_generator_alone_and_says_the_same_again(policy, dynamics, dataset, tiny, name):
    dynamics.estimator = make_estimator(name, tiny())
    measure, before = ModelReturns(first_states(dataset, 3), 4, COEF), get_random_state()
    first, second = measure(policy, dynamics), measure(policy, dynamics)
    np.testing.assert_array_equal(first.penalised, second.penalised)
    after = get_random_state()
    assert str(before) == str(after) and torch.equal(before["torch"], after["torch"])


def test_an_elite_that_diverges_is_not_a_number_and_stops_nothing(policy, dynamics, dataset):
    with torch.no_grad():
        dynamics.model.output_layer.bias[2] = 1e20
    found = ModelReturns(first_states(dataset, 3), 4, COEF)(policy, dynamics)
    assert np.isnan(found.returns[0]) and np.isfinite(found.returns[1])


def _rows(directory):
    with open(Path(directory) / "record" / "policy_training_progress.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_is_the_same_with_and_without(settings, tmp_path):
    runs = [pipeline.run(settings(horizon=horizon, logdir=str(tmp_path / str(horizon)))) for horizon in (7, 0)]
    (summary, directory), (without, other) = runs
    assert_same_run(directory, other)
    for path, state in final_weights(directory).items():
        assert all(torch.equal(tensor, final_weights(other)[path][name]) for name, tensor in state.items())
    assert without["model_return"] == {} and "eval/model_return" not in _rows(other)[0]
    names = {"eval/model_return", "eval/model_return_pessimistic", "eval/model_return_penalised_spread"}
    rows = _rows(directory)
    assert all(names <= set(row) for row in rows)
    estimates = read_summary(Path(directory) / "result" / "summary.json")["model_return"]
    assert estimates == summary["model_return"] and set(estimates) == {"pretrained", "exploration", "finetuned"}
    assert float(rows[-1]["eval/model_return"]) == estimates["finetuned"]["mean"]
    first = [row for row in rows if float(row["stage"]) == 1]
    assert float(first[-1]["eval/model_return"]) == estimates["pretrained"]["before"]["mean"]
    log = (Path(directory) / "record" / "consoleout_backup.txt").read_text()
    assert log.count("model return of the pretrained policy: mean") == 1


def test_an_episode_is_as_long_as_the_time_limit_or_as_ds_longest_where_none_is_known(tiny, spec, dataset):
    config = tiny(horizon="episode")
    assert pipeline.model_returns(config, spec, dataset).horizon == spec.max_episode_steps == 1000
    unlimited = dataclasses.replace(spec, max_episode_steps=None)
    assert pipeline.model_returns(config, unlimited, dataset).horizon == max(returns_and_lengths(dataset)[1])
    whole = dataclasses.replace(dataset, terminals=np.zeros(600, bool), timeouts=np.zeros(600, bool))
    assert pipeline.model_returns(config, unlimited, whole).horizon == 600
    assert pipeline.model_returns(config, unlimited, concatenate(whole, whole)).horizon == 1000
    assert pipeline.model_returns(tiny(horizon=0), spec, dataset) is None


def test_an_epochs_line_says_why_a_return_is_none(logger):
    with StageProgress("1 pretrain policy", 2, logger) as progress:
        report = policy_epochs(progress)
        report(1, None, ModelReturn(*np.full((4, 3), 2.0)))
        report(2, None, ModelReturn(*np.array([[2.0, np.nan, 3.0]] * 4)))
    assert "model return 2 ± 0" in logger.lines[0] and "model return none, an elite diverges" in logger.lines[1]
