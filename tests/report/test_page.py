"""One command: figures, tables, and a page that a real browser shows without a complaint."""

import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, needs_report

from doof_ext.config.settings import CONTROLS
from doof_ext.errors import UserError
from doof_ext.report.figures import all_figures, finetuning_curves, rounds_curve
from doof_ext.report.page import write_report
from doof_ext.report.runs import find_runs

pytestmark = needs_report
FIGURES = [
    "figure-1",
    "figure-2",
    "figure-3",
    "figure-4",
    "figure-5",
    "figure-6ab",
    "figure-6c",
    "figure-7",
    "figure-8",
    "figure-model-return",
]
TABLES = (2, 3, 6, 7, "distance", "tail", "u", "model-return", "time", "guard", "policy", "ratio", "estimates")


@pytest.fixture(scope="module")
def report(runs_folder, tmp_path_factory):
    """What report_doof.py makes of the runs, one of them unfinished and one damaged: its process and its folder."""
    log, out = tmp_path_factory.mktemp("log") / "log", tmp_path_factory.mktemp("out") / "new" / "report"
    shutil.copytree(runs_folder, log)
    controls = [run.directory for run in find_runs([log]) if run.control == "extra-training" and run.seed == 2]
    os.remove(os.path.join(controls[0], "result", "summary.json"))
    Path(controls[1], "result", "summary.json").write_text('{"half": ')
    command = [sys.executable, str(ROOT / "run_example" / "report_doof.py"), str(log), "--out", str(out)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done, out


def test_every_figure_and_table_is_there(report):
    done, out = report
    assert done.stdout.strip() == str(out / "report.html")
    assert sorted(path.name for path in (out / "figures").iterdir()) == sorted(
        f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")
    )
    assert sorted(path.name for path in (out / "tables").iterdir()) == sorted(
        f"table-{name}.{kind}" for name in TABLES for kind in ("csv", "md", "tex")
    )
    assert sorted(path.name for path in out.iterdir()) == ["figures", "report.html", "tables"]


def test_what_is_wrong_with_a_run_is_named_and_the_rest_is_drawn(report):
    done, out = report
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2 and "unfinished" in lines[0] + lines[1] and "summary.json" in lines[0] + lines[1]
    page = (out / "report.html").read_text()
    assert "unfinished: stage 5" in page and "is no whole JSON file" in page and "13 finished runs of 15" in page


def test_the_page_is_self_contained_and_names_the_datas_source(report):
    page = (report[1] / "report.html").read_text()
    assert not re.findall(r"""(?:src|href|srcset)=["'](?!data:|#)""", page) and "<script" not in page
    assert "these are\nnot D4RL's data" in page and "recipe data (not D4RL" in page
    assert page.count("<img") == len(FIGURES) == page.count('prefers-color-scheme: dark)"')
    assert 'name="viewport"' in page and "mujoco 3" in page and "online steps" in page

    class Alts(html.parser.HTMLParser):
        found = []  # noqa: RUF012

        def handle_starttag(self, tag, attributes):
            if tag == "img":
                self.found.append(dict(attributes)["alt"])

    Alts().feed(page)
    assert all(len(alt) > 20 for alt in Alts.found)


def test_a_real_browser_loads_every_image_without_an_error(report, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    shutil.copy(report[1] / "report.html", tmp_path / "report.html")
    (tmp_path / "look.html").write_text("""<iframe src="report.html"></iframe><pre id="found"></pre><script>
      onload = () => { const page = document.querySelector('iframe').contentDocument;
        const images = [...page.images].map(image => image.complete && image.naturalWidth > 100);
        document.getElementById('found').textContent = JSON.stringify(
          {images, title: page.title, wide: page.documentElement.scrollWidth <= innerWidth}); }</script>
      <style>iframe { width: 380px; height: 800px }</style>""")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-sync",
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={tmp_path / 'user'}",
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
        "--virtual-time-budget=10000",
        "--dump-dom",
        (tmp_path / "look.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = json.loads(re.search(r'<pre id="found">(.*?)</pre>', done.stdout)[1])
    assert found["images"] == [True] * len(FIGURES) and found["title"].startswith("DOOF")
    assert found["wide"], "wider than a phone"
    assert "CONSOLE" not in done.stderr, done.stderr


def test_figures_say_what_is_missing(runs_folder):
    runs = [run for run in find_runs([runs_folder]) if run.arm == "ratio 1" and run.task == "hopper-medium-v2"]
    missing = {drawing.name: drawing.missing for drawing in all_figures(runs)}
    for words in ("a control run (no-online-data) of HP-m", "ratio 0 of HP-m"):
        assert words in missing["figure-6ab"]
    assert "HP-m at ratio 0" in missing["figure-4"] and "--rounds 2" in missing["figure-6c"]
    assert "--distance-task" in missing["figure-5"] and not missing["figure-3"]


def test_the_curves_tell_the_gain_over_each_control_the_strictest_first(runs_folder):
    runs = find_runs([runs_folder])
    gain = {(run.arm, run.seed): run.results["gain"] for run in runs if run.task == "hopper-medium-v2"}
    over = {
        kind: np.mean([gain["ratio 1", seed] - gain[f"control {kind}", seed] for seed in (1, 2)]) for kind in CONTROLS
    }
    drawing = finetuning_curves(runs)
    told = f"{over['no-online-data']:+.1f} over no-online-data, {over['extra-training']:+.1f} over extra-training"
    assert re.search(rf"HP-m \(recipe data\): .*ratio 1 -?\d+\.\d, {re.escape(told)}", drawing.alt)
    assert "a control run (no-online-data) of WK-r" in drawing.missing and "HP-m" not in drawing.missing
    from matplotlib.figure import Figure

    figure = Figure()
    drawing.draw(figure)
    axis = next(axis for axis in figure.axes if axis.get_title().startswith("HP-m"))
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert f"ratio 1 (2 seeds)\n{told.replace(', ', chr(10))}" in labels
    controls = [line for line in axis.lines if line.get_label().startswith("control")]
    assert [line.get_label() for line in controls] == [f"control {kind} (2 seeds)" for kind in CONTROLS]
    assert len({line.get_linestyle() for line in controls}) == 2  # both are grey


def test_a_legend_of_many_arms_is_inside_its_figure_and_the_dotted_line_is_doofs():
    from matplotlib.figure import Figure

    folders = [ROOT / "results" / name for name in ("short/halfcheetah-random-v2", "baselines")]
    runs = find_runs(folders)
    drawing = finetuning_curves(runs)
    figure = Figure(figsize=drawing.size, layout="constrained")
    drawing.draw(figure)
    figure.draw_without_rendering()
    (axis,) = figure.axes
    legend = axis.get_legend().get_window_extent()
    assert legend.y0 >= 0 and legend.y1 <= figure.bbox.height
    before = [run.results["scores"]["pretrained"]["last_10"] for run in runs if run.summary and run.method is None]
    assert [line.get_ydata()[0] for line in axis.lines if line.get_linestyle() == ":"] == [np.mean(before)]


def test_the_score_at_the_end_of_rounds_is_the_last_rounds(runs_folder):
    """Each has three epochs: the last ten of the curve would be those of both rounds."""
    (run,) = (run for run in find_runs([runs_folder]) if run.settings["rounds"] == 2)
    end = run.results["scores"]["finetuned"]["last_10"]
    assert len(run.finetuning()) == 6 and f"ratio 1, 2 rounds {end:.1f}" in rounds_curve([run]).alt


def test_of_unfinished_runs_alone_there_is_a_page_too(runs_folder, tmp_path):
    shutil.copytree(find_runs([runs_folder])[0].directory, tmp_path / "log" / "run")
    (tmp_path / "log" / "run" / "result" / "summary.json").unlink()
    path = write_report([tmp_path / "log"], str(tmp_path / "out"), warn=lambda line: None)
    assert "0 finished runs of 1" in Path(path).read_text()


def test_refusals_are_one_line_and_write_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="no run directories"):
        write_report([tmp_path], str(tmp_path / "out"))
    command = [sys.executable, str(ROOT / "run_example" / "report_doof.py"), str(tmp_path / "none")]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "is no folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_that_cannot_be_written_is_one_line(runs_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another --out"):
        write_report([runs_folder], str(tmp_path / "file" / "report"), warn=lambda line: None)
