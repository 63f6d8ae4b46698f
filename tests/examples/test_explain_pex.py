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
        of = found[when]["new policy"]
        episodes = tool.episodes_of(tool.Alone(agent, agent.policy), env, 2)
        obs = torch.as_tensor(np.concatenate([observations for observations, _, _ in episodes]))
        actions = torch.as_tensor(np.concatenate([actions for _, actions, _ in episodes]))
        with torch.no_grad():
            known = agent.normalizer(obs)
            torch.testing.assert_close(actions, agent.policy.act(known, True))  # the hopper's bounds are 1
            new = agent.critics(known, actions).amin(0)
            frozen = agent.critics(known, agent.offline_policy.act(known, True)).amin(0)
        share = (new > frozen).float().mean().item()
        assert [of["length"], of["value_of_new"], of["new_valued_higher"]] == pytest.approx(
            [len(obs) / 2, new.mean().item(), share], rel=1e-5
        )
        line = f"{when + ', new policy':<42}{of['score']:>8.1f}{of['length']:>8.0f}{f'{share:.0%}':>19}"
        assert line in told


def test_before_the_online_steps_the_new_policy_is_another_than_the_frozen(tool, finished):
    _, agents = tool.load(finished)
    frozen = [agent.offline_policy.mean[0].weight for agent in agents.values()]
    assert all(torch.equal(weight, frozen[0]) for weight in frozen)
    assert not any(torch.equal(agent.policy.mean[0].weight, frozen[0]) for agent in agents.values())


def test_another_run_is_one_line(tool, tmp_path, capsys):
    assert tool.main([str(tmp_path)]) == 2
    assert "is no run directory" in capsys.readouterr().err
