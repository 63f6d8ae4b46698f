"""Conversions lose and invent nothing: random episode structures through HDF5, through Minari, and without columns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doof_ext.data import episodes
from doof_ext.data.dataset import Dataset, dataset_from_columns, first_steps, read_dataset, write_dataset
from doof_ext.errors import UserError

COLUMNS = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")


@st.composite
def recordings(draw):
    """Episodes of a 2-dimensional system: a list of (observations [T+1, 2], actions, rewards, ends in a terminal)."""
    lengths = draw(st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    return [
        (
            rng.normal(size=(length + 1, 2)).astype(np.float32),
            rng.uniform(-1, 1, (length, 1)).astype(np.float32),
            rng.normal(size=length).astype(np.float32),
            terminal,
        )
        for length, terminal in lengths
    ]


def written_out(recording):
    """The dataset as a loop over episodes and steps makes it."""
    rows = []
    for observations, actions, rewards, terminal in recording:
        for step in range(len(actions)):
            last = step == len(actions) - 1
            rows.append(
                (
                    observations[step],
                    actions[step],
                    observations[step + 1],
                    rewards[step],
                    last and terminal,
                    last and not terminal,
                )
            )
    return Dataset(*(np.array(column) for column in zip(*rows, strict=True)))


def assert_same(one, other, names=COLUMNS):
    for name in names:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@settings(max_examples=50, deadline=None)
@given(recordings())
def test_hdf5_keeps_every_transition_terminal_and_timeout(tmp_path_factory, recording):
    dataset = written_out(recording)
    path = tmp_path_factory.mktemp("hdf5") / "d.hdf5"
    write_dataset(path, dataset)
    assert_same(read_dataset(path), dataset)


@settings(max_examples=50, deadline=None)
@given(recordings())
def test_absent_timeouts_are_told_from_rows_that_do_not_follow(recording):
    dataset = written_out(recording)
    columns = {name: getattr(dataset, name) for name in COLUMNS if name != "timeouts"}
    assert_same(dataset_from_columns("file", columns), dataset)


@pytest.mark.parametrize("offset", [0, 1000])
def test_a_rounding_ends_no_episode_and_is_told(dataset, offset):
    columns = {name: getattr(dataset, name) for name in COLUMNS if name != "timeouts"}
    noise = 1e-7 * np.random.default_rng(0).choice([-1, 1], dataset.observations.shape)
    for name, column in (
        ("observations", dataset.observations),
        ("next_observations", dataset.next_observations + noise),
    ):
        columns[name] = (column.astype(np.float64) + offset).astype(np.float32)
    again = dataset_from_columns("file", columns)
    np.testing.assert_array_equal(again.timeouts, dataset.timeouts)
    told = f"timeouts are the {dataset.timeouts.sum()} steps that do not lead to the next row's observation"
    assert again.metadata["reconstructed"].startswith(told)
    assert offset or "others do, within 1e-07" in again.metadata["reconstructed"]


@settings(max_examples=50, deadline=None)
@given(recordings())
def test_absent_next_observations_are_the_episodes_next_rows(recording):
    dataset = written_out(recording)
    columns = {name: getattr(dataset, name) for name in COLUMNS if name != "next_observations"}
    if max(len(actions) for _, actions, _, _ in recording) < 2:
        with pytest.raises(UserError, match="no episode of two steps"):
            dataset_from_columns("file", columns)
        return
    again = dataset_from_columns("file", columns)
    inner = np.flatnonzero(~(dataset.terminals | dataset.timeouts))
    for name in ("observations", "actions", "next_observations", "rewards"):
        np.testing.assert_array_equal(getattr(again, name), getattr(dataset, name)[inner])
    assert not again.terminals.any() and again.timeouts.sum() == sum(len(actions) > 1 for _, actions, _, _ in recording)
    assert f"{dataset.timeouts.sum()} cut and {dataset.terminals.sum()} terminal" in again.metadata["reconstructed"]


def test_the_part_of_the_rewards_that_is_left_out_is_told(dataset):
    columns = {name: getattr(dataset, name) for name in COLUMNS if name != "next_observations"}
    ends = dataset.terminals | dataset.timeouts
    paid = abs(dataset.rewards.astype(np.float64))
    lost = dataset_from_columns("file", columns).metadata["rewards_left_out"]
    assert lost == pytest.approx(paid[ends].sum() / paid.sum()) and 0 < lost < 1
    sparse = columns | {"rewards": dataset.terminals.astype(np.float32)}
    assert dataset_from_columns("file", sparse).metadata["rewards_left_out"] == 1
    assert dataset_from_columns("file", columns | {"rewards": 0 * dataset.rewards}).metadata["rewards_left_out"] == 0


def test_neither_next_observations_nor_timeouts_is_refused(dataset):
    columns = {name: getattr(dataset, name) for name in ("observations", "actions", "rewards", "terminals")}
    with pytest.raises(UserError, match="neither next_observations nor timeouts"):
        dataset_from_columns("file", columns)


@settings(max_examples=50, deadline=None)
@given(recordings(), st.integers(1, 40))
def test_returns_and_lengths_are_those_of_a_loop(recording, steps):
    dataset = first_steps(written_out(recording), steps)
    returns, lengths, total, length = [], [], 0.0, 0
    for row in range(len(dataset)):
        total, length = total + float(dataset.rewards[row]), length + 1
        if dataset.terminals[row] or dataset.timeouts[row]:
            returns.append(total), lengths.append(length)
            total, length = 0.0, 0
    assert length == 0  # a cut episode ends in a timeout
    np.testing.assert_allclose(episodes.returns_and_lengths(dataset)[0], returns, rtol=1e-6)
    assert episodes.returns_and_lengths(dataset)[1].tolist() == lengths


def test_steps_after_the_last_end_are_an_episode():
    flags = np.array([False, True, False])
    rows = np.zeros((3, 1), np.float32)
    starts, stops = episodes.bounds(Dataset(rows, rows, rows, rows[:, 0], flags, np.zeros(3, bool)))
    assert (starts.tolist(), stops.tolist()) == ([0, 2], [2, 3])
