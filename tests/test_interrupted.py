"""Runs that end early, and go on: signals, divergence, environments that fail, full disks, damaged files."""

import dataclasses
import errno
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from doof_ext import files, pipeline, record
from doof_ext.checkpoint import CheckpointStore
from doof_ext.config import Config, config_of, parse_args
from doof_ext.data.dataset import read_dataset
from doof_ext.errors import DivergenceError, EnvironmentFailedError, Interrupted, RunStoppedError, UserError
from doof_ext.resume import differences
from doof_ext.state import RunState
from doof_ext.tasks.gymnasium_env import GymnasiumTaskEnv
from doof_ext.tasks.locomotion import LocomotionTaskEnv
from doof_ext.uncertainty.count import HashCount


@pytest.fixture
def settings(tiny, tmp_path):
    """A factory of tiny runs' settings, each in the test's log directory."""

    def make(**overrides):
        return tiny(**dict(source="recipe", dataset_steps=400, logdir=str(tmp_path), checkpoint_every=1) | overrides)

    return make


def _resumed(directory, **overrides):
    return config_of({"resume": str(directory), **overrides})


def _weights(directory):
    """The networks that a run ends with."""
    return {path: torch.load(Path(directory) / "model" / path, weights_only=True)
            for path in ("policy.pth", "dynamics.pth")}  # fmt: skip


def _assert_same(directory, other):
    for path, state in _weights(directory).items():
        for name, tensor in _weights(other)[path].items():
            assert torch.equal(tensor, state[name]), (path, name)
    one, two = (read_dataset(Path(run) / "result" / "online_buffer.hdf5") for run in (directory, other))
    assert one.sha256() == two.sha256()


def _interrupt_at(monkeypatch, number):
    """Has SIGINT come at the run's step ``number``, as if the handler had noted it."""
    count = 0
    step_ended = RunState.step_ended

    def spied(self):
        nonlocal count
        count += 1
        if count == number:
            self._interruption.signal = signal.SIGINT
        step_ended(self)

    monkeypatch.setattr(RunState, "step_ended", spied)
    return lambda: count


@pytest.fixture(params=[("mopo", "aleatoric"), ("mobile", "count")], ids="-".join)
def kind(request):
    return dict(zip(("algo", "uncertainty"), request.param, strict=True))


def test_two_runs_of_one_seed_are_the_same_and_so_is_one_interrupted_anywhere(settings, kind, monkeypatch):
    quick = classmethod(lambda cls, config: cls(config.hash_bits, members=2, steps=5, seed=config.seed))
    monkeypatch.setattr(HashCount, "from_config", quick)
    config = settings(**kind, rounds=2, hash_bits=8, num_samples=2)
    _, whole = pipeline.run(config)
    with monkeypatch.context() as patch:
        steps = _interrupt_at(patch, 0)
        _, again = pipeline.run(config)
    _assert_same(whole, again)
    total, directory, todo = steps(), None, config
    for number in sorted(random.Random(3).sample(range(1, total), 5)):
        with monkeypatch.context() as patch:
            _interrupt_at(patch, max(1, number // 3))
            try:
                _, directory = pipeline.run(todo)
            except Interrupted as error:
                directory = error.run_directory
        todo = _resumed(directory)
    pipeline.run(todo)
    _assert_same(whole, directory)


@pytest.mark.parametrize("place", ["pretrain.1/policy", "pretrain.1/fake_pairs", "explore.1/policy"])
def test_a_stop_where_a_checkpoint_would_be_written_can_go_on(settings, monkeypatch, place):
    _, whole = pipeline.run(settings(checkpoint_every=2))
    save = CheckpointStore.save

    def fails(self, tree):
        if tree.get("last") == place:
            raise RunStoppedError("no room")
        return save(self, tree)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "save", fails)
        with pytest.raises(RunStoppedError) as caught:
            pipeline.run(settings(checkpoint_every=2))
    pipeline.run(_resumed(caught.value.run_directory))
    _assert_same(whole, caught.value.run_directory)
    assert not (Path(caught.value.run_directory) / "record" / "failure.txt").exists()


def test_another_seed_is_another_run(settings):
    runs = [pipeline.run(settings(seed=seed))[1] for seed in (1, 2)]
    assert not torch.equal(*(_weights(run)["policy.pth"]["actor.dist_net.mu.weight"] for run in runs))


def test_a_finished_run_has_nothing_left_to_do(settings, capsys):
    summary, directory = pipeline.run(settings())
    again, _ = pipeline.run(_resumed(directory))
    assert again == json.loads(json.dumps(summary)) and "is complete" in capsys.readouterr().err


# Signals --------------------------------------------------------------------------------------------------------


def _start(*argv):
    command = [sys.executable, str(ROOT / "run_example" / "run_doof.py"), *map(str, argv)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes)


@pytest.mark.parametrize(
    ("number", "after"), [(signal.SIGINT, "1 pretrain policy 1/"), (signal.SIGTERM, "2 explore 1/1")]
)
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, number, after):
    process = _start("--preset", "smoke", "--source", "recipe", "--dataset-steps", 1000, "--wandb", "off",
                     "--logdir", tmp_path, "--online-steps", 5000)  # fmt: skip
    for line in process.stdout:
        if line.startswith(after):
            process.send_signal(number)
            break
    _, stderr = process.communicate()
    assert process.returncode == 128 + number
    (directory,) = tmp_path.glob("*/*/*")
    last = stderr.strip().splitlines()[-1]
    assert number.name in last and f"--resume '{directory}'" in last and "Traceback" not in stderr
    assert number.name in (directory / "record" / "failure.txt").read_text()
    assert not (directory / "result" / "summary.json").exists()


def test_a_second_signal_stops_at_once():
    code = ("import os, signal; from doof_ext.interruption import Interruption\n"
            "with Interruption().noted():\n"
            "    os.kill(os.getpid(), signal.SIGTERM); print('noted', flush=True)\n"
            "    os.kill(os.getpid(), signal.SIGTERM); print('ignored')")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "noted\n")


# Divergence -----------------------------------------------------------------------------------------------------


def _breaks_at(monkeypatch, owner, name, number, wrong):
    """Has call ``number`` of a method give ``wrong(what it would have given, the object)``."""
    count, function = 0, getattr(owner, name)

    def broken(self, *args, **kwargs):
        nonlocal count
        count += 1
        result = function(self, *args, **kwargs)
        return wrong(result, self) if count == number else result

    monkeypatch.setattr(owner, name, broken)


def _nan_weight(result, policy):
    policy._critics.flat[3] = float("nan")
    return result


@pytest.mark.parametrize(
    ("owner", "name", "number", "wrong", "message"),
    [
        ("doof_ext.policy.DOOFPolicy", "learn", 6, lambda r, _: r | {"loss/actor": torch.tensor(float("nan"))},
         "loss/actor is nan in epoch 2 of stage 1"),
        ("doof_ext.policy.DOOFPolicy", "learn", 6, _nan_weight, "in epoch 2 of stage 1"),
        ("doof_ext.policy.DOOFPolicy", "learn", 8, _nan_weight, "weight of the critic is not finite in epoch 2"),
        ("doof_ext.policy.DOOFPolicy", "rollout", 3, lambda r, _: (r[0] | {"rewards": r[0]["rewards"] / 0}, r[1]),
         "the model's rewards are not finite in epoch 2 of stage 1"),
        ("doof_ext.policy.DOOFPolicy", "select_action", 100, lambda r, _: r * np.nan, "does not fit the action space"),
        ("doof_ext.policy.DOOFPolicy", "select_action", 100, lambda r, _: r * 0 + 7, "does not fit the action space"),
        ("doof_ext.dynamics.DOOFDynamics", "_descend", 3, lambda r, _: r * float("inf"), "training loss is"),
    ],
)  # fmt: skip
def test_divergence_names_the_quantity_and_leaves_the_last_good_checkpoint(
    settings, monkeypatch, owner, name, number, wrong, message
):
    config = settings(epoch=3, dynamics_epochs=2, online_steps=20)
    _, whole = pipeline.run(config)
    module, _, cls = owner.rpartition(".")
    with monkeypatch.context() as patch:
        _breaks_at(patch, getattr(sys.modules[module], cls), name, number, wrong)
        with pytest.raises(DivergenceError, match=message) as caught:
            pipeline.run(config)
    assert "\n" not in str(caught.value)
    directory = caught.value.run_directory
    pipeline.run(_resumed(directory))
    _assert_same(whole, directory)


# Environments ---------------------------------------------------------------------------------------------------


def _failing(monkeypatch, number, broken):
    """The environment's step ``number`` of stage 3 gives what ``broken(its result)`` gives."""
    step, collect = LocomotionTaskEnv.step, pipeline.collect

    def collecting(*args, **kwargs):
        count = 0

        def fails(self, action):
            nonlocal count
            count += 1
            result = step(self, action)
            return broken(result) if count == number else result

        with monkeypatch.context() as patch:
            patch.setattr(LocomotionTaskEnv, "step", fails)
            return collect(*args, **kwargs)

    monkeypatch.setattr(pipeline, "collect", collecting)


def _raise(result):
    raise RuntimeError("motor 3 is hot\nand more")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (_raise, r"step failed \(RuntimeError: motor 3 is hot\)"),
        (lambda r: (r[0] * np.nan, *r[1:]), "not finite"),
        (lambda r: (r[0], float("inf"), *r[2:]), "not finite"),
    ],
)
def test_an_environment_that_fails_loses_no_step(settings, monkeypatch, broken, message):
    config = settings()
    _, whole = pipeline.run(config)
    with monkeypatch.context() as patch:
        _failing(patch, 31, broken)
        with pytest.raises(EnvironmentFailedError, match=message) as caught:
            pipeline.run(config)
    directory = Path(caught.value.run_directory)
    assert "\n" not in str(caught.value)
    assert "EnvironmentFailedError" in (directory / "record" / "failure.txt").read_text()
    taken, step = [], LocomotionTaskEnv.step
    with monkeypatch.context() as patch:
        patch.setattr(LocomotionTaskEnv, "step", lambda self, action: taken.append(self) or step(self, action))
        summary, _ = pipeline.run(_resumed(directory))
    assert summary["online_steps"] == 50
    _assert_same(whole, directory)
    collected = read_dataset(directory / "result" / "online_buffer.hdf5")
    assert len(collected) == 50


def test_where_a_world_cannot_be_restored_the_episode_is_cut_and_the_rest_is_taken(settings, monkeypatch):
    monkeypatch.setattr(LocomotionTaskEnv, "snapshot", GymnasiumTaskEnv.snapshot)
    with monkeypatch.context() as patch:
        _failing(patch, 6, _raise)
        with pytest.raises(EnvironmentFailedError) as caught:
            pipeline.run(settings())
    taken, collect = [], pipeline.collect

    def counting(config, policy, env, *args):
        step = env.step
        env.step = lambda action: taken.append(action) or step(action)
        collected = collect(config, policy, env, *args)
        del env.step
        return collected

    monkeypatch.setattr(pipeline, "collect", counting)
    pipeline.run(_resumed(caught.value.run_directory))
    online = read_dataset(Path(caught.value.run_directory) / "result" / "online_buffer.hdf5")
    assert len(taken) == 45 and len(online) == 50
    assert online.timeouts[4] and not online.terminals[4]
    np.testing.assert_array_equal(online.actions[5:], np.array(taken))


# Disks and directories ------------------------------------------------------------------------------------------


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(settings, tmp_path, monkeypatch):
    config = settings()
    _, whole = pipeline.run(config)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    train = pipeline.explore

    def fills(*args, **kwargs):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        return train(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "explore", fills)
        try:
            with pytest.raises(RunStoppedError, match="cannot be written") as caught:
                pipeline.run(config)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    pipeline.run(_resumed(caught.value.run_directory))
    _assert_same(whole, caught.value.run_directory)


@pytest.mark.parametrize("owner", ["doof_ext.files.publish", "doof_ext.data.dataset.os.fsync"])
def test_a_disk_that_is_full_while_results_are_written_is_one_line(settings, monkeypatch, owner):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    collect = pipeline.collect

    def then_full(*args):
        collected = collect(*args)
        monkeypatch.setattr(owner, full)
        return collected

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "collect", then_full)
        with pytest.raises(RunStoppedError, match="No space left") as caught:
            pipeline.run(settings())
    monkeypatch.undo()
    assert "\n" not in str(caught.value) and caught.value.run_directory


def test_weights_on_a_full_disk_raise_what_the_disk_said(tmp_path):
    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        files.publish(tmp_path / "a", lambda file: Full().write(b""))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            files.save_tensors(tmp_path / "policy.pth", {"weight": torch.zeros(1000, 1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_when_a_run_goes_on_is_one_line(interrupted, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(record.run_dir, "RunLogger", full)
    with pytest.raises(RunStoppedError, match="No space left") as caught:
        pipeline.run(_resumed(interrupted))
    assert caught.value.run_directory == str(interrupted)


def test_a_reader_that_is_gone_does_not_stop_a_run(tmp_path):
    """`run_doof.py … | tee`: tee dies of the same Ctrl-C."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, str(ROOT / "run_example" / "run_doof.py"), "--preset", "smoke", "--source", "recipe",
               "--dataset-steps", "400", "--wandb", "off", "--logdir", str(tmp_path)]  # fmt: skip
    done = subprocess.run(command, stdout=writing, stderr=writing, env=os.environ | {"PYTHONPATH": str(ROOT)})
    os.close(writing)
    assert done.returncode in (0, 120)  # 120: Python could not flush the console
    assert list(tmp_path.glob("*/*/*/result/summary.json"))


def test_a_lost_directory_is_one_line(settings, monkeypatch):
    collect = pipeline.collect

    def lost(config, policy, env, logger, *args):
        shutil.rmtree(Path(logger.checkpoint_dir).parent)
        return collect(config, policy, env, logger, *args)

    monkeypatch.setattr(pipeline, "collect", lost)
    with pytest.raises(RunStoppedError, match="cannot be written") as caught:
        pipeline.run(settings())
    assert "\n" not in str(caught.value)


def test_a_second_process_is_refused(settings, monkeypatch):
    refused = []
    collect = pipeline.collect

    def meanwhile(*args, **kwargs):
        directory = Path(args[3].checkpoint_dir).parent
        code = "import sys; from doof_ext.run_dir import lock; lock(sys.argv[1])"
        done = subprocess.run([sys.executable, "-c", code, directory], cwd=ROOT, capture_output=True, text=True)
        refused.append((done.returncode, done.stderr))
        return collect(*args, **kwargs)

    monkeypatch.setattr(pipeline, "collect", meanwhile)
    _, directory = pipeline.run(settings())
    ((code, stderr),) = refused
    assert code == 1 and "another process is at work in" in stderr
    record.run_dir.lock(directory).lock.release()  # free again


# What may go on -------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(settings, monkeypatch):
    """The directory of a run that was stopped in stage 2."""
    explore = pipeline.explore

    def stopped(*args, **kwargs):
        args[-1]._interruption.signal = signal.SIGTERM
        return explore(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "explore", stopped)
        with pytest.raises(Interrupted) as caught:
            pipeline.run(settings())
    return Path(caught.value.run_directory)


def test_other_settings_are_refused_with_a_list(interrupted):
    with pytest.raises(UserError, match="--epoch is 9, the run's is 2; --exploration-ratio is "):
        parse_args("", ["--resume", str(interrupted), "--epoch", "9", "--exploration-ratio", "0.5"])
    config = parse_args("", ["--resume", str(interrupted), "--epoch", "2", "--threads", "1", "--wandb", "off"])
    with pytest.raises(UserError, match="--gamma is "):
        pipeline.run(dataclasses.replace(config, gamma=0.5))


def test_without_a_directory_the_newest_unfinished_run_of_the_same_settings_goes_on(interrupted, settings, tmp_path):
    _, finished = pipeline.run(settings())
    given = dataclasses.asdict(settings()) | {"resume": ""}
    assert config_of(given).resume == str(interrupted) != finished
    with pytest.raises(UserError, match="no unfinished run of these settings"):
        config_of(given | {"gamma": 0.5})


def test_other_data_are_refused(interrupted, monkeypatch):
    load = pipeline.data.load
    monkeypatch.setattr(pipeline.data, "load", lambda source, spec, steps, seed, download: load(
        source, spec, steps, seed + 1, download))  # fmt: skip
    with pytest.raises(UserError, match="other dataset"):
        pipeline.run(_resumed(interrupted))


def test_settings_that_were_changed_behind_its_back_are_refused(interrupted):
    path = interrupted / "record" / "hyper_param.json"
    path.write_text(path.read_text().replace('"gamma": 0.99', '"gamma": 0.5'))
    with pytest.raises(UserError, match="other settings"):
        pipeline.run(_resumed(interrupted))


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_settings_that_are_damaged_are_refused_or_the_same(interrupted, damage):
    path, rng = interrupted / "record" / "hyper_param.json", random.Random(0)
    whole, recorded = path.read_bytes(), config_of({"resume": str(interrupted)})
    for _ in range(50):
        path.write_bytes(_damaged(whole, damage, rng))
        try:
            config = config_of({"resume": str(interrupted)})
        except UserError as error:
            assert "\n" not in str(error)
            continue
        if differences(dataclasses.asdict(config), dataclasses.asdict(recorded)):  # the checkpoint knows better
            with pytest.raises(UserError):
                pipeline.run(config)


def _damaged(whole, damage, rng):
    place = rng.randrange(len(whole))
    if damage == "truncated":
        return whole[:place]
    return whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :]


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(settings, interrupted, damage, capsys):
    _, whole = pipeline.run(settings())
    *_, newest = sorted(interrupted.glob("checkpoint/state-*"))
    path = newest / "state.safetensors"
    path.write_bytes(_damaged(path.read_bytes(), damage, random.Random(1)))
    pipeline.run(_resumed(interrupted))
    assert f"{newest.name} is damaged" in capsys.readouterr().out
    _assert_same(whole, interrupted)


def test_where_no_checkpoint_is_whole_the_run_is_refused(interrupted):
    for path in interrupted.glob("checkpoint/state-*/manifest.json"):
        path.write_text("{}")
    with pytest.raises(UserError, match="cannot be resumed"):
        pipeline.run(_resumed(interrupted))


def test_a_run_killed_before_its_first_checkpoint_starts_anew_in_its_directory(settings, interrupted):
    _, whole = pipeline.run(settings())
    for path in interrupted.glob("checkpoint/state-*"):
        shutil.rmtree(path)
    pipeline.run(_resumed(interrupted))
    _assert_same(whole, interrupted)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"task": 1}'])
def test_what_is_no_run_directory_is_refused(tmp_path, content):
    with pytest.raises(UserError, match="no run directory"):
        config_of({"resume": str(tmp_path)})
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "hyper_param.json").write_text(content)
    with pytest.raises(UserError):
        config_of({"resume": str(tmp_path)})


def test_every_recorded_setting_comes_back_as_it_was(settings, interrupted):
    recorded = dataclasses.asdict(config_of({"resume": str(interrupted)}))
    assert recorded == dataclasses.asdict(settings()) | {"resume": str(interrupted)}
    assert set(recorded) == {field.name for field in dataclasses.fields(Config)}


# Shared pretraining and the control ------------------------------------------------------------------------------


def test_arms_share_one_pretraining(settings):
    _, first = pipeline.run(settings(exploration_ratio=0.5))
    alone, _ = pipeline.run(settings())
    shared, directory = pipeline.run(settings(pretrained=first))
    assert shared["scores"] == alone["scores"] and shared["distance"] == alone["distance"]
    assert shared["pretrained"] == first
    policies = [Path(run) / "checkpoint" / "pretrained_policy.pth" for run in (first, directory)]
    states = [torch.load(path, weights_only=True) for path in policies]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_run_goes_on_without_the_run_it_had_its_pretraining_from(settings, monkeypatch):
    _, first = pipeline.run(settings(exploration_ratio=0.5))
    config = settings(pretrained=first)
    with monkeypatch.context() as patch:
        _failing(patch, 6, _raise)
        with pytest.raises(EnvironmentFailedError) as caught:
            pipeline.run(config)
    shutil.rmtree(first)
    for path in Path(caught.value.run_directory).glob("checkpoint/pretraining/*/manifest.json"):
        path.write_text("{}")  # of its own copy for others, it has no need either
    pipeline.run(_resumed(caught.value.run_directory))


def test_another_pretraining_is_refused(settings, tmp_path):
    _, first = pipeline.run(settings())
    with pytest.raises(UserError, match="--penalty-coef is "):
        pipeline.run(settings(pretrained=first, penalty_coef=1.0))
    with pytest.raises(UserError, match="no run has ended its stage 1"):
        pipeline.run(settings(pretrained=str(tmp_path)))


def test_the_control_trains_on_in_the_pretrained_dynamics_without_a_step(settings):
    summary, directory = pipeline.run(settings(control="extra-training", finetune_epochs=3))
    assert [stage["name"] for stage in summary["stages"]] == ["pretrain", "finetune_policy"]
    assert summary["stages"][1]["gradient_steps"] == 12 and summary["online_steps"] == 0
    assert set(summary["scores"]) == {"pretrained", "finetuned"}
    models = [Path(directory) / path for path in ("model/dynamics.pth", "checkpoint/pretrained_dynamics.pth")]
    states = [torch.load(path, weights_only=True) for path in models]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert summary["distance"]["uniform"]["before"] == summary["distance"]["uniform"]["after"]
