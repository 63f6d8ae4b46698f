"""One page on a set of runs: every figure and table, what the runs were on, and how they were made."""

import base64
import io
import os
import shutil
import tempfile
from importlib import resources

from doof_ext.errors import UserError
from doof_ext.files import publish
from doof_ext.report.figures import all_figures, render
from doof_ext.report.runs import check_alike, find_runs
from doof_ext.report.tables import all_tables

_SETTINGS = (  # that readers ask for first
    "preset",
    "algo",
    "uncertainty",
    "penalty_coef",
    "rollout_length",
    "epoch",
    "explore_epochs",
    "online_steps",
    "finetune_epochs",
    "step_per_epoch",
    "dynamics_epochs",
    "batch_size",
    "actor_lr",
    "critic_lr",
    "dynamics_lr",
    "start_ratio",
    "finetune_real_ratio",
    "real_ratio",
    "n_ensemble",
    "n_elites",
)


def write_report(paths, out, mix=False, warn=print) -> str:
    """Writes figures (PNG, SVG), tables (CSV, Markdown, LaTeX) and report.html on all runs in ``paths`` to ``out``.

    Args: log or run directories; the folder, which may exist; whether runs of different presets or provenance may
    stand in one aggregate; where a line on each damaged run goes. Returns: the page's path.
    Raises: UserError where there are no runs, where they may not be mixed, or where ``out`` cannot be written.
    """
    _check_installed()
    runs = find_runs(paths)
    if not mix:
        check_alike(runs)
    for run in runs:
        if run.problem:
            warn(f"{run.directory}: {run.problem}")
    figures, tables = all_figures(runs), all_tables(runs)
    try:
        os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
        with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(out))) as folder:
            os.chmod(folder, 0o755)
            _write_parts(folder, figures, tables)
            page = _page(runs, figures, tables)
            publish(os.path.join(folder, "report.html"), lambda file: file.write(page.encode()))
            shutil.copytree(folder, out, dirs_exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}); choose another --out") from error
    return os.path.join(out, "report.html")


def _check_installed():
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError("figures need matplotlib: pip install 'doof_ext[report]'") from error


def _write_parts(folder, figures, tables):
    for name in ("figures", "tables"):
        os.makedirs(os.path.join(folder, name))
    for figure in figures:
        for kind in ("png", "svg"):
            settings = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 150}
            render(figure, os.path.join(folder, "figures", f"{figure.name}.{kind}"), **settings)
    for table in tables:
        for kind, text in (("csv", table.csv()), ("md", table.markdown()), ("tex", table.latex())):
            with open(os.path.join(folder, "tables", f"{table.name}.{kind}"), "w", encoding="utf-8") as file:
                file.write(text)


def _page(runs, figures, tables):
    from jinja2 import Environment

    template = resources.files("doof_ext.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    finished = [run for run in runs if run.summary]
    shown = [{"figure": figure, "light": _picture(figure, False), "dark": _picture(figure, True)} for figure in figures]
    return (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            runs=runs,
            finished=finished,
            figures=shown,
            tables=tables,
            recipe=[run for run in finished if run.provenance == "recipe"],
            settings=_settings(finished),
            versions=sorted(
                {f"{name} {number}" for run in finished for name, number in run.summary["versions"].items()}
            ),
            minutes=lambda run: sum(stage["seconds"] for stage in run.summary["stages"]) / 60,
        )
    )


def _picture(figure, dark):
    content = io.BytesIO()
    render(figure, content, dark, format="png", dpi=130)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _settings(runs):
    """Rows of (setting, its values over all runs)."""
    rows = []
    for name in _SETTINGS:
        values = list(dict.fromkeys(str(run.settings.get(name)) for run in runs))
        rows.append((name, ", ".join(values)))
    return rows
