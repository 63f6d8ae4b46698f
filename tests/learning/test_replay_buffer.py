"""What batches contain, not only their shapes."""

import numpy as np
import pytest
import torch

from doof_ext.learning.replay_buffer import FIELDS, Mixture, TensorReplayBuffer, split_counts


def _data(values):
    column = np.asarray(values, np.float32)[:, None]
    return dict(
        observations=np.hstack([column, column + 0.1]),
        next_observations=np.hstack([column + 0.2, column + 0.3]),
        actions=-column,
        rewards=column * 10,
        terminals=(column % 2).astype(np.float32),
    )


def _filled(values):
    return TensorReplayBuffer.from_dataset(_data(values))


def test_a_row_keeps_together_what_belongs_together():
    buffer = _filled(range(20))
    batch = buffer.sample(500)
    v = batch["observations"][:, :1]
    assert set(v.flatten().tolist()) == set(range(20))
    torch.testing.assert_close(batch["observations"][:, 1:], v + 0.1)
    torch.testing.assert_close(batch["next_observations"], torch.hstack([v + 0.2, v + 0.3]))
    torch.testing.assert_close(batch["actions"], -v)
    torch.testing.assert_close(batch["rewards"], 10 * v)
    torch.testing.assert_close(batch["terminals"], v % 2)


@pytest.mark.parametrize(("capacity", "chunks"), [(5, [3, 3, 3]), (5, [12]), (4, [4, 1]), (6, [5, 6, 1]), (3, [1] * 8)])
def test_a_full_buffer_holds_the_newest(capacity, chunks):
    buffer = TensorReplayBuffer(capacity, (2,), action_dim=1)
    ring, pointer, start = {}, 0, 0
    for size in chunks:
        data = _data(range(start, start + size))
        buffer.add_batch(*(data[n] for n in ("observations", "next_observations", "actions", "rewards", "terminals")))
        for value in range(start, start + size):  # the ring, written out
            ring[pointer] = value
            pointer = (pointer + 1) % capacity
        start += size
    expected = [10.0 * ring[slot] for slot in sorted(ring)]
    assert buffer.sample_all()["rewards"].ravel().tolist() == expected
    assert len(buffer) == min(capacity, start)


def test_only_what_was_stored_is_sampled():
    buffer = TensorReplayBuffer(100, (2,), action_dim=1)
    buffer.add(np.array([7.0, 7.1]), np.array([7.2, 7.3]), np.array([-7.0]), 70.0, True)
    assert set(buffer.sample(50)["rewards"].flatten().tolist()) == {70.0}


def test_loading_a_dataset_keeps_the_capacity():
    buffer = TensorReplayBuffer(8, (2,), action_dim=1)
    buffer.load_dataset(_data(range(4)))
    buffer.add_batch(*(_data([9])[n] for n in ("observations", "next_observations", "actions", "rewards", "terminals")))
    assert buffer.sample_all()["rewards"].ravel().tolist() == [0, 10, 20, 30, 90]


def test_a_mixture_draws_exact_counts_from_each_buffer_in_order():
    batch = Mixture([(_filled([1]), 3), (_filled([2]), 5), (_filled([3]), 0)]).sample()
    assert batch["rewards"].flatten().tolist() == [10.0] * 3 + [20.0] * 5
    assert set(batch) == set(FIELDS)


@pytest.mark.parametrize(
    ("fractions", "counts"), [([0.05], [12, 244]), ([0.025, 0.025], [6, 6, 244]), ([0.025, 0.0], [6, 0, 250])]
)
def test_the_papers_batches_add_up_to_256(fractions, counts):
    assert split_counts(256, fractions) == counts and sum(counts) == 256


def test_fractions_beyond_a_whole_are_refused():
    with pytest.raises(ValueError):
        split_counts(256, [0.7, 0.7])


def test_a_generator_decides_the_draw():
    buffer = _filled(range(50))
    draws = [buffer.sample(20, torch.Generator().manual_seed(3))["rewards"] for _ in range(2)]
    torch.testing.assert_close(*draws, rtol=0, atol=0)
    torch.testing.assert_close(*draws, rtol=0, atol=0)


def test_a_split_batch_has_exact_counts_and_holds_until_the_next():
    mixture = Mixture([(_filled([1]), 3), (_filled([2]), 5)])
    batch = mixture.sample_split(3)
    rewards = {part: columns["rewards"].flatten().tolist() for part, columns in batch.items()}
    assert rewards == {"real": [10.0] * 3, "fake": [20.0] * 5, "all": [10.0] * 3 + [20.0] * 5}
    assert mixture.sample_split(3)["all"]["rewards"].data_ptr() == batch["all"]["rewards"].data_ptr()
    assert len(mixture.sample_split(4)["real"]["rewards"]) == 4
