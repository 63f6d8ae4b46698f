"""Each estimator against a loop or a dictionary, and on data whose answer is known."""

import time
from collections import Counter

import numpy as np
import pytest
import torch

from doof_ext.data.recipe import generate
from doof_ext.errors import UserError
from doof_ext.evaluation.uncertainty_ranking import KINDS, compare, pairs_of_each_kind
from doof_ext.learning.factory import build_dynamics, build_policy
from doof_ext.learning.replay_buffer import TensorReplayBuffer
from doof_ext.tasks import get_spec, make_env
from doof_ext.uncertainty import make_estimator
from doof_ext.uncertainty.base import UncertaintyEstimator
from doof_ext.uncertainty.bellman import ModelBellmanInconsistency
from doof_ext.uncertainty.count import HashCount


def test_mobile_u_is_the_loop_over_members_and_samples(tiny, spec, dynamics, offline):
    policy = build_policy(tiny(), spec, dynamics, uncertainty_coef=-1.0)
    policy.actforward = lambda obs: (policy.actor(obs).mode()[0], None)  # the loop and the batch draw in other orders
    rows = offline.sample(6)
    obs, actions = rows["observations"], rows["actions"]
    torch.manual_seed(5)
    u = ModelBellmanInconsistency(num_samples=4)(obs, actions, dynamics, policy)

    torch.manual_seed(5)
    elites = dynamics.model.elites.tolist()
    noise = [torch.randn(len(elites), 6, spec.obs_dim + 1) for _ in range(4)]
    prediction = dynamics.predict(obs, actions)
    for row in range(6):
        values = []
        for place, member in enumerate(elites):
            total = 0.0
            for sample in range(4):
                mean, std = prediction.mean[member, row], prediction.std[member, row]
                next_obs = (mean + std * noise[sample][place, row])[None, :-1]
                action = policy.actor(next_obs).mode()[0]
                total += min(policy.critic1_old(next_obs, action).item(), policy.critic2_old(next_obs, action).item())
            values.append(total / 4)
        assert float(u[row, 0]) == pytest.approx(np.std(values, ddof=1), rel=1e-3, abs=1e-5)


@pytest.fixture
def counted():
    """A fitted HashCount on pairs that repeat, and the pairs."""
    rng = np.random.default_rng(0)
    distinct = rng.normal(size=(30, 5)).astype(np.float32)
    pairs = torch.as_tensor(distinct[rng.integers(30, size=400)])
    estimator = HashCount(bits=12, members=3, steps=50)
    estimator.fit(pairs[:, :3], pairs[:, 3:])
    return estimator, pairs


@pytest.mark.parametrize("count_type", ["AVG", "LC", "UC"])
def test_counts_are_a_dictionarys(counted, count_type):
    estimator, pairs = counted
    estimator.count_type, estimator.coef = count_type, 0.7
    keys = estimator._keys(estimator._scaled(pairs[:, :3], pairs[:, 3:]))
    books = [Counter(row.tolist()) for row in keys]
    asked = torch.cat([pairs[:20], torch.randn(20, 5) * 3])
    asked_keys = estimator._keys(estimator._scaled(asked[:, :3], asked[:, 3:]))
    u = estimator.u(asked[:, :3], asked[:, 3:])
    assert u.shape == (40, 1)
    for row in range(40):
        counts = [book[int(asked_keys[member, row])] for member, book in enumerate(books)]
        spread = {"AVG": 0.0, "LC": -0.7, "UC": 0.7}[count_type] * np.std(counts, ddof=1)
        assert float(u[row, 0]) == pytest.approx(1 / np.sqrt(max(np.mean(counts) + spread, 1)), rel=1e-5)


def test_codes_are_bits_of_the_learned_code(counted):
    estimator, pairs = counted
    scaled = estimator._scaled(pairs[:, :3], pairs[:, 3:])
    key = int(estimator._keys(scaled)[1, 7])
    weights = {name: value[1] for name, value in estimator.state_dict().items() if name.startswith("encoder")}
    hidden = torch.relu(scaled[7] @ weights["encoder.0.weight"] + weights["encoder.0.bias"][0])
    code = torch.sigmoid(hidden @ weights["encoder.1.weight"] + weights["encoder.1.bias"][0])
    assert [(key >> bit) & 1 for bit in range(12)] == code.round().int().tolist()


def test_a_pair_never_seen_counts_as_one_and_what_is_saved_loads(counted):
    estimator, pairs = counted
    again = HashCount()
    again.load_state_dict(estimator.state_dict())
    torch.testing.assert_close(again.u(pairs[:, :3], pairs[:, 3:]), estimator.u(pairs[:, :3], pairs[:, 3:]))
    for member in range(3):
        again._state[f"keys.{member}"] = torch.tensor([-1])  # no code is negative
        again._state[f"counts.{member}"] = torch.tensor([9])
    assert (again.u(pairs[:, :3], pairs[:, 3:]) == 1).all()


def test_fitting_depends_on_its_seed_alone(counted):
    _, pairs = counted
    keys = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(keys))
        estimator = HashCount(bits=12, members=2, steps=20, seed=seed)
        estimator.fit(pairs[:, :3], pairs[:, 3:])
        keys.append(estimator._keys(pairs))
    assert (keys[0] == keys[1]).all() and not (keys[0] == keys[2]).all()


@pytest.mark.parametrize(
    ("settings", "complaint"), [({"bits": 0}, "hash-bits is 0"), ({"bits": 63}, "63"), ({"count_type": "MAX"}, "MAX")]
)
def test_settings_of_the_count_are_checked(settings, complaint):
    with pytest.raises(UserError, match=complaint):
        HashCount(**settings)


def test_every_fit_has_its_first_answer_checked(dynamics, offline):
    class Souring(UncertaintyEstimator):
        name, sign = "souring", 1

        def fit(self, observations, actions):
            self.sign = -1

        def u(self, observations, actions):
            return torch.full((len(actions), 1), float(self.sign))

    rows = offline.sample(3)
    dynamics.estimator = Souring()
    assert (dynamics.uncertainty(rows["observations"], rows["actions"]) == 1).all()
    dynamics.fit_estimator(rows)
    with pytest.raises(UserError, match="negative"):
        dynamics.uncertainty(rows["observations"], rows["actions"])


def test_mobile_leaves_an_estimators_tensor_alone(tiny, spec, dynamics, offline):
    held = torch.ones(1, 1)

    class Constant(UncertaintyEstimator):
        def u(self, observations, actions):
            return held.expand(len(actions), 1)

    dynamics.estimator = Constant()
    policy = build_policy(tiny(algo="mobile"), spec, dynamics, uncertainty_coef=-1.0)
    policy.learn({"real": offline.sample(3), "fake": offline.sample(4)})
    assert held.item() == 1


def test_data_that_are_not_finite_are_not_counted(counted):
    estimator, pairs = counted
    pairs[3, 2] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        estimator.fit(pairs[:, :3], pairs[:, 3:])


def test_what_is_missing_is_named(dynamics, offline):
    rows = offline.sample(3)
    pair = rows["observations"], rows["actions"]
    dynamics.estimator = make_estimator("mobile")
    with pytest.raises(UserError, match="'mobile' needs the target critics"):
        dynamics.uncertainty(*pair)
    dynamics.estimator = make_estimator("count")
    with pytest.raises(UserError, match="before it was fitted"):
        dynamics.uncertainty(*pair)


def test_estimators_are_refitted_on_all_data_after_stage_4(tiny, spec, offline, logger):
    config = tiny(uncertainty="count", hash_bits=8)
    dynamics = build_dynamics(config, spec)
    dynamics.train(offline.sample_all(), logger, max_epochs=1)
    before = int(dynamics.estimator.state_dict()["counts.0"].sum())
    finer = dynamics.copy_for_finetuning(1e-3)
    finer.finetune(offline.sample_all(), offline.sample_all(), logger, max_epochs=1, steps_per_epoch=2)
    assert before == len(offline) and int(dynamics.estimator.state_dict()["counts.0"].sum()) == before
    assert int(finer.estimator.state_dict()["counts.0"].sum()) == 2 * before


@pytest.fixture(scope="module")
def learned():
    """A dynamics and a policy that have learned a little of hopper-medium recipe data; pairs of each kind."""
    from conftest import MemoryLogger

    from doof_ext.config import Config, resolve

    torch.manual_seed(0)
    spec, dataset = get_spec("hopper-medium-v2"), generate(get_spec("hopper-medium-v2"), 20_000, seed=0, processes=1)
    settings = dict(
        task="hopper-medium-v2",
        preset="smoke",
        dynamics_hidden_dims=(200, 200),
        wandb="off",
        dynamics_weight_decay=(1e-5, 1e-5, 1e-5),
        hidden_dims=(200, 200),
    )
    config = resolve(Config(**settings), set(settings))
    offline = TensorReplayBuffer.from_dataset(dataset.transitions())
    dynamics = build_dynamics(config, spec)
    dynamics.train(offline.sample_all(), MemoryLogger(), max_epochs=10)
    policy = build_policy(config, spec, dynamics, uncertainty_coef=-5.0)
    for _ in range(600):
        policy.learn(offline.sample(256))
    pairs = pairs_of_each_kind(make_env(spec), dataset, count=1000)
    return config, dynamics, policy, pairs, offline


@pytest.mark.parametrize("name", ["aleatoric", "pairwise-diff", "ensemble-std", "mobile", "count"])
def test_u_is_no_larger_on_the_data_than_beside_it_and_greatest_far_from_it(learned, name):
    config, dynamics, policy, pairs, offline = learned
    dynamics.estimator = make_estimator(name, config)
    dynamics.fit_estimator(offline.sample_all())
    found = compare(dynamics, policy, pairs)
    in_data, random_action, far = (found["mean_u"][kind] for kind in KINDS)
    assert 0 < in_data < 1.02 * random_action < far, found  # aleatoric hardly tells the first two apart
    assert found["spearman"] > 0.2, found  # ten standard errors of 3 000 pairs


@pytest.mark.slow
def test_a_million_pairs_are_counted_in_half_a_minute():
    pairs = torch.randn(1_000_000, 14)
    estimator = HashCount()
    started = time.time()
    estimator.fit(pairs[:, :11], pairs[:, 11:])
    assert time.time() - started < 30
