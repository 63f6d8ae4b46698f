"""Training that diverges stops with the quantity's name, and leaves the last good checkpoint."""

import sys

import numpy as np
import pytest
import torch
from conftest import assert_same_run, resumed

from doof_ext import pipeline
from doof_ext.errors import DivergenceError


def _breaks_at(monkeypatch, owner, name, number, wrong):
    """Has call ``number`` of a method give ``wrong(what it would have given, the object)``."""
    count, function = 0, getattr(owner, name)

    def broken(self, *args, **kwargs):
        nonlocal count
        count += 1
        result = function(self, *args, **kwargs)
        return wrong(result, self) if count == number else result

    monkeypatch.setattr(owner, name, broken)


def _nan_weight(result, policy):
    policy._critics.flat[3] = float("nan")
    return result


@pytest.mark.parametrize(
    ("owner", "name", "number", "wrong", "message"),
    [
        (
            "doof_ext.learning.policy.DOOFPolicy",
            "learn",
            6,
            lambda r, _: r | {"loss/actor": torch.tensor(float("nan"))},
            "loss/actor is nan in epoch 2 of stage 1",
        ),
        ("doof_ext.learning.policy.DOOFPolicy", "learn", 6, _nan_weight, "in epoch 2 of stage 1"),
        (
            "doof_ext.learning.policy.DOOFPolicy",
            "learn",
            8,
            _nan_weight,
            "weight of the critic is not finite in epoch 2",
        ),
        (
            "doof_ext.learning.policy.DOOFPolicy",
            "rollout",
            3,
            lambda r, _: (r[0] | {"rewards": r[0]["rewards"] / 0}, r[1]),
            "the model's rewards are not finite in epoch 2 of stage 1",
        ),
        (
            "doof_ext.learning.policy.DOOFPolicy",
            "select_action",
            100,
            lambda r, _: r * np.nan,
            "does not fit the action space",
        ),
        (
            "doof_ext.learning.policy.DOOFPolicy",
            "select_action",
            100,
            lambda r, _: r * 0 + 7,
            "does not fit the action space",
        ),
        (
            "doof_ext.learning.dynamics.DOOFDynamics",
            "training_step",
            3,
            lambda r, _: r * float("inf"),
            "training loss is",
        ),
    ],
)
def test_divergence_names_the_quantity_and_keeps_the_checkpoint(
    settings, monkeypatch, owner, name, number, wrong, message
):
    config = settings(epoch=3, dynamics_epochs=2, online_steps=20, horizon=0)
    _, whole = pipeline.run(config)
    module, _, cls = owner.rpartition(".")
    with monkeypatch.context() as patch:
        _breaks_at(patch, getattr(sys.modules[module], cls), name, number, wrong)
        with pytest.raises(DivergenceError, match=message) as caught:
            pipeline.run(config)
    assert "\n" not in str(caught.value)
    directory = caught.value.run_directory
    pipeline.run(resumed(directory))
    assert_same_run(whole, directory)
