"""D4RL's published files: where they are on the web and on this machine, and how they get here."""

import os
import urllib.error
import urllib.request

from tqdm import tqdm

from doof_ext.data.dataset import read_dataset
from doof_ext.errors import UserError

SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
_TIMEOUT = 30  # seconds without a byte


def folder() -> str:
    """Where D4RL keeps its files: $D4RL_DATASET_DIR or ~/.d4rl/datasets."""
    return os.environ.get("D4RL_DATASET_DIR") or os.path.join(os.path.expanduser("~"), ".d4rl", "datasets")


def url(spec) -> str | None:
    """The published address of the task's file, or None for a task that is not D4RL's."""
    if spec.domain == "pen":
        return f"{SERVER}/hand_dapg_v1/{spec.name}.hdf5"
    if spec.domain:
        stem, version = spec.name.rsplit("-", 1)
        return f"{SERVER}/gym_mujoco_v2/{stem.replace('-', '_')}-{version}.hdf5"
    return None


def local_file(spec) -> str | None:
    """The task's file in D4RL's folder, or None. Both spellings are known: hopper_medium-v2 and hopper-medium-v2."""
    if url(spec) is None:
        return None
    for name in (os.path.basename(url(spec)), f"{spec.name}.hdf5"):
        if os.path.isfile(os.path.join(folder(), name)):
            return os.path.join(folder(), name)
    return None


def download(spec, address: str | None = None) -> str:
    """Fetches the task's file into D4RL's folder; returns its path.

    A broken download is left as ``.part`` and continued by the next call. The file gets its name only after its
    columns and the number of its rows have been checked.

    Raises: UserError naming address and folder, for a task without a file, a failed transfer or a wrong file.
    """
    address = address or url(spec)
    if address is None:
        raise UserError(f"{spec.name} is none of D4RL's tasks: there is nothing to download; give --source hdf5:FILE")
    path = os.path.join(folder(), os.path.basename(address))
    part = path + ".part"
    try:
        os.makedirs(folder(), exist_ok=True)
        _transfer(address, part, spec.name)
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error) or type(error).__name__
        raise UserError(
            f"cannot download {address} ({reason}); fetch it elsewhere and put it into {folder()}"
        ) from error
    try:
        dataset = read_dataset(part, spec)
        if abs(len(dataset) - spec.dataset_steps) > 0.02 * spec.dataset_steps:
            raise UserError(f"{part}: {len(dataset)} transitions; {spec.name} has about {spec.dataset_steps}")
    except UserError as error:
        os.remove(part)
        raise UserError(f"{address} is not the file of {spec.name}: {error}") from error
    os.replace(part, path)
    return path


def _transfer(address, part, label):
    have = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to fetch
            return
        raise
    with response, open(part, "ab" if response.status == 206 else "wb") as file:
        start = have if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar = tqdm(total=total, initial=start, desc=f"download {label}", unit="B", unit_scale=True, disable=None)
        with bar:
            while chunk := response.read(1 << 20):
                file.write(chunk)
                bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if total is not None and os.path.getsize(part) < total:
        raise ConnectionError(f"the connection ended after {os.path.getsize(part)} of {total} bytes; run it again")
