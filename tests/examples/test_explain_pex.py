"""tools/explain_pex.py: each policy by itself, and who is chosen, against the agents' own actions."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from conftest import ROOT

from doof_ext.baselines.run import run


@pytest.fixture(scope="module")
def tool():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        spec = importlib.util.spec_from_file_location("explain_pex", ROOT / "tools" / "explain_pex.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def finished(baseline, tmp_path_factory):
    return run(baseline("pex", logdir=str(tmp_path_factory.mktemp("log"))))[1]


def test_each_policy_is_scored_by_itself(tool, finished, tmp_path, capsys):
    assert tool.main([finished, "--episodes", "2", "--json", str(tmp_path / "found.json")]) == 0
    found, told = json.loads((tmp_path / "found.json").read_text()), capsys.readouterr().out
    assert list(found) == list(tool.STAGES)
    env, agents = tool.load(finished)
    for when, agent in agents.items():
        assert agent.expanded
        for name, policy in {"frozen policy": agent.offline_policy, "new policy": agent.policy}.items():
            episodes = tool.episodes_of(tool.Alone(agent, policy), env, 2)
            obs = torch.as_tensor(np.concatenate([observations for observations, _, _ in episodes]))
            actions = torch.as_tensor(np.concatenate([actions for _, actions, _ in episodes]))
            with torch.no_grad():
                torch.testing.assert_close(actions, policy.act(agent.normalizer(obs), True))  # the bounds are 1
            assert found[when][name]["length"] == len(obs) / 2
            assert f"{when}, {name}" in told


@pytest.mark.parametrize(("kind", "chosen"), [("frozen", 0.0), ("new", 1.0)])
def test_a_policy_that_the_critics_prefer_everywhere_is_the_choice(tool, finished, kind, chosen):
    """The critics are made to value the action's first number, of which one policy takes the most."""
    env, agents = tool.load(finished)
    agent = next(iter(agents.values()))
    most, least = (agent.offline_policy, agent.policy) if kind == "frozen" else (agent.policy, agent.offline_policy)
    with torch.no_grad():
        for policy, sign in ((most, 1), (least, -1)):
            policy.mean[-1].weight.zero_()
            policy.mean[-1].bias.fill_(sign)
    agent.critics.forward = lambda obs, actions: actions[None, :, :1]
    of = tool.of_episodes(agent, agent, env, 2)
    alone = tool.of_episodes(agent, tool.Alone(agent, most), env, 2)
    assert of["new_valued_higher"] == chosen and of == alone
    values = of["value_of_new"], of["value_of_frozen"]
    assert sorted(values) == pytest.approx([-np.tanh(1), np.tanh(1)]) and (values[0] > values[1]) == bool(chosen)


def test_before_the_online_steps_the_new_policy_is_another_than_the_frozen(tool, finished):
    _, agents = tool.load(finished)
    frozen = [agent.offline_policy.mean[0].weight for agent in agents.values()]
    assert all(torch.equal(weight, frozen[0]) for weight in frozen)
    assert not any(torch.equal(agent.policy.mean[0].weight, frozen[0]) for agent in agents.values())


def test_another_run_is_one_line(tool, tmp_path, capsys):
    assert tool.main([str(tmp_path)]) == 2
    assert "is no run directory" in capsys.readouterr().err
