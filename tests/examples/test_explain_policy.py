"""tools/explain_policy.py: what critics and ensemble say on the policy's way, against loops."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from conftest import ROOT

_spec = importlib.util.spec_from_file_location("explain_policy", ROOT / "tools" / "explain_policy.py")
tool = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tool)


def test_a_stopped_run_is_explained(interrupted, tmp_path, capsys):
    path = tmp_path / "found.json"
    assert tool.main([str(interrupted), "--episodes", "3", "--json", str(path)]) == 0
    found, told = json.loads(path.read_text()), capsys.readouterr().out
    _, env, dataset, dynamics, policy, epoch = tool.load(str(interrupted))
    episodes = tool.episodes_of(policy, env, 3)
    assert found["length"] == pytest.approx(np.mean([len(obs) for obs, _, _ in episodes]))
    assert epoch == found["epoch"] == 2
    assert f"epoch 2: score {found['score']:.1f}, {found['length']:.0f} steps" in told
    last = [(obs[-1], actions[-1]) for obs, actions, _ in episodes]
    values, us, distances = [], [], []
    for obs, action in last:
        pair = torch.as_tensor(obs)[None], torch.as_tensor(action)[None]
        with torch.no_grad():
            values.append(min(critic(*pair).item() for critic in policy.all_critics))
        us.append(dynamics.uncertainty(*pair, policy).item())
        spread = dataset.observations.std(0)
        distances.append(min(np.linalg.norm((obs - row) / spread) for row in dataset.observations))
    end = found["before_end"]["0"]
    assert end["pairs"] == 3
    assert [end["value"], end["u"]] == pytest.approx([np.mean(values), np.mean(us)], rel=1e-4)
    assert end["distance"] == pytest.approx(np.median(distances), rel=1e-3)
    start, falls = 0, []  # D's episodes that end in a terminal: first and last row
    for row in range(len(dataset)):
        if dataset.terminals[row] or dataset.timeouts[row]:
            falls += [(start, row)] if dataset.terminals[row] else []
            start = row + 1
    for before, of in found["before_end_of_data"].items():
        assert of["pairs"] == sum(last - int(before) >= first for first, last in falls) > 0
    assert len(falls) > found["before_end_of_data"]["20"]["pairs"]  # an episode may be shorter


def test_what_cannot_be_explained_is_one_line(tmp_path, capsys):
    assert tool.main([str(tmp_path)]) == 2
    assert "is no run directory" in capsys.readouterr().err
