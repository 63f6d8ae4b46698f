"""A run that stops anywhere resumes to the end that it would have had."""

import json
import random
import shutil
import signal
from pathlib import Path

import pytest
import torch
from conftest import assert_same_run, damaged, final_weights, resumed

from doof_ext import pipeline
from doof_ext.checkpointing.store import CheckpointStore
from doof_ext.checkpointing.training_state import TrainingState
from doof_ext.errors import Interrupted, RunStoppedError, UserError
from doof_ext.uncertainty.count import HashCount


def _interrupt_at(monkeypatch, number):
    """Has SIGINT come at the run's step ``number``, as if the handler had noted it."""
    count = 0
    after_step = TrainingState.after_step

    def spied(self):
        nonlocal count
        count += 1
        if count == number:
            self._signals.received = signal.SIGINT
        after_step(self)

    monkeypatch.setattr(TrainingState, "after_step", spied)
    return lambda: count


@pytest.fixture(params=[("mopo", "aleatoric", None), ("mobile", "count", None), ("mopo", "count", "no-online-data")])
def kind(request):
    return dict(zip(("algo", "uncertainty", "control"), request.param, strict=True))


def test_runs_of_one_seed_are_the_same_also_when_interrupted(settings, kind, device, monkeypatch):
    quick = classmethod(lambda cls, config: cls(config.hash_bits, members=2, steps=5, seed=config.seed))
    monkeypatch.setattr(HashCount, "from_config", quick)
    config = settings(**kind, rounds=2, hash_bits=8, num_samples=2, device=device)
    _, whole = pipeline.run(config)
    with monkeypatch.context() as patch:
        steps = _interrupt_at(patch, 0)
        _, again = pipeline.run(config)
    assert_same_run(whole, again)
    total, directory, todo = steps(), None, config
    for number in sorted(random.Random(3).sample(range(1, total), 5)):
        with monkeypatch.context() as patch:
            _interrupt_at(patch, max(1, number // 3))
            try:
                _, directory = pipeline.run(todo)
            except Interrupted as error:
                directory = error.run_directory
        todo = resumed(directory)
    pipeline.run(todo)
    assert_same_run(whole, directory)


def test_stage_2_is_not_trained_again_after_stops_of_a_resumed_stage_3(settings, monkeypatch):
    _, whole = pipeline.run(settings())
    todo, stops = settings(), []
    after_step = TrainingState.after_step

    def stops_in_stage_3(self):
        if self.round == 1 and self._stage.startswith("collect") and len(stops) < 3:
            self._signals.received = signal.SIGINT
        after_step(self)

    monkeypatch.setattr(TrainingState, "after_step", stops_in_stage_3)
    for _ in range(3):
        with pytest.raises(Interrupted) as caught:
            pipeline.run(todo)
        stops.append(caught.value.run_directory)
        todo = resumed(stops[-1])
    pipeline.run(todo)
    assert_same_run(whole, stops[0])


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
    pipeline.run(resumed(caught.value.run_directory))
    assert_same_run(whole, caught.value.run_directory)
    assert not (Path(caught.value.run_directory) / "record" / "failure.txt").exists()


def test_another_seed_is_another_run(settings):
    runs = [pipeline.run(settings(seed=seed))[1] for seed in (1, 2)]
    assert not torch.equal(*(final_weights(run)["policy.pth"]["actor.dist_net.mu.weight"] for run in runs))


def test_a_finished_run_has_nothing_left_to_do(settings, capsys):
    summary, directory = pipeline.run(settings())
    again, _ = pipeline.run(resumed(directory))
    assert again == json.loads(json.dumps(summary)) and "is complete" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(settings, interrupted, damage, capsys):
    _, whole = pipeline.run(settings())
    *_, newest = sorted(interrupted.glob("checkpoint/state-*"))
    path = newest / "state.safetensors"
    path.write_bytes(damaged(path.read_bytes(), damage, random.Random(1)))
    pipeline.run(resumed(interrupted))
    assert f"{newest.name} is damaged" in capsys.readouterr().out
    assert_same_run(whole, interrupted)


def test_where_no_checkpoint_is_whole_the_run_is_refused(interrupted):
    for path in interrupted.glob("checkpoint/state-*/manifest.json"):
        path.write_text("{}")
    with pytest.raises(UserError, match="cannot be resumed"):
        pipeline.run(resumed(interrupted))


def test_a_run_killed_before_its_first_checkpoint_starts_anew(settings, interrupted):
    _, whole = pipeline.run(settings())
    for path in interrupted.glob("checkpoint/state-*"):
        shutil.rmtree(path)
    pipeline.run(resumed(interrupted))
    assert_same_run(whole, interrupted)
