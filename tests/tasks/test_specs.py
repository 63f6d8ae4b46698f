import pytest

from doof_ext.errors import UserError
from doof_ext.tasks import get_spec, make_env, task_names

TABLE_5 = {  # paper's name: (rollout length, lambda_off)
    "HC-r": (1, 0.25),
    "HC-m": (5, 0.5),
    "HC-mr": (5, 0.5),
    "HP-r": (1, 5.0),
    "HP-m": (5, 5.0),
    "HP-mr": (5, 2.5),
    "WK-r": (1, 0.75),
    "WK-m": (5, 0.5),
    "WK-mr": (1, 2.5),
    "P-c": (1, 2.5),
    "P-h": (1, 0.5),
}


def test_all_eleven_tasks_have_the_papers_settings():
    specs = {spec.paper_name: spec for spec in map(get_spec, task_names()[:11])}
    assert {name: (spec.rollout_length, spec.penalty_coef) for name, spec in specs.items()} == TABLE_5
    for name, spec in specs.items():
        adroit = name.startswith("P-")
        assert spec.actor_lr == (3e-5 if adroit else 1e-4) and spec.critic_lr == 3e-4
        assert spec.dynamics_lr == (3e-4 if adroit else 1e-3)
        assert spec.hidden_dims == (256,) * (3 if adroit else 2)
        assert spec.dynamics_hidden_dims == ((400,) if adroit else (200,)) * 4


def test_scores_are_d4rls():
    # D4RL's infos.py: hopper's random return is -20.272305, its expert's 3234.3
    env = make_env("hopper-medium-v2")
    assert env.get_normalized_score(-20.272305) == 0
    assert env.get_normalized_score(3234.3) == 1
    assert get_spec("hopper-medium-v2").normalized_std(0.0) == 0


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(UserError, match="hopper-medium-v2"):
        get_spec("hopper-medum-v2")


def test_medium_expert_has_the_kits_suggested_settings():
    specs = [get_spec(name) for name in task_names() if name.endswith("-medium-expert-v2")]
    settings = [(spec.rollout_length, spec.penalty_coef, spec.dataset_steps) for spec in specs]
    assert settings == [(5, 2.5, 2_000_000), (5, 5.0, 2_000_000), (1, 2.5, 2_000_000)]
