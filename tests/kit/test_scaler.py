"""The scaling of the dynamics' inputs: whatever a column's offset and spread, and however many rows."""

import numpy as np
import pytest
import torch
from conftest import MemoryLogger

from doof_ext import kit
from doof_ext.kit.embedded import ReplayBuffer, StandardScaler
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.uncertainty.count import HashCount

ROWS = 200_000


def _columns():
    """Ordinary, never changing, rounded, and small spreads upon large offsets."""
    rng = np.random.default_rng(0)
    flips = rng.integers(0, 2, ROWS)
    columns = {
        "ordinary": rng.normal(3, 2, ROWS),
        "zero": np.zeros(ROWS),
        "tenth": np.full(ROWS, 0.1),
        "three tenths": np.full(ROWS, 0.3),
        "large": np.full(ROWS, -123456.7),
        "rounded": np.where(flips, np.float32(0.3), np.nextafter(np.float32(0.3), np.float32(1))),
        "on an offset": 10_000 + 0.05 * rng.normal(size=ROWS),
        "rare": np.arange(ROWS) == 77,
        "small": 1e-9 * rng.normal(size=ROWS),
    }
    return list(columns), np.stack(list(columns.values()), axis=1).astype(np.float32)


NAMES, DATA = _columns()
CONSTANT = ["zero", "tenth", "three tenths", "large", "rounded"]


def test_a_column_without_spread_keeps_its_scale_and_others_get_theirs():
    scaler = StandardScaler()
    scaler.fit(DATA)
    exact = DATA.astype(np.float64)
    constant = np.array([name in CONSTANT for name in NAMES])
    np.testing.assert_allclose(scaler.mu[0], exact.mean(0), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(scaler.std[0], np.where(constant, 1, exact.std(0)), rtol=1e-6)
    assert scaler.mu.dtype == scaler.std.dtype == np.float32 and scaler.mu.shape == (1, len(NAMES))
    scaled = scaler.transform(DATA)
    assert abs(scaled[:, constant]).max() < 0.01
    np.testing.assert_allclose(scaled[:, ~constant].astype(np.float64).std(0), 1, rtol=1e-3)
    np.testing.assert_allclose(scaled[:, ~constant].astype(np.float64).mean(0), 0, atol=0.02)


def test_ordinary_columns_are_scaled_as_by_the_kit():
    rows = np.random.default_rng(1).normal(0.7, 1.3, (3000, 14)).astype(np.float32)
    theirs = kit.StandardScaler()
    theirs.fit(rows)
    mean, scale, constant = kit.standardisation(rows)
    np.testing.assert_allclose(mean, theirs.mu, rtol=1e-5)
    np.testing.assert_allclose(scale, theirs.std, rtol=1e-5)
    assert not constant.any()


def _data(count=400):
    rng = np.random.default_rng(0)
    obs, actions = rng.normal(size=(count, 3)), rng.uniform(-1, 1, (count, 2))
    obs[:, 1], actions[:, 0] = 0.1, 0.3  # an unused sensor, an unused actuator
    next_obs = obs + 0.1 * rng.normal(size=obs.shape) * [1, 0, 1]
    columns = dict(observations=obs, actions=actions, next_observations=next_obs, rewards=-abs(obs[:, :1]))
    return {name: column.astype(np.float32) for name, column in columns.items()}


@pytest.fixture(params=["the kit's scaler", "the embedded scaler"])
def trained(request):
    """A dynamics trained on data with columns that never change, and what it logged."""
    torch.manual_seed(0)
    model = kit.EnsembleDynamicsModel(3, 2, [16, 16], num_ensemble=3, num_elites=2, weight_decays=[1e-4] * 3)
    scaler = kit.StandardScaler() if request.param == "the kit's scaler" else StandardScaler()
    optim = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    dynamics, logger = DOOFDynamics(model, optim, scaler, lambda obs, act, new: new[:, :1] > 1e9), MemoryLogger()
    data = {name: np.tile(column, (500, 1)) for name, column in _data().items()}
    dynamics.train(data, logger, max_epochs=1, batch_size=2000)
    return dynamics, logger


def test_a_policy_that_moves_an_unused_actuator_gets_rewards_of_the_datas_size(trained):
    dynamics, _ = trained
    obs, actions = (torch.as_tensor(_data()[name]) for name in ("observations", "actions"))
    actions[:, 0] = torch.linspace(-1, 1, len(actions))
    obs[:, 1] += 0.05
    reward = dynamics.predict(obs, actions).mean[..., -1]
    assert reward.isfinite().all() and abs(reward).max() < 10


def test_the_columns_are_named_in_one_warning(trained):
    _, logger = trained
    (line,) = [line for line in logger.lines if line.startswith("WARNING")]
    assert line.startswith("WARNING: observations 1 and actions 0 (from 0) never change in the data")


@pytest.mark.parametrize("buffer_class", [ReplayBuffer, TensorReplayBuffer])
def test_normalised_observations_do_not_depend_on_rounding(buffer_class):
    width = len(NAMES)
    buffer = buffer_class(ROWS, (width,), np.float32, 1, np.float32)
    buffer.load_dataset(
        dict(
            observations=DATA, next_observations=DATA, **dict.fromkeys(("actions", "rewards", "terminals"), DATA[:, :1])
        )
    )
    mean, std = buffer.normalize_obs()
    exact = DATA.astype(np.float64)
    np.testing.assert_allclose(mean[0], exact.mean(0), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(std[0], exact.std(0) + 1e-3, rtol=1e-5)
    assert abs(np.asarray(buffer.observations)[:, NAMES.index("large")]).max() == 0


def test_counts_do_not_depend_on_a_column_that_never_changes():
    rng = np.random.default_rng(0)
    pairs = torch.as_tensor(rng.normal(size=(3000, 2)), dtype=torch.float32)
    estimator = HashCount(bits=8, members=2, steps=2)
    estimator.fit(torch.cat([pairs, torch.full((3000, 1), 54321.1)], dim=1), torch.zeros(3000, 1))
    assert estimator.state_dict()["std"][2:].tolist() == [1, 1]
    assert estimator.state_dict()["mean"][2] == torch.tensor(54321.1)
