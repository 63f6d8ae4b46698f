"""The benchmarks run; their times are nobody's business here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_engine_benchmark_runs_at_small_sizes(tmp_path):
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(ROOT / "benchmarks" / "bench_engine.py"),
        "--small",
        "--json",
        str(tmp_path / "engine.json"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "engine.json").read_text())
    works = [
        "sac_step",
        "rollout",
        "epoch",
        "mobile_step",
        "dynamics_step",
        "buffer_sample",
        "load_1e6",
        "dynamics_epoch",
        "finetune_dynamics",
    ]
    assert [row["work"] for row in report["rows"]] == works
    assert {"kit", "machine", "threads", "device", "matmul_precision", "peak_memory_mib"} < set(report)
    assert all(row["ours"] > 0 and (row["kit"] is None or row["kit"] > 0) for row in report["rows"])
    assert set(report["epoch_seconds"]) == {"sac", "rollout", "evaluation", "logging", "checkpoint", "rest"}


def test_the_checkpoint_benchmark_runs_at_small_sizes():
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "bench_checkpoint.py"), "--small"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and "% of the time" in done.stdout, done.stderr


def test_the_benchmark_of_a_session_runs_at_small_sizes():
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "bench_act.py"), "--small"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and done.stdout.count(" us in 99 %") == 8, done.stderr


def test_the_benchmark_of_denormals_runs_at_small_sizes(tmp_path):
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "bench_denormals.py"), "--repeats", "1"]
    command += ["--starts", "100", "--json", str(tmp_path / "denormals.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "denormals.json").read_text())
    assert report["kept"]["denormal_moments"] > 1_000 and report["flushed"]["denormal_moments"] == 0


def test_the_docs_denormals_are_the_reports():
    page = (ROOT / "docs" / "speed.md").read_text()
    report = json.loads((ROOT / "benchmarks" / "denormals.json").read_text())
    for name, label in (("sac_step", "SAC step"), ("rollout", "rollout, 10 000 starts × 5")):
        kept, flushed = (report[which][name] for which in ("kept", "flushed"))
        assert f"| {label} | {1e3 * kept:.1f} | {1e3 * flushed:.1f} | {kept / flushed:.2f} |" in page


def test_the_benchmark_of_the_floor_runs(tmp_path):
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "bench_floor.py"), "--repeats", "1"]
    command += ["--threads", "1", "--matmul-precision", "highest", "--json", str(tmp_path / "floor.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    (table,) = json.loads((tmp_path / "floor.json").read_text())["tables"]
    assert [row["work"] for row in table["rows"]] == ["sac_step", "rollout_step", "ensemble_step"]
    assert all(min(row["products"], row["floor"], row["ours"]) > 0 for row in table["rows"])


def test_the_docs_floor_is_the_reports():
    page = (ROOT / "docs" / "speed.md").read_text()
    report = json.loads((ROOT / "benchmarks" / "floor.json").read_text())
    labels = {"rollout_step": "rollout, 2 000 rows, a step"}
    for table in report["tables"]:
        for row in table["rows"]:
            alone, floor, mine = (row[name] for name in ("products", "floor", "ours"))
            work = labels.get(row["work"]) or {**_LABELS, "ensemble_step": _LABELS["dynamics_step"]}[row["work"]]
            times = (
                f"{1e3 * alone:.2f} | {1e3 * floor:.2f} | {floor / alone:.2f} | {1e3 * mine:.2f} | {mine / floor:.2f}"
            )
            assert f"| {table['threads']} | {table['matmul_precision']} | {work} | {times} |" in page


_LABELS = {
    "sac_step": "SAC step",
    "rollout": "rollout, 50 000 starts × 5",
    "epoch": "pretraining epoch, rollout length 5, with evaluation",
    "mobile_step": "MOBILE step, ten samples of five elites",
    "dynamics_step": "ensemble training step",
    "dynamics_epoch": "epoch of dynamics training, 1e6 rows",
    "finetune_dynamics": "epoch of stage 4, 1 000 steps",
    "buffer_sample": "batch of 256",
    "load_1e6": "loading 1e6 transitions",
}


@pytest.mark.parametrize("of", ["", "_avx512", "_medium"])
@pytest.mark.parametrize("threads", ["1_thread", "2_threads"])
def test_the_docs_speed_is_the_reports(threads, of):
    page = (ROOT / "docs" / "speed.md").read_text()
    report = json.loads((ROOT / "benchmarks" / f"engine_{threads}{of}.json").read_text())
    assert report["machine"] in page and report["kit"] == "offlinerlkit"
    assert report["matmul_precision"] == ("medium" if of == "_medium" else "highest")
    for row in report["rows"]:
        times = (row["kit"], row["ours"], row["bound"])
        kits, ours, products = ("" if s is None else f"{1e3 * s:.0f}" if s >= 0.1 else f"{1e3 * s:.3g}" for s in times)
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.1f}"
        bound = "" if row["bound"] is None else f"{row['ours'] / row['bound']:.2f}"
        assert f"| {_LABELS[row['work']]} | {kits} | {ours} | {ratio} | {products} | {bound} |" in page
    parts = report["epoch_seconds"].values()
    shares = " | ".join(f"{100 * part / sum(parts):.1f} %" for part in parts)
    label = {"": "", "_avx512": ", AVX-512", "_medium": ", at medium"}[of]
    assert f"| {report['threads']}{label} | {shares} |" in page


def test_the_docs_steps_of_baselines_are_the_reports():
    page = (ROOT / "docs" / "baselines.md").read_text()
    report = json.loads((ROOT / "benchmarks" / "baselines.json").read_text())
    assert report["machine"] in page and report["threads"] == 1
    for algo, found in report["milliseconds"].items():
        assert f"| `{algo}` | {found['corl']:.1f} | {found['ours']:.1f} | {found['ratio']:.1f} |" in page


def test_the_docs_table_of_cql_beside_corl_is_the_reports():
    page = (ROOT / "docs" / "baselines.md").read_text()
    report = json.loads((ROOT / "benchmarks" / "cql_beside_corl.json").read_text())
    assert f"a mean reward of {report['mean_reward']:.2f}" in page
    for theirs, mine in zip(report["rows"]["corl"], report["rows"]["ours"], strict=True):
        cells = [f"{row['score']:.1f} | {row['value']:.1f} | {row['gap']:.1f}" for row in (theirs, mine)]
        assert f"| {theirs['step']} | {cells[0]} | {cells[1]} |" in page
