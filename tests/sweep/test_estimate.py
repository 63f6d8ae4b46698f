"""What runs cost, from measured steps."""

import pytest
from tiny_runs import TINY

from doof_ext.sweep.estimate import UNCAPPED_EPOCHS, Rates, costs, measure, measure_all, seconds_done
from doof_ext.sweep.plan import plan_runs
from doof_ext.sweep.progress import Progress

RATES = Rates(gradient_step=1.0, rollout=10.0, dynamics_step=100.0, env_step=0.01, action=0.001)


@pytest.mark.parametrize("flags", [{}, {"algo": "mobile"}, {"uncertainty": "count"}])
def test_every_step_is_measured(tiny, flags):
    rates = measure(tiny(**flags))
    assert all(0 < seconds < 1 for seconds in vars(rates).values())


def test_runs_whose_steps_are_alike_are_measured_once(monkeypatch):
    measured = []
    monkeypatch.setattr("doof_ext.sweep.estimate.measure", lambda config: measured.append(config) or RATES)
    flags = ("", "--seed 2", "--exploration-ratio 0", "--task hopper-medium-v2 --rollout-length 1", "--algo mobile")
    runs = plan_runs([*TINY, *arm.split()] for arm in flags)
    assert measure_all(runs, threads=2) == dict.fromkeys(runs, RATES)
    assert [(config.algo, config.threads) for config in measured] == [("mopo", 2), ("mobile", 2)]


def test_a_run_costs_its_stages(tiny):
    config = tiny(dataset_steps=512, epoch=3, rounds=2, finetune_dynamics_epochs=5, final_episodes=15)
    policy_epoch = 4 * (1.0 + 10.0 / 2) + 1000 * (0.01 + 0.001)
    found = {(cost.stage, cost.round): (cost.epochs, cost.seconds) for cost in costs(config, RATES)}
    assert found == {
        ("1 pretrain dynamics", 1): (2, 200.0),
        ("1 pretrain policy", 1): (3, pytest.approx(policy_epoch)),
        ("2 explore", 1): (1, pytest.approx(policy_epoch)),
        ("3 collect", 1): (1, pytest.approx(0.55)),
        ("4 finetune dynamics", 1): (5, 300.0),
        ("5 finetune policy", 1): (2, pytest.approx(policy_epoch)),
        ("2 explore", 2): (1, pytest.approx(policy_epoch)),
        ("3 collect", 2): (1, pytest.approx(0.55)),
        ("4 finetune dynamics", 2): (5, 300.0),
        ("5 finetune policy", 2): (2, pytest.approx(policy_epoch)),
        ("final evaluation", 2): (3, pytest.approx(1000 * (15 * 0.01 + 2 * 0.001))),
    }


def test_what_a_run_leaves_out_costs_nothing(tiny):
    stages = {
        control: [cost.stage for cost in costs(tiny(control=control), RATES, shared=True)]
        for control in ("extra-training", "no-online-data")
    }
    assert stages["extra-training"] == ["5 finetune policy", "final evaluation"]
    assert stages["no-online-data"] == ["4 finetune dynamics", *stages["extra-training"]]
    assert costs(tiny(exploration_ratio=0.0), RATES)[2].total == 0.0
    assert [costs(tiny(**arm), RATES)[-1].epochs for arm in ({}, {"exploration_ratio": 0.0})] == [3, 2]
    config = tiny()
    config.dynamics_epochs = None
    assert costs(config, RATES)[0].epochs == UNCAPPED_EPOCHS


@pytest.mark.parametrize(
    ("progress", "done"),
    [
        (Progress(), 0.0),
        (Progress("1 pretrain dynamics", 1, 1), 200.0),
        (Progress("1 pretrain dynamics", 1, 9), 400.0),  # more epochs than the estimate has
        (Progress("4 finetune dynamics", 1, 0), 400.0 + 3 * 35.0 + 0.55),
        (Progress("of another version", 1, 1), 0.0),
    ],
)
def test_what_is_done_is_a_part_of_the_estimate(tiny, progress, done):
    stages = costs(tiny(dataset_steps=512), RATES)
    assert seconds_done(stages, progress) == pytest.approx(done)


def test_a_baseline_costs_its_stages(baseline):
    config = baseline("spot", epoch=3, density_epochs=2, online_steps=45, final_episodes=10)
    steps, evaluation = 10 * 1.0, 1000 * (0.01 + 0.001)
    found = {cost.stage: (cost.epochs, cost.seconds) for cost in costs(config, RATES)}
    assert found == {
        "1 pretrain density": (2, pytest.approx(steps)),
        "1 pretrain policy": (3, pytest.approx(steps + evaluation)),
        "3 finetune online": (5, pytest.approx(steps + evaluation + 10 * 0.011)),
        "5 finetune offline": (2, pytest.approx(steps + evaluation)),
        "final evaluation": (3, pytest.approx(1000 * (10 * 0.01 + 0.001))),
    }
    rates = measure(config)
    assert min(rates.gradient_step, rates.env_step, rates.action) > 0
