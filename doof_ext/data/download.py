"""D4RL's published files: their places on the web and on this machine, and how to download them."""

from __future__ import annotations

import contextlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import BinaryIO

from tqdm import tqdm

from doof_ext.data.dataset import read_dataset
from doof_ext.errors import UserError
from doof_ext.tasks.specs import TaskSpec

SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
_TIMEOUT = 30  # seconds without a byte


def folder() -> str:
    """Where D4RL keeps its files: $D4RL_DATASET_DIR or ~/.d4rl/datasets."""
    return os.path.expanduser(os.environ.get("D4RL_DATASET_DIR") or os.path.join("~", ".d4rl", "datasets"))


def url(spec: TaskSpec) -> str | None:
    """The published address of the task's file, or None for a task that is not D4RL's."""
    if not spec.paper_name:
        return None
    if spec.domain == "pen":
        return f"{SERVER}/hand_dapg_v1/{spec.name}.hdf5"
    stem, version = spec.name.rsplit("-", 1)
    return f"{SERVER}/gym_mujoco_v2/{stem.replace('-', '_')}-{version}.hdf5"


def local_file(spec: TaskSpec) -> str | None:
    """The task's file in D4RL's folder, or None. Both spellings are found: hopper_medium-v2 and hopper-medium-v2."""
    address = url(spec)
    if address is None:
        return None
    for name in (os.path.basename(address), f"{spec.name}.hdf5"):
        if os.path.isfile(os.path.join(folder(), name)):
            return os.path.join(folder(), name)
    return None


def download(spec: TaskSpec) -> str:
    """Fetches the task's file into D4RL's folder; returns its path.

    An interrupted download is left as ``.part`` and resumed by the next call; one process at a time downloads into the
    folder. The file gets its name only after its columns and the number of its rows have been checked.

    Raises:
        UserError: The task has no file, the transfer failed, or the file is another task's.
    """
    address = url(spec)
    if address is None:
        raise UserError(f"{spec.name} is none of D4RL's tasks: there is nothing to download; give --source hdf5:FILE")
    path = os.path.join(folder(), os.path.basename(address))
    try:
        os.makedirs(folder(), exist_ok=True)
        part = path + ".part"
        with _locked(folder()):
            if not os.path.exists(path):  # else another process has just fetched it
                with open(part, "ab") as file:
                    _transfer(address, file, spec.name)
                _check(part, address, spec)
                os.replace(part, path)
        return path
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        reason = " ".join(str(reason or type(error).__name__).split())
        raise UserError(
            f"cannot download {address} ({reason}); fetch it elsewhere and put it into {folder()}"
        ) from error


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Waits until no other process downloads into ``directory``; does nothing where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _check(part: str, address: str, spec: TaskSpec) -> None:
    assert spec.dataset_steps is not None  # as D4RL's tasks have it
    try:
        dataset = read_dataset(part, spec)
        if abs(len(dataset) - spec.dataset_steps) > 0.02 * spec.dataset_steps:
            raise UserError(f"{part}: {len(dataset)} transitions; {spec.name} has about {spec.dataset_steps}")
    except UserError as error:
        os.remove(part)
        raise UserError(f"{address} is not the file of {spec.name}: {error}") from error


def _transfer(address: str, part: BinaryIO, label: str) -> None:
    """Appends to ``part`` what it lacks of the file at ``address``."""
    have = part.seek(0, os.SEEK_END)
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        whole = (error.headers.get("Content-Range") or f"bytes */{have}").rpartition("/")[2]
        if error.code == 416 and whole == str(have):  # nothing is left to fetch
            return
        raise
    with response:
        if response.headers.get_content_type() == "text/html":
            raise ConnectionError("a web page came instead of a file")
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the server sends the file from its start
            part.truncate(0)
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        bar = tqdm(total=total, initial=have, desc=f"download {label}", unit="B", unit_scale=True, disable=None)
        with bar:
            while chunk := response.read(1 << 20):
                part.write(chunk)
                bar.update(len(chunk))
        part.flush()
        os.fsync(part.fileno())
    size = os.path.getsize(part.name)
    if total is not None and size != total:
        raise ConnectionError(f"the connection ended after {size} of {total} bytes; run it again to continue")
