"""What ``--matmul-precision`` changes, training, and what it does not: actions."""

import numpy as np
import pytest
import torch
from test_actor_critic import FastPolicy, _batch, _networks, _policy

from doof_ext.learning.precision import full_precision


@pytest.fixture
def medium():
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


def test_full_precision_ends_as_it_began(medium):
    with pytest.raises(KeyError), full_precision():
        assert torch.get_float32_matmul_precision() == "highest"
        raise KeyError
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_policy_acts_as_at_highest(medium, deterministic):
    """To the bit where a processor's bfloat16 units are used, which is where products of this size differ."""
    policy, obs = _policy(FastPolicy, _networks()), np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    actions = []
    for precision in ("medium", "highest"):
        torch.set_float32_matmul_precision(precision)
        torch.manual_seed(0)
        actions.append(policy.select_action(obs, deterministic))
    np.testing.assert_array_equal(*actions)


def test_a_step_at_medium_is_one_at_highest_but_for_rounding(medium):
    """bfloat16 has eight bits, sums are of float32: losses agree to a few of a hundred."""
    nets, batch, losses = _networks(), _batch(0), []
    for precision in ("medium", "highest"):
        torch.set_float32_matmul_precision(precision)
        torch.manual_seed(0)
        losses.append(_policy(FastPolicy, nets).sac_step(batch))
    for name, value in losses[1].items():
        assert float(losses[0][name]) == pytest.approx(float(value), rel=0.03, abs=0.01), name
