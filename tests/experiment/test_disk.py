"""Full disks, lost directories, and two processes in one run directory."""

import errno
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, assert_same_run, resumed, wrap_stage

from doof_ext import files, pipeline
from doof_ext.errors import RunStoppedError
from doof_ext.experiment import experiment, run_directory


def test_a_full_disk_is_one_line_and_the_run_resumes_with_room(settings, tmp_path, monkeypatch):
    config = settings()
    _, whole = pipeline.run(config)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fills(explore):
        def wrapper(*inputs):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails, as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
            return explore(*inputs)

        return wrapper

    with monkeypatch.context() as patch:
        wrap_stage(patch, "explore", fills)
        try:
            with pytest.raises(RunStoppedError, match="cannot be written") as caught:
                pipeline.run(config)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    pipeline.run(resumed(caught.value.run_directory))
    assert_same_run(whole, caught.value.run_directory)


@pytest.mark.parametrize("owner", ["doof_ext.files.publish", "doof_ext.data.dataset.os.fsync"])
def test_a_full_disk_at_the_results_is_one_line(settings, monkeypatch, owner):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def then_full(collect):
        def wrapper(*inputs):
            collection = collect(*inputs)
            monkeypatch.setattr(owner, full)
            return collection

        return wrapper

    with monkeypatch.context() as patch:
        wrap_stage(patch, "collect", then_full)
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

    monkeypatch.setattr(experiment, "RunLogger", full)
    with pytest.raises(RunStoppedError, match="No space left") as caught:
        pipeline.run(resumed(interrupted))
    assert caught.value.run_directory == str(interrupted)


def test_a_reader_that_is_gone_does_not_stop_a_run(tmp_path):
    """`run_doof.py … | tee`: tee dies of the same Ctrl-C."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [
        sys.executable,
        str(ROOT / "run_example" / "run_doof.py"),
        "--preset",
        "smoke",
        "--source",
        "recipe",
        "--dataset-steps",
        "400",
        "--wandb",
        "off",
        "--logdir",
        str(tmp_path),
    ]
    done = subprocess.run(command, stdout=writing, stderr=writing, env=os.environ | {"PYTHONPATH": str(ROOT)})
    os.close(writing)
    assert done.returncode in (0, 120)  # 120: Python could not flush the console
    assert list(tmp_path.glob("*/*/*/result/summary.json"))


def test_a_lost_directory_is_one_line(settings, monkeypatch):
    def lost(collect):
        def wrapper(ctx, *inputs):
            shutil.rmtree(Path(ctx.logger.checkpoint_dir).parent)
            return collect(ctx, *inputs)

        return wrapper

    wrap_stage(monkeypatch, "collect", lost)
    with pytest.raises(RunStoppedError, match="cannot be written") as caught:
        pipeline.run(settings())
    assert "\n" not in str(caught.value)


def test_a_second_process_is_refused(settings, monkeypatch):
    refused = []

    def meanwhile(collect):
        def wrapper(ctx, *inputs):
            directory = Path(ctx.logger.checkpoint_dir).parent
            code = "import sys; from doof_ext.experiment.run_directory import lock; lock(sys.argv[1])"
            done = subprocess.run([sys.executable, "-c", code, directory], cwd=ROOT, capture_output=True, text=True)
            refused.append((done.returncode, done.stderr))
            return collect(ctx, *inputs)

        return wrapper

    wrap_stage(monkeypatch, "collect", meanwhile)
    _, directory = pipeline.run(settings())
    ((code, stderr),) = refused
    assert code == 1 and "another process is at work in" in stderr
    run_directory.lock(directory).lock.release()  # free again
