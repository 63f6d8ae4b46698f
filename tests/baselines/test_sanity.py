"""Whether the methods do what they are for, on recipe data or a pendulum at a small budget: minutes, so slow."""

import numpy as np
import pytest
import torch

from doof_ext.baselines.fowm import FOWM
from doof_ext.baselines.replay import Replay
from doof_ext.baselines.run import build_agent
from doof_ext.baselines.spot import SPOT
from doof_ext.config import BaselineConfig, resolve
from doof_ext.data.dataset import Dataset
from doof_ext.data.recipe import generate
from doof_ext.evaluation.returns import evaluate
from doof_ext.tasks import TaskSpec, get_spec, make_env
from doof_ext.tasks.interaction import reset_env, step_env

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def medium():
    """hopper-medium's recipe, 200 000 steps, its environment, and the settings that name them."""
    env = make_env("hopper-medium-v2", seed=0)
    data = generate(get_spec("hopper-medium-v2"), steps=200_000, seed=0)
    yield data, env, {"task": "hopper-medium-v2", "source": "recipe"}
    env.close()


@pytest.fixture
def bfloat16():
    """Products in bfloat16 where the processor has units for them, which halves the minutes."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def pendulum():
    """100 episodes of uniform torques on Gymnasium's pendulum, as above."""
    env, rng, rows = make_env(TaskSpec("own", "Pendulum-v1", "never"), seed=0), np.random.default_rng(0), []
    for _ in range(100):
        obs = reset_env(env)
        for step in range(200):
            action = rng.uniform(env.spec.action_low, env.spec.action_high).astype(np.float32)
            next_obs, reward, _, _ = step_env(env, action)
            rows.append((obs, action, next_obs, np.float32(reward), False, step == 199))
            obs = next_obs
    names = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")
    data = Dataset(**{name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})
    yield data, env, {"env_id": "Pendulum-v1"}
    env.close()


def _trained(task, algo, steps, prepare=0, **settings):
    data, env, names = task
    settings = {"algo": algo, **names, **settings}
    config = resolve(BaselineConfig(**settings), set(settings))
    replay = Replay(data, env.spec, 10, config.gamma, bool(config.normalize_rewards))
    agent = build_agent(config, env.spec, data)
    for name, learn, _ in agent.preparations():
        for _ in range(prepare):
            learn(agent.draw(replay))
    agent.begin_pretraining(steps)
    losses = [{name: float(loss) for name, loss in agent.learn(agent.draw(replay)).items()} for _ in range(steps)]
    return agent, replay, losses


@pytest.fixture(scope="module")
def cloning(medium):
    """The score of behaviour cloning, IQL's regression with all weights 1."""
    agent, _, _ = _trained(medium, "iql", 20_000, advantage_temperature=0.0)
    return evaluate(agent, medium[1], 20).mean


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize(("algo", "steps", "settings"), [("iql", 100_000, {}), ("cql", 2000, {"sampled_actions": 2})])
def test_values_are_worth_more_than_cloning(medium, cloning, algo, steps, settings):
    """CQL early on: from 3 000 steps on its score jumps, as CORL's does (docs/baselines.md)."""
    agent, _, _ = _trained(medium, algo, steps, **settings)
    assert evaluate(agent, medium[1], 20).mean > cloning + 5


def test_spots_actions_are_denser_than_td3s(medium):
    """With λ = 0 SPOT is TD3; the same density judges both."""
    spot, replay, _ = _trained(medium, "spot", 2000, prepare=1500)
    td3, _, _ = _trained(medium, "spot", 2000, prepare=1500, density_weight=0.0)
    assert isinstance(spot, SPOT) and isinstance(td3, SPOT)
    obs = spot.normalizer(replay.draw(2000)["observations"])
    torch.manual_seed(0)
    with torch.no_grad():
        of_spot, of_td3 = (spot.density.negative_evidence(obs, agent.act(obs, True)).mean() for agent in (spot, td3))
    assert of_spot < of_td3


def test_fowms_model_learns(medium):
    _, _, losses = _trained(medium, "fowm", 3000, hidden_dims=(128, 128))
    first, last = (np.mean([one["loss/reward"] for one in part]) for part in (losses[:200], losses[-200:]))
    assert last < 0.5 * first


class _Prior:
    """FOWM's policy without its planner."""

    def __init__(self, agent):
        self.agent = agent

    @torch.no_grad()
    def select_action(self, obs, deterministic=True):
        normalized = self.agent.normalizer(torch.as_tensor(obs, dtype=torch.float32))
        return (self.agent.prior(normalized) * self.agent.action_high).numpy()


def test_fowms_plans_are_better_than_its_prior_policy(pendulum):
    """From random torques alone the policy, a regression on them, learns little, and the planner swings it up."""
    agent, _, _ = _trained(pendulum, "fowm", 4000, hidden_dims=(64, 64), batch_size=64)
    assert isinstance(agent, FOWM)
    planned, unplanned = (np.mean(evaluate(policy, pendulum[1], 5).returns) for policy in (agent, _Prior(agent)))
    assert planned > unplanned + 500 and planned > -600
