"""The faults of the kit that the embedded equivalent must not have, and its plain semantics."""

import csv
import io
import json
import os

import numpy as np
import pytest
import torch

from doof_ext.kit import embedded
from doof_ext.kit.embedded.termination_fns import get_termination_fn


def _transitions(count, start=0):
    values = np.arange(start, start + count, dtype=np.float32)[:, None]
    return dict(
        observations=values, next_observations=values + 0.5, actions=-values, rewards=values, terminals=values * 0
    )


def _buffer(size):
    return embedded.ReplayBuffer(size, (1,), np.float32, 1, np.float32)


def test_a_loaded_buffer_keeps_its_capacity():
    buffer = _buffer(6)
    buffer.load_dataset(_transitions(4))
    buffer.add(np.array([9.0]), np.array([9.5]), np.array([-9.0]), 9.0, False)
    assert buffer.sample_all()["observations"].ravel().tolist() == [0, 1, 2, 3, 9]


def test_more_than_the_capacity_keeps_the_newest():
    buffer = _buffer(3)
    data = _transitions(7)
    buffer.add_batch(*(data[n] for n in ("observations", "next_observations", "actions", "rewards", "terminals")))
    assert sorted(buffer.sample_all()["rewards"].ravel().tolist()) == [4, 5, 6]


@pytest.mark.parametrize("make", [lambda x: x, torch.as_tensor])
def test_termination_rules(make):
    def hopper(**changes):
        obs = np.zeros((1, 11), np.float32)
        obs[0, 0] = 1.2
        for index, value in changes.items():
            obs[0, int(index[1:])] = value
        obs = make(obs)
        return bool(get_termination_fn("hopper-medium-v2")(obs, obs[:, :3], obs)[0, 0])

    assert not hopper()
    assert hopper(_5=-5000.0), "the kit's misplaced parenthesis lets this live"
    assert hopper(_5=float("nan")) and hopper(_0=0.7) and hopper(_1=0.2) and hopper(_0=float("inf"))
    walker = make(np.full((1, 17), 0.9, np.float32))
    assert not get_termination_fn("walker2d-random-v2")(walker, walker, walker)[0, 0]
    assert get_termination_fn("walker2d-random-v2")(walker, walker, walker + 1.2)[0, 0]


def test_an_unknown_task_has_no_termination_rule():
    with pytest.raises(ValueError, match="antmaze"):
        get_termination_fn("antmaze-umaze-v0")


def test_a_learning_step_follows_the_written_out_equations():
    """SAC's critic target and losses by hand, for a linear critic and a fixed temperature."""
    torch.manual_seed(0)
    backbone = embedded.MLP(2, [4])
    actor = embedded.ActorProb(backbone, embedded.TanhDiagGaussian(4, 1, unbounded=True, conditioned_sigma=True))
    critics = [embedded.Critic(embedded.MLP(3, [4])) for _ in range(2)]
    optims = [torch.optim.Adam(net.parameters(), lr=1e-3) for net in (actor, *critics)]
    policy = embedded.SACPolicy(actor, *critics, *optims, gamma=0.9, alpha=0.3)
    batch = {
        "observations": torch.randn(5, 2),
        "actions": torch.rand(5, 1),
        "next_observations": torch.randn(5, 2),
        "rewards": torch.randn(5, 1),
        "terminals": torch.tensor([[0.0], [1], [0], [0], [1]]),
    }
    torch.manual_seed(7)
    with torch.no_grad():
        distribution = actor(batch["next_observations"])
        action, raw = distribution.rsample()
        log_prob = distribution.log_prob(action, raw)
        expected = 0.0
        for i in range(5):
            row = [batch["next_observations"][i : i + 1], action[i : i + 1]]
            soft = min(float(critic(*row)) for critic in critics) - 0.3 * float(log_prob[i])
            target = float(batch["rewards"][i]) + 0.9 * (1 - float(batch["terminals"][i])) * soft
            q = float(critics[0](batch["observations"][i : i + 1], batch["actions"][i : i + 1]))
            expected += (q - target) ** 2 / 5
    torch.manual_seed(7)
    assert policy.learn(batch)["loss/critic1"] == pytest.approx(expected, rel=1e-5)


def test_tanh_gaussian_log_prob_is_the_change_of_variables():
    head = embedded.TanhDiagGaussian(3, 2, unbounded=True, conditioned_sigma=True)
    distribution = head(torch.randn(4, 3))
    squashed, raw = distribution.rsample()
    gaussian = torch.distributions.Normal(distribution._gaussian.mean, distribution._gaussian.stddev)
    transform = torch.distributions.transforms.TanhTransform()
    expected = (gaussian.log_prob(raw) - transform.log_abs_det_jacobian(raw, squashed)).sum(-1, keepdim=True)
    torch.testing.assert_close(distribution.log_prob(squashed, raw), expected, atol=1e-3, rtol=1e-3)


def test_two_runs_of_one_second_get_two_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {embedded.make_log_dirs("t", "a", 0, {"x": 1}, ["x"]) for _ in range(3)}
    assert len(folders) == 3


def test_the_logger_grows_its_csv_and_keeps_the_callers_dict(tmp_path):
    logger = embedded.Logger(str(tmp_path), {"progress": "csv", "console": "stdout"})
    settings = {"epoch": 6}
    logger.log_hyperparameters(settings)
    logger.log_hyperparameters(settings)
    assert settings == {"epoch": 6}
    assert json.loads((tmp_path / "record" / "hyper_param.json").read_text()) == {"epoch": 6}
    logger.logkv("a", 1)
    logger.set_timestep(10)
    logger.dumpkvs()
    logger.logkv_mean("b", 1)
    logger.logkv_mean("b", 3)
    logger.set_timestep(20)
    logger.dumpkvs()
    logger.close()
    with open(os.path.join(tmp_path, "record", "progress.csv")) as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"timestep": "10", "a": "1", "b": ""}, {"timestep": "20", "a": "", "b": "2.0"}]


def test_a_console_without_utf_8_gets_a_replacement_and_the_file_the_text(tmp_path, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", console)
    logger = embedded.Logger(str(tmp_path), {"console": "stdout"})
    logger.log("score 3.4 ± 0.1")
    logger.close()
    assert console.buffer.getvalue() == b"score 3.4 ? 0.1\n"
    assert (tmp_path / "record" / "console.txt").read_text(encoding="utf-8") == "score 3.4 ± 0.1\n"
