"""The journal of online steps: what was appended is there, in order, and nothing else."""

import random

import numpy as np
import pytest

from doof_ext.algorithm.collect import OnlineCollector
from doof_ext.data.journal import OnlineJournal
from doof_ext.errors import EnvironmentFailedError, UserError

STEPS = 12


def _row(step):
    return dict(
        observations=np.arange(3.0) + step,
        actions=np.full(2, step / 10, np.float32),
        next_observations=np.arange(3.0) + step + 1,
        rewards=np.float64(step),
        terminals=step == 4,
        truncated=step == 8,
        starts=step in (0, 5, 9),
        qpos=np.full(2, step * np.pi),
    )


@pytest.fixture
def path(tmp_path):
    """A journal of STEPS steps in episodes of 5, 4 and an unfinished 3."""
    journal = OnlineJournal(tmp_path / "online-1.journal")
    for step in range(STEPS):
        journal.append(_row(step), sync=step in (4, 8))
    journal.close()
    return tmp_path / "online-1.journal"


def _assert_holds(journal, steps):
    assert len(journal) == steps
    for step, row in enumerate(journal.rows):
        for name, value in _row(step).items():
            np.testing.assert_array_equal(row[name], value)
            assert row[name].dtype == np.asarray(value).dtype


def test_what_was_appended_is_read_and_goes_on(path):
    journal = OnlineJournal(path)
    _assert_holds(journal, STEPS)
    journal.append(_row(STEPS))
    _assert_holds(OnlineJournal(path), STEPS + 1)  # before it is closed: each step is with the system as it happens


def test_a_step_is_there_before_the_next_one_is_taken(tmp_path):
    journal = OnlineJournal(tmp_path / "j")
    for step in range(3):
        journal.append(_row(step))
        assert len(OnlineJournal(tmp_path / "j")) == step + 1


def test_episodes_end_where_they_terminated_or_were_cut(path):
    dataset = OnlineJournal(path).dataset()
    assert np.flatnonzero(dataset.terminals).tolist() == [4]
    assert np.flatnonzero(dataset.timeouts).tolist() == [8, 11]
    assert dataset.observations.dtype == np.float32 and dataset.rewards.tolist() == list(range(STEPS))
    np.testing.assert_array_equal(dataset.states["qpos"][:, 0], np.arange(STEPS) * np.pi)


def test_a_journal_cut_anywhere_holds_the_whole_steps_before(path):
    whole, rng = path.read_bytes(), random.Random(0)
    start = whole.index(b"\n") + 1
    size = (len(whole) - start) // STEPS
    for place in [0, start - 1, start, start + 1, *(rng.randrange(len(whole)) for _ in range(50))]:
        path.write_bytes(whole[:place])
        told = []
        steps = max(0, (place - start) // size)
        journal = OnlineJournal(path, told.append)
        _assert_holds(journal, steps)
        assert len(told) == (place > start and (place - start) % size > 0)
        for step in range(steps, STEPS):  # and goes on
            journal.append(_row(step))
        _assert_holds(OnlineJournal(path), STEPS)


def test_a_flipped_bit_is_refused_or_is_the_last_record(path):
    whole, rng = path.read_bytes(), random.Random(1)
    for _ in range(50):
        place = rng.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
        try:
            journal = OnlineJournal(path, lambda line: None)
        except UserError as error:
            assert "damaged" in str(error) and "\n" not in str(error)
        else:
            _assert_holds(journal, len(journal))
            assert len(journal) == STEPS - 1


def test_records_that_never_reached_the_disk_are_taken_again(path):
    """After a loss of power: what was not synced may be zeros."""
    whole = path.read_bytes()
    size = (len(whole) - whole.index(b"\n") - 1) // STEPS
    path.write_bytes(whole[: -2 * size] + bytes(2 * size))
    told = []
    _assert_holds(OnlineJournal(path, told.append), STEPS - 2)
    assert "was cut off" in told[0]


def test_no_bit_of_the_first_line_can_change_what_is_read(path):
    whole = path.read_bytes()
    for place in range(whole.index(b"\n") + 1):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
            with pytest.raises(UserError, match="damaged"):
                OnlineJournal(path)


def test_what_cannot_be_read_is_refused(path):
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"online-1\.journal cannot be read \(Is a directory\)"):
        OnlineJournal(path)


def test_columns_that_change_are_refused(path):
    for changed in ({"actions": np.zeros(2, np.float64)}, {"qpos": np.zeros(3)}, {"more": np.zeros(1)}):
        with pytest.raises(EnvironmentFailedError, match=next(iter(changed))):
            OnlineJournal(path).append(_row(STEPS) | changed)


def test_a_record_that_is_missing_in_between_is_refused(path):
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    size = (len(whole) - start) // STEPS
    path.write_bytes(whole[: start + 2 * size] + whole[start + 3 * size :])
    with pytest.raises(UserError, match="damaged at step 2"):
        OnlineJournal(path)


def test_collecting_goes_on_to_the_bit_wherever_the_journal_ends(tmp_path, env):
    class Leaning:
        def select_action(self, obs, deterministic):
            return np.tanh(np.asarray(obs, np.float32)[:, 1:4] * 3 + np.float32(0.1))

    collector = OnlineCollector(Leaning(), env)
    whole = collector.collect(60, journal=OnlineJournal(tmp_path / "whole"), seed=[1])
    content = (tmp_path / "whole").read_bytes()
    for place in random.Random(2).sample(range(len(content)), 8):
        (tmp_path / "cut").write_bytes(content[:place])
        resumed = collector.collect(60, journal=OnlineJournal(tmp_path / "cut", lambda line: None), seed=[1])
        assert (tmp_path / "cut").read_bytes() == content
        assert resumed.sha256() == whole.sha256() and (resumed.timeouts == whole.timeouts).all()
