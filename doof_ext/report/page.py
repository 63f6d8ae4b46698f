"""One page on a set of runs: every figure and table, their data, settings and versions."""

from __future__ import annotations

import base64
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from doof_ext.errors import UserError
from doof_ext.files import publish
from doof_ext.report.figures import Drawing, all_figures, render
from doof_ext.report.guard_tables import guard_tables
from doof_ext.report.model_returns import model_return_curves
from doof_ext.report.runs import Run, check_alike, find_runs
from doof_ext.report.table import Table
from doof_ext.report.tables import all_tables

_SETTINGS = (  # those that the page lists
    "preset",
    "algo",
    "uncertainty",
    "penalty_coef",
    "rollout_length",
    "epoch",
    "explore_epochs",
    "online_steps",
    "finetune_dynamics_epochs",
    "finetune_dynamics_steps",
    "finetune_epochs",
    "step_per_epoch",
    "dynamics_epochs",
    "eval_episodes",
    "final_episodes",
    "horizon",
    "batch_size",
    "actor_lr",
    "critic_lr",
    "dynamics_lr",
    "guard",
    "start_ratio",
    "finetune_real_ratio",
    "real_ratio",
    "n_ensemble",
    "n_elites",
)


def write_report(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    mix: bool = False,
    warn: Callable[[str], object] = print,
) -> str:
    """Writes figures (PNG, SVG), tables (CSV, Markdown, LaTeX) and report.html.

    Args:
        paths: Log directories or run directories.
        out: The folder to write, which may exist.
        mix: Whether runs of different presets, provenance or physics may be averaged.
        warn: Called with a line on each run that is unfinished or damaged.

    Returns:
        The page's path.

    Raises:
        UserError: There are no runs, they may not be averaged, a package is missing, or ``out`` cannot be written.
    """
    _check_installed()
    runs = find_runs(paths)
    if not mix:
        check_alike(runs)
    for run in runs:
        if run.problem:
            warn(f"{run.directory}: {run.problem}")
    figures = [*all_figures(runs), model_return_curves(runs)]
    guard = guard_tables(runs)
    tables = all_tables(runs)
    try:
        os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
        with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(out))) as folder:
            os.chmod(folder, 0o755)
            _write_parts(folder, figures, [*tables, *guard])
            page = _page(runs, figures, tables, guard)
            publish(os.path.join(folder, "report.html"), lambda file: file.write(page.encode()))
            shutil.copytree(folder, out, dirs_exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}); choose another --out") from error
    return os.path.join(out, "report.html")


def _check_installed() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError("figures need matplotlib: pip install 'doof_ext[report]'") from error


def _write_parts(folder: str, figures: Sequence[Drawing], tables: Sequence[Table]) -> None:
    for name in ("figures", "tables"):
        os.makedirs(os.path.join(folder, name))
    for figure in figures:
        for kind in ("png", "svg"):
            settings: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 150}
            render(figure, os.path.join(folder, "figures", f"{figure.name}.{kind}"), **settings)
    for table in tables:
        for kind, text in (("csv", table.csv()), ("md", table.markdown()), ("tex", table.latex())):
            with open(os.path.join(folder, "tables", f"{table.name}.{kind}"), "w", encoding="utf-8") as file:
                file.write(text)


def _page(runs: Sequence[Run], figures: Sequence[Drawing], tables: Sequence[Table], guard: Sequence[Table]) -> str:
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
            guard=guard,
            recipe=[run for run in finished if run.provenance == "recipe"],
            settings=_settings(finished),
            versions=sorted(
                {f"{name} {number}" for run in finished for name, number in run.results["versions"].items()}
            ),
            minutes=lambda run: sum(stage["seconds"] for stage in run.results["stages"]) / 60,
        )
    )


def _picture(figure: Drawing, dark: bool) -> str:
    content = io.BytesIO()
    render(figure, content, dark, format="png", dpi=130)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _settings(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """(Setting, its values over all runs) for each of _SETTINGS."""
    rows = []
    for name in _SETTINGS:
        values = list(dict.fromkeys(str(run.settings.get(name)) for run in runs))
        rows.append((name, ", ".join(values)))
    return rows
