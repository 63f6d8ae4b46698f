"""What W&B has of a run, read back from a real offline run's file in wandb's own records."""

import contextlib
import csv
import http.server
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ROOT, wrap_stage
from wandb.proto.wandb_internal_pb2 import Record

from doof_ext import pipeline
from doof_ext.config import config_from
from doof_ext.errors import EnvironmentFailedError
from doof_ext.experiment.wandb_logger import by_stage

_BLOCK = 32 * 1024


def _records(path):
    """The records of a .wandb file: LevelDB's log format after seven bytes of W&B's own.

    wandb 0.31 reads it in Go alone; the records are its published protobuf.
    """
    content, place, parts = Path(path).read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while place + 7 <= len(content):
        if _BLOCK - place % _BLOCK < 7:
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def _read(directory):
    """(rows of the history by their number, all records) of the one offline run in a run directory."""
    (path,) = directory.glob("wandb/offline-run-*/*.wandb")
    records, rows = list(_records(path)), {}
    for record in records:
        if record.WhichOneof("record_type") == "history":
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            number = record.history.step.num
            assert number not in rows, "a row was given twice"
            rows[number] = row
    return rows, records


@pytest.fixture
def settings(tiny, tmp_path):
    def make(**overrides):
        return tiny(
            **dict(
                source="recipe",
                dataset_steps=400,
                logdir=str(tmp_path),
                wandb="offline",
                checkpoint_every=1,
                finetune_epochs=3,
            )
            | overrides
        )

    return make


@pytest.fixture
def resumed(settings, monkeypatch):
    """The directory of a run that was resumed after a stop in stage 5, after a row that its last checkpoint lacks."""

    def fails(finetune_policy):
        def wrapper(ctx, *inputs):
            count, after_epoch = 0, ctx.state.after_epoch

            def failing():
                nonlocal count
                count += 1
                if count == 2:
                    raise EnvironmentFailedError("the power went")
                after_epoch()

            ctx.state.after_epoch = failing
            return finetune_policy(ctx, *inputs)

        return wrapper

    with monkeypatch.context() as patch:
        wrap_stage(patch, "finetune_policy", fails)
        with pytest.raises(EnvironmentFailedError) as caught:
            pipeline.run(settings())
    pipeline.run(config_from({"resume": caught.value.run_directory}))
    return Path(caught.value.run_directory)


def test_a_resumed_run_is_one_wandb_run_with_every_row_once(resumed, settings):
    rows, records = _read(resumed)
    assert sorted(rows) == list(range(len(rows)))
    _, whole = pipeline.run(settings())
    others, _ = _read(Path(whole))
    ours, theirs = (
        [
            {name: value for name, value in row.items() if not name.startswith("_")}
            for _, row in sorted(found.items())
            if "final/scores._type" not in row  # a table, whose file has a name of its own in each run
        ]
        for found in (rows, others)
    )
    assert ours == theirs
    assert {record.run.run_id for record in records if record.WhichOneof("record_type") == "run"} == {
        json.loads((resumed / "record" / "wandb.jsonl").read_text().splitlines()[0])["id"]
    }


def test_each_stage_has_its_own_axis_and_the_rows_of_the_csv(resumed):
    rows, records = _read(resumed)
    with open(resumed / "record" / "policy_training_progress.csv") as file:
        expected = [float(row["eval/normalized_episode_reward"]) for row in csv.DictReader(file) if row["stage"] == "5"]
    finetune = [row for row in rows.values() if "finetune/eval/normalized_episode_reward" in row]
    assert [row["finetune/eval/normalized_episode_reward"] for row in finetune] == pytest.approx(expected)
    assert [row["finetune/step"] for row in finetune] == sorted(row["finetune/step"] for row in finetune)
    assert any("explore/step" in row for row in rows.values()) and any("dynamics/step" in row for row in rows.values())
    metrics = {
        record.metric.glob_name: record.metric.step_metric
        for record in records
        if record.WhichOneof("record_type") == "metric"
    }
    assert {f"{name}/*": f"{name}/step" for name in ("pretrain", "explore", "finetune", "dynamics")}.items() <= (
        metrics.items()
    )


def test_the_end_has_table_histograms_artifacts_and_provenance(resumed):
    rows, records = _read(resumed)
    last = rows[max(rows)]
    assert last["final/scores._type"] == "table-file" and last["final/scores.nrows"] == 3
    assert last["distance/uniform/before._type"] == last["distance/online/after._type"] == "histogram"
    assert sum(last["distance/uniform/before.values"]) == 20
    artifacts = {record.artifact.type for record in records if record.WhichOneof("record_type") == "artifact"} | {
        record.request.log_artifact.artifact.type for record in records if record.WhichOneof("record_type") == "request"
    }
    assert {"model", "dataset"} <= artifacts
    config = {
        item.key: item.value_json for record in records for item in (*record.config.update, *record.run.config.update)
    }
    assert json.loads(config["dataset_source"]) == "recipe" and json.loads(config["gamma"]) == 0.99


def test_a_row_without_a_stage_stays_as_it_is():
    assert by_stage({"final/gain": 1.0, "timestep": 3}) == {"final/gain": 1.0, "timestep": 3}
    assert by_stage({"loss/dynamics_train_loss": 1.0, "timestep": 3}) == {
        "dynamics/loss/dynamics_train_loss": 1.0,
        "dynamics/step": 3,
    }


@contextlib.contextmanager
def _nobody():
    """A port that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    yield port


@contextlib.contextmanager
def _silence():
    """A port where a connection is never answered."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        yield bound.getsockname()[1]


@contextlib.contextmanager
def _another_server():
    """A web server that is not W&B's."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        do_POST = do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


_START_AND_LOG = """
import sys, time
from doof_ext.config import Config, resolve
from doof_ext.experiment import wandb_logger
import wandb
started = time.monotonic()
run = wandb_logger.start(resolve(Config()), sys.argv[1], sys.argv[1] + "/ledger")
print(f"started in {time.monotonic() - started}")
run.resume_from(0)
run.log({"a": 1.5})
run.finish()
"""


@pytest.mark.parametrize("server", [_nobody, _silence, _another_server])
def test_with_a_key_but_no_way_to_the_server_it_goes_on_offline(tmp_path, server):
    with server() as port:
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "WANDB_API_KEY": "0123456789" * 4,
            "WANDB_BASE_URL": f"http://127.0.0.1:{port}",
        }
        argv = [sys.executable, "-c", _START_AND_LOG, str(tmp_path)]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said, took = done.stdout.splitlines()
    assert said.startswith("W&B cannot be reached (") and "logged offline" in said and len(said) < 250
    assert float(took.removeprefix("started in ")) < 15  # a guard against waiting for a network, not a benchmark
    rows, _ = _read(tmp_path)
    assert [row["a"] for row in rows.values()] == [1.5]
    run_id = json.loads((tmp_path / "ledger").read_text().splitlines()[0])["id"]
    assert list(tmp_path.glob(f"wandb/offline-run-*-{run_id}"))
