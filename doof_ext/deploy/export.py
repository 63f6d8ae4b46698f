"""A run's policy as a folder of its own: the network, and policy.json, which says how to use it."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np

from doof_ext import __version__
from doof_ext.deploy import FORMATS
from doof_ext.deploy.formats import WRITERS, Answer
from doof_ext.deploy.run_policy import STAGES, RunPolicy, read_policy
from doof_ext.errors import UserError
from doof_ext.experiment.summary import read_summary
from doof_ext.files import publish_folder, read_json, write_json

CHECKED = 1000
"""The observations on which an exported policy is compared with the run's."""

TOLERANCE = 1e-5
"""The largest difference of an action from the run's, in half ranges of its dimension where that is above 1."""


def export_policy(
    run: str | os.PathLike[str], format: str, out: str | os.PathLike[str], which: str = "finetuned"
) -> dict[str, Any]:
    """Writes a policy of a run into a folder, after what was written has answered as the run's policy does.

    Args:
        run: The run directory.
        format: ``onnx``, ``torchscript`` or ``numpy``.
        out: The folder to write: a new one, or an empty one.
        which: ``finetuned``, ``pretrained`` or ``exploration``.

    Returns:
        What policy.json says.

    Raises:
        UserError: There is no such run, policy or format, ``out`` is not empty or cannot be written, a package is
            missing, or the answers differ; ``out`` is left as it was.
    """
    if format not in FORMATS:
        raise UserError(f"there is no format {format!r}; choose {', '.join(FORMATS)}")
    policy = read_policy(run, which)
    mean, std = policy.data_scale()
    observations = np.random.default_rng(0).normal(mean, std, (CHECKED, len(mean))).astype(np.float32)
    about = {**_interface(policy, mean, std), "provenance": _provenance(policy)}

    def fill(folder: str) -> None:
        name, answer = WRITERS[format](folder, policy)
        content = {
            "format": format,
            "file": name,
            "sha256": _sha256(os.path.join(folder, name)),
            **about,
            "checked": {"observations": CHECKED, "largest_difference": _check(answer, policy, observations)},
            "sample": {"observation": observations[0].tolist(), "action": answer(observations[:1])[0].tolist()},
        }
        write_json(os.path.join(folder, "policy.json"), content)

    try:
        _check_out(out)
        publish_folder(out, fill)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{os.fspath(out)} cannot be written ({reason}); choose another --out") from error
    return read_json(os.path.join(out, "policy.json"))


def _check_out(out: str | os.PathLike[str]) -> None:
    if os.path.isdir(out) and not os.listdir(out):
        if os.path.samefile(out, os.curdir):
            raise UserError(f"{os.fspath(out)} is the working folder; name another --out, which is made")
    elif os.path.lexists(out):
        raise UserError(f"{os.fspath(out)} is there already, and no empty folder; choose another --out")


def _check(answer: Answer, policy: RunPolicy, observations: np.ndarray) -> float:
    """The largest difference from the run's actions; raises UserError where it is above TOLERANCE."""
    low, high = policy.bounds
    difference = np.abs(answer(observations) - policy.mean_actions(observations))
    if not (difference <= TOLERANCE * np.maximum((high - low) / 2, 1)).all():
        raise UserError(f"not exported: its actions are up to {difference.max():.1e} from those of {policy.path}")
    return float(difference.max())


def _interface(policy: RunPolicy, mean: np.ndarray, std: np.ndarray) -> dict[str, Any]:
    """What goes in and what comes out."""
    task = policy.task
    return {
        "input": {
            "name": "observation",
            "dtype": "float32",
            "shape": ["batch", task.obs_dim],
            "names": task.observation_names,
            "order": "the columns of the data's observations",
            "units": "the task's, as in the data; not normalised",
            "data_mean": mean.tolist(),
            "data_std": std.tolist(),
        },
        "output": {
            "name": "action",
            "dtype": "float32",
            "shape": ["batch", task.action_dim],
            "names": task.action_names,
            "order": "the columns of the data's actions",
            "units": "the task's, as in the data; not normalised",
            "low": task.action_low,
            "high": task.action_high,
        },
        "deterministic": True,
    }


def _provenance(policy: RunPolicy) -> dict[str, Any]:
    """Which policy it is, and which run it is from."""
    config, files = policy.config, policy.files
    summary = read_summary(files.summary) if os.path.exists(files.summary) else None
    return {
        "task": policy.task.name,
        "policy": policy.which,
        "stage": STAGES[policy.which],
        "run": os.path.join(*os.path.abspath(files.directory).split(os.sep)[-3:]),
        "run_complete": summary is not None,
        "dataset": summary and {name: summary["dataset"][name] for name in ("source", "id")},
        "seed": config.seed,
        "preset": config.preset,
        "algo": config.algo,
        "doof_ext": __version__,
        "weights": os.path.relpath(policy.path, files.directory),
        "weights_sha256": _sha256(policy.path),
    }


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
