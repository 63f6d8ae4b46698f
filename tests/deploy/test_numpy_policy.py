"""The policy in NumPy: its formula, and what it refuses."""

import math

import numpy as np
import pytest

from doof_ext.deploy.numpy_policy import NumpyPolicy


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    shapes = {"hidden.0": (5, 3), "hidden.1": (4, 5), "mean": (2, 4), "log_std": (2, 4)}
    arrays = {}
    for name, shape in shapes.items():
        arrays[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
        arrays[f"{name}.bias"] = rng.normal(size=shape[0]).astype(np.float32)
    arrays["log_std_bounds"] = np.float32([-0.5, 0.5])
    arrays["action_low"], arrays["action_high"] = np.float32([-1.0, 2.0]), np.float32([1.0, 10.0])
    return arrays


def _written_out(arrays, observation, noise):
    """The action for one observation and one draw of noise, number by number."""

    def layer(name, x):
        weight, bias = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
        return [
            sum(float(w) * value for w, value in zip(row, x, strict=True)) + float(b)
            for row, b in zip(weight, bias, strict=True)
        ]

    x = observation
    for name in ("hidden.0", "hidden.1"):
        x = [max(value, 0.0) for value in layer(name, x)]
    action = []
    for mean, log_std, e, low, high in zip(
        layer("mean", x), layer("log_std", x), noise, arrays["action_low"], arrays["action_high"], strict=True
    ):
        squashed = math.tanh(mean + math.exp(min(max(log_std, -0.5), 0.5)) * e)
        action.append(low + (squashed + 1) / 2 * (high - low))
    return action


def test_the_mean_action_is_the_formulas(arrays):
    policy = NumpyPolicy(arrays)
    for observation in np.random.default_rng(1).normal(size=(20, 3)):
        wanted = _written_out(arrays, observation, [0.0, 0.0])
        np.testing.assert_allclose(policy.act(observation), wanted, atol=1e-5)


def test_a_sampled_action_is_the_formulas_with_the_generators_noise(arrays):
    policy, rng, same = NumpyPolicy(arrays), np.random.default_rng(2), np.random.default_rng(2)
    for observation in np.random.default_rng(1).normal(size=(20, 3)):
        wanted = _written_out(arrays, observation, same.standard_normal(2, np.float32))
        np.testing.assert_allclose(policy.act(observation, rng), wanted, atol=1e-5)
    first = policy.act(observation, 5)
    np.testing.assert_array_equal(first, policy.act(observation, np.random.default_rng(5)))
    assert not np.array_equal(first, policy.act(observation, 6))


def test_a_batch_is_its_rows(arrays):
    policy, observations = NumpyPolicy(arrays), np.random.default_rng(1).normal(size=(7, 3))
    actions = policy.act(observations)
    assert actions.shape == (7, 2) and actions.dtype == np.float32
    np.testing.assert_allclose(actions, [policy.act(observation) for observation in observations], rtol=1e-6)
    assert policy.act(observations[:0]).shape == (0, 2)


def test_actions_stay_within_the_bounds(arrays):
    policy = NumpyPolicy(arrays)
    observations = 1e4 * np.random.default_rng(1).normal(size=(2000, 3))
    for actions in (policy.act(observations), policy.act(observations, 0)):
        assert (actions >= policy.action_low).all() and (actions <= policy.action_high).all()
        assert (actions == policy.action_low).any() and (actions == policy.action_high).any()


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ([1.0, np.nan, 0.0], "not finite in its dimension 1"),
        ([[0.0, 0.0, 0.0], [0.0, 0.0, np.inf]], "not finite in its dimension 2"),
        ([1.0, 2.0], r"shape \(2,\); it must be \[3\] or \[B, 3\]"),
        ([[1.0], [2.0], [3.0]], r"shape \(3, 1\)"),
        (np.zeros((2, 2, 3)), r"shape \(2, 2, 3\)"),
        (0.0, r"shape \(\)"),
        (None, r"shape \(\)"),
        ("left", "could not convert"),
    ],
)
def test_what_is_no_observation_is_one_line(arrays, observation, message):
    with pytest.raises(ValueError, match=message) as caught:
        NumpyPolicy(arrays).act(observation)
    assert "\n" not in str(caught.value)
