"""Ensemble dynamics: against the kit's, against written-out loops, and its training."""

import numpy as np
import pytest
import torch

from doof_ext import kit
from doof_ext.errors import DivergenceError
from doof_ext.learning.dynamics import DOOFDynamics
from doof_ext.learning.dynamics_trainer import DynamicsTrainer

MODES = ["aleatoric", "pairwise-diff", "ensemble-std"]


def _model(seed=0, device="cpu"):
    torch.manual_seed(seed)
    decays = [1e-3, 2e-3, 3e-3]
    model = kit.EnsembleDynamicsModel(11, 3, [16, 16], 4, 3, weight_decays=decays, device=device)
    model.set_elites([3, 0, 2])
    return model


def _make(dynamics_class, mode="aleatoric", penalty_coef=0.7, seed=0, device="cpu"):
    model = _model(seed, device)
    scaler = kit.StandardScaler(np.full((1, 14), 0.3, np.float32), np.full((1, 14), 1.7, np.float32))
    rule = kit.get_termination_fn("hopper-medium-v2")
    optim = torch.optim.Adam(model.parameters(), lr=1e-3, fused=dynamics_class is DOOFDynamics)
    return dynamics_class(model, optim, scaler, rule, penalty_coef=penalty_coef, uncertainty_mode=mode)


def _pairs(count=30):
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(count, 11)).astype(np.float32)
    obs[:, 0] += 1.5
    return obs, rng.uniform(-1, 1, (count, 3)).astype(np.float32)


@pytest.mark.parametrize("mode", MODES)
def test_a_step_agrees_with_the_kit_on_the_same_noise(mode, monkeypatch):
    ours, plain = _make(DOOFDynamics, mode), _make(kit.EnsembleDynamics, mode.replace("ensemble-", "ensemble_"))
    obs, actions = _pairs()
    noise = np.random.default_rng(1).normal(size=(4, 30, 12))
    members = np.random.default_rng(2).choice([3, 0, 2], size=30)
    monkeypatch.setattr(np.random, "normal", lambda size: noise)
    monkeypatch.setattr(plain.model, "random_elite_idxs", lambda count: members)
    next_obs, reward, terminal, info = plain.step(obs, actions)

    step = ours.sample_step(
        torch.as_tensor(obs),
        torch.as_tensor(actions),
        noise=torch.as_tensor(noise[members, np.arange(30)], dtype=torch.float32),
        members=torch.as_tensor(members),
    )
    np.testing.assert_allclose(step.next_obs, next_obs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(step.reward, info["raw_reward"], rtol=1e-5, atol=1e-5)
    u = ours.estimator(torch.as_tensor(obs), torch.as_tensor(actions), ours, prediction=step.prediction)
    np.testing.assert_allclose(u, info["penalty"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(step.reward - 0.7 * u, reward, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(step.terminal, terminal)


@pytest.mark.parametrize("mode", MODES)
def test_uncertainty_is_the_written_out_formula(mode):
    dynamics = _make(DOOFDynamics, mode)
    obs, actions = _pairs(5)
    inputs = (np.concatenate([obs, actions], 1) - 0.3) / 1.7
    mean, logvar = (t.detach().numpy().astype(np.float64) for t in dynamics.model(inputs.astype(np.float32)))
    expected = []
    for row in range(5):
        if mode == "aleatoric":  # max over all members, over next state and reward
            value = max(np.sqrt(sum(np.exp(logvar[k, row, j]) for j in range(12))) for k in range(4))
        else:
            centre = [sum(mean[k, row, j] for k in range(4)) / 4 for j in range(11)]
            squares = [[(mean[k, row, j] - centre[j]) ** 2 for j in range(11)] for k in range(4)]
            if mode == "pairwise-diff":
                value = max(np.sqrt(sum(member)) for member in squares)
            else:
                value = np.sqrt(np.mean([sum(s[j] for s in squares) / 4 for j in range(11)]))
        expected.append([value])
    u = dynamics.uncertainty(torch.as_tensor(obs), torch.as_tensor(actions))
    np.testing.assert_allclose(u, expected, rtol=1e-4, atol=1e-6)


def test_penalty_is_reported_even_where_it_costs_nothing():
    _, reward, _, info = _make(DOOFDynamics, penalty_coef=0.0).step(*_pairs())
    np.testing.assert_array_equal(reward, info["raw_reward"])
    assert (info["penalty"] > 0).all()


def test_sampled_members_are_elites_and_noise_is_standard():
    dynamics = _make(DOOFDynamics)
    obs, actions = (torch.as_tensor(x[:1]).expand(20_000, -1) for x in _pairs())
    prediction = dynamics.predict(obs[:1], actions[:1])
    elites = [3, 0, 2]
    sample = dynamics.sample_step(obs, actions).reward[:, 0]
    means, stds = prediction.mean[elites, 0, -1], prediction.std[elites, 0, -1]
    assert float(sample.mean()) == pytest.approx(float(means.mean()), abs=0.05)
    expected = (stds.square() + means.square()).mean() - means.mean().square()
    assert float(sample.var()) == pytest.approx(float(expected), rel=0.05)


def test_a_training_step_follows_the_kit(device):
    """The same loss and the same weights after one step of each (eq. 1, decay and variance bounds)."""
    ours, plain = (_make(dynamics_class, device=device) for dynamics_class in (DOOFDynamics, kit.EnsembleDynamics))
    rng = np.random.default_rng(3)
    inputs, targets = (rng.normal(size=(4, 32, width)).astype(np.float32) for width in (14, 12))
    expected = plain.learn(inputs, targets, 32, 0.01)
    loss = ours.training_step(*(torch.as_tensor(array, device=device) for array in (inputs, targets)), 0.01)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    for (name, value), other in zip(ours.model.state_dict().items(), plain.model.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-5, msg=name)


def test_the_loss_is_the_written_out_likelihood():
    dynamics = _make(DOOFDynamics)
    rng = np.random.default_rng(3)
    inputs, targets = (rng.normal(size=(4, 3, width)).astype(np.float32) for width in (14, 12))
    mean, logvar = (t.detach().double().numpy() for t in dynamics.model(inputs))
    expected = 0.0
    for k in range(4):
        for i in range(3):
            for j in range(12):
                error = (mean[k, i, j] - targets[k, i, j]) ** 2
                expected += (error * np.exp(-logvar[k, i, j]) + logvar[k, i, j]) / 36
    weights = [layer.weight for layer in (*dynamics.model.backbones, dynamics.model.output_layer)]
    expected += sum(
        d * 0.5 * float(w.detach().square().sum()) for d, w in zip((1e-3, 2e-3, 3e-3), weights, strict=True)
    )
    expected += 0.01 * 12 * (0.5 + 10.0)
    loss = dynamics.training_step(torch.as_tensor(inputs), torch.as_tensor(targets), 0.01)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def _toy_data(count, slope, seed=0):
    """next = obs + slope·action on the first coordinates; reward = first action."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(count, 11)).astype(np.float32)
    actions = rng.uniform(-1, 1, (count, 3)).astype(np.float32)
    next_obs = obs.copy()
    next_obs[:, :3] += slope * actions
    return dict(
        observations=obs,
        actions=actions,
        next_observations=next_obs,
        rewards=actions[:, :1].copy(),
        terminals=np.zeros((count, 1), np.float32),
    )


def test_training_learns_and_fits_the_scaler_to_the_kept_rows(logger):
    dynamics, data = _make(DOOFDynamics), _toy_data(500, 1.0)
    steps = dynamics.train(data, logger, max_epochs=40, batch_size=50)
    losses = [row["loss/dynamics_holdout_loss"] for row in logger.rows]
    assert losses[-1] < 0.5 * losses[0]
    kept = dynamics.split_rows(500, 0.2)[1].numpy()
    assert steps == 40 * int(np.ceil(len(kept) / 50))
    expected = np.hstack([data["observations"], data["actions"]])[kept].mean(0, keepdims=True)
    np.testing.assert_allclose(dynamics.scaler.mu, expected, atol=1e-6)


def test_the_best_weights_are_restored_with_their_bounds(logger, monkeypatch):
    """A worse first epoch must not replace the model, whose bounds stay too."""
    dynamics, data = _make(DOOFDynamics), _toy_data(200, 1.0)
    dynamics.train(data, logger, max_epochs=5)
    before = {name: value.clone() for name, value in dynamics.model.state_dict().items() if name != "elites"}
    dynamics.optim = torch.optim.Adam(dynamics.model.parameters(), lr=0.5)  # every epoch makes it worse
    dynamics.finetune(data, data, logger, max_epochs=3, steps_per_epoch=3)
    for name, value in before.items():
        torch.testing.assert_close(dynamics.model.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_finetuning_copies_weights_and_keeps_scaler_and_original(logger):
    dynamics = _make(DOOFDynamics)
    offline, online = _toy_data(400, 1.0), _toy_data(200, -1.0, seed=1)
    dynamics.train(offline, logger, max_epochs=10)
    weights = dynamics.model.backbones[0].weight.detach().clone()
    copy = dynamics.copy_for_finetuning(lr=1e-3)
    torch.testing.assert_close(copy.model.backbones[0].weight, weights, rtol=0, atol=0)
    mu = copy.scaler.mu.copy()
    copy.finetune(offline, online, logger, max_epochs=2, steps_per_epoch=20)
    np.testing.assert_array_equal(copy.scaler.mu, mu)
    torch.testing.assert_close(dynamics.model.backbones[0].weight, weights, rtol=0, atol=0)
    assert not torch.equal(copy.model.backbones[0].weight, weights)
    assert [row["timestep"] for row in logger.rows] == list(range(1, 13)), "the curve goes on, it does not restart"


def test_finetuning_batches_are_half_online_and_never_held_out(logger, monkeypatch):
    dynamics = _make(DOOFDynamics)
    offline, online = _toy_data(100, 1.0), _toy_data(60, 1.0, seed=1)
    offline["rewards"] = 1000.0 + np.arange(100, dtype=np.float32)[:, None]
    online["rewards"] = 2000.0 + np.arange(60, dtype=np.float32)[:, None]
    seen = []

    def spy(inputs, targets, coef):
        seen.append(targets[..., -1])
        return torch.zeros(())

    monkeypatch.setattr(dynamics, "training_step", spy)
    dynamics.finetune(offline, online, logger, max_epochs=1, steps_per_epoch=40, batch_size=256)
    held_out = set((1000.0 + dynamics.split_rows(100, 0.2)[0]).tolist()) | set(
        (2000.0 + dynamics.split_rows(60, 0.2)[0]).tolist()
    )
    assert len(seen) == 40
    for rewards in seen:
        assert rewards.shape == (4, 256)
        assert ((rewards < 2000).sum(1) == 128).all() and ((rewards >= 2000).sum(1) == 128).all()
        assert not set(rewards.flatten().tolist()) & held_out
    assert not torch.equal(seen[0][0], seen[0][1]), "members draw their own rows"


def test_d_in_the_place_of_d_on_is_all_that_a_finetuning_sees(logger, monkeypatch):
    """The control without online data: batches of the same size, and the held-out rows of D alone decide."""
    dynamics = _make(DOOFDynamics)
    data = _toy_data(100, 1.0)
    data["rewards"] = np.arange(100, dtype=np.float32)[:, None]
    seen, judged, fitted = [], [], []
    monkeypatch.setattr(dynamics, "training_step", lambda x, y, c: seen.append(y[..., -1]) or torch.zeros(()))
    monkeypatch.setattr(dynamics, "fit_estimator", lambda *datasets: fitted.append(datasets))
    holdout_losses = DynamicsTrainer._holdout_losses

    def spy(self, holdouts):
        judged.append([rewards for _, y in holdouts for rewards in y[..., -1].tolist()])
        return holdout_losses(self, holdouts)

    monkeypatch.setattr(DynamicsTrainer, "_holdout_losses", spy)
    assert dynamics.finetune(data, data, logger, max_epochs=2, steps_per_epoch=40) == 80
    held_out, kept = (set(rows.tolist()) for rows in dynamics.split_rows(100, 0.2))
    assert len(seen) == 80 and all(rewards.shape == (4, 256) for rewards in seen)
    assert set(torch.cat(seen, 1).flatten().int().tolist()) == kept
    assert len(judged) == 3 and all(set(rows) == held_out and len(rows) == len(held_out) for rows in judged)
    assert fitted == [(data,)]  # a count of D is not doubled


def test_each_pretraining_epoch_covers_a_bootstrap_of_kept_rows(logger, monkeypatch):
    dynamics, data = _make(DOOFDynamics), _toy_data(100, 1.0)
    data["rewards"] = np.arange(100, dtype=np.float32)[:, None]
    epochs, seen = [], []
    monkeypatch.setattr(dynamics, "training_step", lambda x, y, c: seen.append(y[..., -1]) or torch.zeros(()))
    dynamics.train(
        data, logger, max_epochs=2, batch_size=32, on_epoch=lambda *_: (epochs.append(torch.cat(seen, 1)), seen.clear())
    )
    first, second = epochs
    assert first.shape == (4, len(dynamics.split_rows(100, 0.2)[1]))
    torch.testing.assert_close(first.sort(1).values, second.sort(1).values)  # one bootstrap, reshuffled
    assert not torch.equal(first, second) and not torch.equal(first[0].sort().values, first[1].sort().values)
    held_out = set(dynamics.split_rows(100, 0.2)[0].tolist())
    assert not set(first.flatten().int().tolist()) & held_out


@pytest.mark.parametrize(
    ("count", "ratio", "least", "most"),
    [(2, 0.2, 1, 1), (2, 1.0, 1, 1), (500, 0.2, 70, 130), (90_000, 0.2, 1000, 1000)],
)
def test_some_rows_are_held_out_and_some_are_kept(count, ratio, least, most):
    held_out, kept = _make(DOOFDynamics).split_rows(count, ratio)
    assert least <= len(held_out) <= most
    assert sorted(torch.cat([held_out, kept]).tolist()) == list(range(count))


@pytest.mark.parametrize(("before", "after"), [(300, 600), (4_000, 8_000), (10_000, 20_000)])
def test_what_was_trained_on_is_not_held_out_when_rows_are_added(before, after):
    dynamics = _make(DOOFDynamics)
    trained_on = set(dynamics.split_rows(before, 0.2)[1].tolist())
    assert trained_on.isdisjoint(dynamics.split_rows(after, 0.2)[0].tolist())


def test_a_loss_that_is_not_finite_stops_training(logger):
    data = _toy_data(100, 1.0)
    data["rewards"][7] = np.inf
    with pytest.raises(DivergenceError, match="the dynamics' training loss is inf in epoch 1"):
        _make(DOOFDynamics).train(data, logger, max_epochs=3)


def test_what_is_saved_loads_into_the_kits_dynamics(tmp_path):
    from doof_ext.experiment.artifacts import save_dynamics

    ours, plain = _make(DOOFDynamics), _make(kit.EnsembleDynamics, seed=5)
    save_dynamics(tmp_path, ours)
    plain.load(str(tmp_path))
    torch.testing.assert_close(plain.model.state_dict(), ours.model.state_dict())
    np.testing.assert_array_equal(plain.scaler.mu, ours.scaler.mu)
