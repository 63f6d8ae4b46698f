"""What environments with true dynamics share, whichever simulator they stand on."""

import numpy as np


def simulate_rows(simulate_one, action, state):
    """``simulate_one(action, **state)`` for one row, or for each of a batch.

    Args: the function, which gives next_obs [O], reward, terminal; action [A] or [B, A]; the state's arrays by name,
    each with a leading [B] for a batch. Returns: next_obs [O] or [B, O], reward float or [B], terminal bool or [B].
    """
    action, state = np.asarray(action), {name: np.asarray(value) for name, value in state.items()}
    if action.ndim == 1:
        return simulate_one(action, **state)
    steps = [
        simulate_one(row, **{name: value[index] for name, value in state.items()}) for index, row in enumerate(action)
    ]
    next_obs, rewards, terminals = zip(*steps, strict=True)
    return np.stack(next_obs), np.array(rewards), np.array(terminals)


def locomotion_state(observations, positions):
    """States of hopper's, halfcheetah's or walker2d's observations [..., O] with ``positions`` entries in qpos.

    Returns: a dict of qpos [..., positions], with root position x 0, and qvel [..., nv]. Exact for HalfCheetah.
    Hopper's and Walker2d's observations clip velocities at +-10, so that a state whose velocity was beyond comes back
    with +-10.
    """
    observations = np.asarray(observations, dtype=np.float64)
    root = np.zeros((*observations.shape[:-1], 1))
    qpos = np.concatenate([root, observations[..., : positions - 1]], axis=-1)
    return {"qpos": qpos, "qvel": observations[..., positions - 1 :].copy()}
