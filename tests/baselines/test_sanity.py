"""Whether the methods do what they are for, on recipe data at a small budget: minutes, so marked as slow."""

import pytest
import torch

from doof_ext.baselines.replay import Replay
from doof_ext.baselines.run import build_agent
from doof_ext.baselines.spot import SPOT
from doof_ext.config import BaselineConfig, resolve
from doof_ext.data.recipe import generate
from doof_ext.tasks import get_spec, make_env

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def medium():
    """hopper-medium's recipe, 100 000 steps, and its environment."""
    env = make_env("hopper-medium-v2", seed=0)
    yield generate(get_spec("hopper-medium-v2"), steps=100_000, seed=0), env
    env.close()


def _trained(medium, algo, steps, prepare=0, **settings):
    data, env = medium
    settings = {"algo": algo, "task": "hopper-medium-v2", "source": "recipe", **settings}
    config = resolve(BaselineConfig(**settings), set(settings))
    replay = Replay(data, env.spec, 10, config.gamma, bool(config.normalize_rewards))
    agent = build_agent(config, env.spec, data)
    for name, learn, _ in agent.preparations():
        for _ in range(prepare):
            learn(agent.draw(replay))
    agent.begin_pretraining(steps)
    losses = [agent.learn(agent.draw(replay)) for _ in range(steps)]
    return agent, replay, losses


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
    first, last = (sum(float(one["loss/reward"]) for one in part) for part in (losses[:200], losses[-200:]))
    assert last < 0.5 * first
