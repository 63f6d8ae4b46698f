"""The fused step against torch's own Adam, whose state and settings it uses."""

import warnings

import pytest
import torch

from doof_ext.learning.adam import adam_step, optimize_tensors


def _optimizer(parameters, **settings):
    return torch.optim.Adam([parameter.requires_grad_() for parameter in parameters], lr=0.01, **settings)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_it_is_adams_step_and_the_optimizers_state(decay):
    plain, fused = (_optimizer([torch.arange(6.0), torch.ones(2, 3)], weight_decay=own) for own in (decay, 0.0))
    parameters = fused.param_groups[0]["params"]
    for step in range(5):
        if step == 3:  # a state that was saved is resumed from
            fused.load_state_dict(fused.state_dict())
            for group in (plain.param_groups[0], fused.param_groups[0]):
                group["lr"] = 0.002  # a schedule
        for ours, other in zip(parameters, plain.param_groups[0]["params"], strict=True):
            ours.grad = torch.randn_like(ours)
            other.grad = ours.grad.clone()
        before = [parameter.grad.clone() for parameter in parameters]
        with torch.no_grad():
            adam_step(fused, parameters, decay)
        plain.step()
        for ours, other, grad in zip(parameters, plain.param_groups[0]["params"], before, strict=True):
            torch.testing.assert_close(ours, other)
            torch.testing.assert_close(ours.grad, grad, rtol=0, atol=0)
    expected, state = plain.state_dict()["state"], fused.state_dict()["state"]
    for index, moments in expected.items():
        assert float(state[index]["step"]) == float(moments["step"]) == 5
        torch.testing.assert_close(state[index]["exp_avg"], moments["exp_avg"])
        torch.testing.assert_close(state[index]["exp_avg_sq"], moments["exp_avg_sq"])


def test_a_schedule_continues_without_a_warning():
    optimizer, flat = _optimizer([torch.zeros(3)]), torch.ones(4)
    optimize_tensors(optimizer, flat)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2)
    flat.grad = torch.ones(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adam_step(optimizer, [flat])
        schedule.step()
        adam_step(optimizer, [flat])
    # Adam's steps along a constant gradient are as long as the learning rate: 0.01, then half of it
    torch.testing.assert_close(flat, torch.full((4,), 1 - 0.015))


def test_a_schedule_of_a_resumed_optimizer_continues_without_a_warning():
    trained, flat = _optimizer([torch.ones(4)]), torch.ones(4)
    optimize_tensors(trained, flat)
    flat.grad = torch.ones(4)
    adam_step(trained, [flat])
    resumed = _optimizer([torch.ones(4)])
    optimize_tensors(resumed, flat)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(resumed, 2)
    resumed.load_state_dict(trained.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adam_step(resumed, [flat])
        schedule.step()


def test_a_missing_gradient_is_an_error_and_nothing_is_stepped():
    optimizer = _optimizer([torch.ones(2), torch.ones(2)])
    first, second = optimizer.param_groups[0]["params"]
    second.grad = torch.ones(2)
    with torch.no_grad(), pytest.raises(ValueError, match="no gradient"):
        adam_step(optimizer, [first, second])
    assert torch.equal(first, torch.ones(2)) and torch.equal(second, torch.ones(2))
