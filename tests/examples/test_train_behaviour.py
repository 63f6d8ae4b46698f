"""run_example/train_behaviour.py: which policies become recipes, and what they are compared by."""

import importlib.util
import json

import numpy as np
import pytest
from conftest import ROOT
from safetensors import safe_open
from safetensors.numpy import load_file

from doof_ext.data.behaviour import Behaviour
from doof_ext.data.d4rl_statistics import STATISTICS
from doof_ext.tasks import make_env

_spec = importlib.util.spec_from_file_location("train_behaviour", ROOT / "run_example" / "train_behaviour.py")
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)


def _weights(behaviour):
    layers = {f"hidden.{i}": layer for i, layer in enumerate(behaviour._hidden)}
    layers |= {"mean": behaviour._mean, "log_std": behaviour._log_std}
    return {
        f"{name}.{part}": array
        for name, layer in layers.items()
        for part, array in zip(("weight", "bias"), layer, strict=True)
    }


@pytest.fixture
def histories(tmp_path):
    """Two runs of hopper's: policies that get better, the last of them medium itself, and two copies of the first."""
    env, policies = make_env("hopper-medium-v2", seed=0), Behaviour.shipped("hopper-replay")[0:24:10]
    policies[2:] = Behaviour.shipped("hopper-medium")
    for run, behaviours in (("a", policies), ("b", policies[:1] * 2)):
        (tmp_path / run).mkdir()
        for number, behaviour in enumerate(behaviours, 1):
            rng = np.random.default_rng(number)
            episodes = script.play(behaviour, env, 3, rng)
            metadata = {"domain": "hopper", "seed": ord(run), "steps": 1000 * number, "lr": 3e-4, "batch_size": 256}
            measured = {"returns": episodes.returns.tolist(), "lengths": episodes.lengths.tolist()}
            measured["observation_std"] = episodes.observation_std.tolist()
            path = tmp_path / run / f"policy-{number:07d}.safetensors"
            script.write_behaviour(path, _weights(behaviour), metadata | {"physics": "d4rl"} | measured)
    env.close()
    return tmp_path


def _about(path):
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["behaviour"])


def test_episodes_are_measured_as_they_were():
    env, behaviour = make_env("hopper-medium-v2", seed=3), Behaviour.shipped("hopper-replay")[0]
    episodes = script.play(behaviour, env, 2, np.random.default_rng(5))
    again, rng, rows, returns = make_env("hopper-medium-v2", seed=3), np.random.default_rng(5), [], []
    for _ in range(2):
        obs, done, total = again.reset(), False, 0.0
        while not done:
            rows.append(obs)
            obs, reward, done, _ = again.step(behaviour.act(obs, rng))
            total += reward
        returns.append(total)
    assert episodes.returns.tolist() == returns and episodes.lengths.sum() == len(rows)
    assert episodes.observation_std == pytest.approx(np.array(rows).std(0))


def test_a_narrow_column_counts_as_a_wrong_return_does():
    d4rl = STATISTICS["hopper-medium-v2"]
    returns = d4rl.return_mean + d4rl.return_std * np.array([-1.0, 1.0])
    same = script.Episodes(returns, np.array([d4rl.length_mean]), d4rl.observation_std)
    assert same.mismatch(d4rl) == pytest.approx(0, abs=1e-9)
    narrow = script.Episodes(same.returns, same.lengths, d4rl.observation_std * np.exp([-2.0] + [0.0] * 10))
    assert narrow.mismatch(d4rl) == pytest.approx(2 / 11)
    poor = script.Episodes(same.returns - 0.1 * d4rl.return_mean, same.lengths, d4rl.observation_std)
    assert poor.mismatch(d4rl) == pytest.approx(0.1)


def test_what_is_written_of_histories(histories, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(script, "CANDIDATE_EPISODES", 10)
    out = tmp_path / "out"
    out.mkdir()
    command = ["--select", *(str(histories / run) for run in "ab"), "--replay-policies", "2", "--out", str(out)]
    script.main(command)
    capsys.readouterr()
    medium, replay, best = (_about(out / f"hopper-{kind}.safetensors") for kind in ("medium", "replay", "best"))
    for chosen in (medium, replay, best):
        assert (chosen["seed"], chosen["steps"]) == (ord("a"), 3000)
    assert medium["episodes"] == best["episodes"] == 10
    assert best["return"] == pytest.approx(STATISTICS["hopper-medium-v2"].return_mean, rel=0.25)
    kept = [load_file(histories / "a" / f"policy-000000{number}.safetensors") for number in (1, 3)]
    stacked = load_file(out / "hopper-replay.safetensors")
    for name, arrays in stacked.items():
        np.testing.assert_array_equal(arrays, np.stack([weights[name] for weights in kept]))
    before = (out / "hopper-best.safetensors").read_bytes()
    script.main(command)  # what is no better than the file's policy is not written over it
    assert (out / "hopper-best.safetensors").read_bytes() == before


def test_a_history_of_an_earlier_version_is_refused_in_one_line(histories):
    path = histories / "b" / "policy-0000002.safetensors"
    metadata = _about(path)
    del metadata["observation_std"]
    script.write_behaviour(path, load_file(path), metadata)
    with pytest.raises(SystemExit, match=r"policy-0000002\.safetensors does not say how far observations spread"):
        script.main(["--select", str(histories / "a"), str(histories / "b"), "--out", str(histories)])
