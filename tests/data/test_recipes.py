"""The recipes of the nine Gym tasks and their medium-expert companions."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import needs_adroit

from doof_ext.data import episodes
from doof_ext.data.behaviour import Behaviour, UniformBehaviour
from doof_ext.data.d4rl_statistics import STATISTICS
from doof_ext.data.dataset import read_dataset, write_dataset
from doof_ext.data.recipe import behaviours, generate, record_uniform
from doof_ext.evaluation.consistency import replay
from doof_ext.tasks import get_spec, make_env

DOMAINS = ("hopper", "halfcheetah", "walker2d")
QUALITIES = ("random", "medium", "medium-replay")


@pytest.fixture(scope="module")
def recipes():
    """20 000 steps of each of the nine tasks' recipes, made once."""
    made = {}

    def get(domain, quality):
        if (domain, quality) not in made:
            made[domain, quality] = generate(get_spec(f"{domain}-{quality}-v2"), steps=20_000, seed=1)
        return made[domain, quality]

    return get


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("domain", DOMAINS)
def test_twenty_thousand_steps_are_read_back_as_written(recipes, tmp_path, domain, quality):
    dataset = recipes(domain, quality)
    write_dataset(tmp_path / "d.hdf5", dataset)
    again = read_dataset(tmp_path / "d.hdf5", get_spec(f"{domain}-{quality}-v2"))
    assert len(again) == 20_000 and again.sha256() == dataset.sha256()
    for name in ("terminals", "timeouts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(dataset, name))
    for name in ("qpos", "qvel"):
        np.testing.assert_array_equal(again.states[name], dataset.states[name])
    assert again.metadata == dataset.metadata and again.metadata["recipe"] == f"{domain}-{quality}-v2"
    assert replay(make_env(f"{domain}-{quality}-v2"), again, sample=100).error < 1e-4


@pytest.mark.parametrize("domain", DOMAINS)
def test_normalised_returns_are_as_d4rl_has_them(recipes, domain):
    spec = get_spec(f"{domain}-medium-v2")
    scores = {}
    for quality in QUALITIES:
        returns, _ = episodes.returns_and_lengths(recipes(domain, quality))
        scores[quality] = 100 * spec.normalized_score(returns.mean())
    # 20 000 steps are few episodes, and the walker's depend on how a processor rounds: 75 was seen, 62 over 300 000
    assert 25 <= scores["medium"] <= 80
    assert scores["random"] < 10
    assert scores["random"] < scores["medium-replay"] < scores["medium"]


def test_medium_replay_is_a_run_of_sac_in_iterations_uniform_actions_first(recipes):
    (uniform, first), *policies = behaviours(get_spec("walker2d-medium-replay-v2"), steps=20_000)
    assert isinstance(uniform, UniformBehaviour) and first == 1_000
    assert len(policies) >= 20 and sum(share for _, share in policies) == 19_000
    assert {share for _, share in policies} <= {791, 792}
    actions = [policy.act(np.ones(17), np.random.default_rng(0)) for policy, _ in policies]
    assert len({action.tobytes() for action in actions}) == len(policies)
    dataset = recipes("walker2d", "medium-replay")
    ends = dataset.terminals | dataset.timeouts
    assert ends[999 + np.cumsum([0, *(share for _, share in policies)])].all()  # a share ends with its episode
    assert abs(dataset.actions[:1_000]).mean() == pytest.approx(0.5, abs=0.02)
    assert episodes.returns_and_lengths(dataset)[1].max() <= 1_000


def test_medium_expert_is_half_medium_and_half_the_best_policy():
    (medium, half), (best, other_half) = behaviours(get_spec("hopper-medium-expert-v2"), steps=400)
    assert half == other_half == 200
    assert "medium" in medium.metadata["behaviour"] and "best" in best.metadata["behaviour"]
    assert best.metadata["return"] > medium.metadata["return"]
    dataset = generate(get_spec("hopper-medium-expert-v2"), steps=400, seed=1, processes=1)
    assert dataset.timeouts[199] or dataset.terminals[199]
    assert "expert" not in dataset.metadata["behaviour"]


@pytest.mark.parametrize("domain", DOMAINS)
def test_medium_is_like_d4rls_in_return_and_length(domain):
    (policy,), d4rl = Behaviour.shipped(f"{domain}-medium"), STATISTICS[f"{domain}-medium-v2"]
    assert policy.metadata["return"] == pytest.approx(d4rl.return_mean, rel=0.1)
    assert policy.metadata["length"] == pytest.approx(d4rl.length_mean, rel=0.15)


def test_all_weights_together_are_under_25_mb():
    from importlib import resources

    files = list((resources.files("doof_ext.data") / "behaviours").iterdir())
    assert sum(file.stat().st_size for file in files if file.name.endswith(".safetensors")) < 25e6


def test_data_do_not_depend_on_how_many_processes_made_them():
    spec = get_spec("walker2d-medium-replay-v2")
    assert generate(spec, 160, seed=3, processes=2).sha256() == generate(spec, 160, seed=3, processes=1).sha256()


@needs_adroit
def test_uniform_actions_are_labelled_as_what_they_are():
    dataset = record_uniform(get_spec("pen-cloned-v1"), steps=150, seed=0, processes=1)
    assert dataset.metadata["recipe"] == "pen-cloned-v1 with uniform random actions"
    assert dataset.states["desired_orien"].shape == (150, 4)
    assert abs(dataset.actions).max() <= 1 and dataset.actions.std() == pytest.approx(3**-0.5, abs=0.02)
    assert dataset.terminals.sum() > 0


def test_uniform_behaviour_stays_in_its_bounds():
    behaviour, rng = UniformBehaviour(np.float32([-2, 0]), np.float32([2, 1])), np.random.default_rng(0)
    actions = np.stack([behaviour.act(None, rng) for _ in range(1000)])
    assert actions.min(0) == pytest.approx([-2, 0], abs=0.05) and actions.max(0) == pytest.approx([2, 1], abs=0.05)


_UNGUARDED = """
from doof_ext.data.recipe import generate
from doof_ext.tasks import get_spec
generate(get_spec("hopper-random-v2"), 20_000, seed=0, processes=2)
"""


@pytest.mark.skipif(sys.version_info < (3, 11, 5), reason="a pool whose workers die may wait for ever (gh-94777)")
def test_a_script_that_its_workers_cannot_import_ends_with_advice(tmp_path):
    (tmp_path / "unguarded.py").write_text(_UNGUARDED)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "unguarded.py"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    last = [line for line in done.stderr.splitlines() if "resource_tracker" not in line][-1]  # which may come after it
    assert done.returncode != 0 and "if __name__ == '__main__'" in last
