"""README.md and the pages in docs/: their links lead somewhere, and what they mark as tested runs.

A fence after the line ``<!-- tested -->`` is run as it is; after ``<!-- tested with: FLAGS -->`` each of its commands
is run with FLAGS added, which make it small. All run in one temporary folder, page after page: a page may use what an
earlier fence has made.
"""

import importlib.metadata
import importlib.util
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import needs_report
from packaging.specifiers import SpecifierSet

from doof_ext.config import PRESETS, BaselineConfig, Config
from doof_ext.config.rules import flag, rules_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = "import sys; from doof_ext.cli import main; sys.exit(main())"  # what the installed `doof` calls
FENCE = re.compile(r"(?:^<!-- (?P<mark>tested[^\n]*?) -->\n+)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def _fences(page):
    return [match.groupdict() for match in FENCE.finditer(page.read_text(encoding="utf-8"))]


def _prose(page):
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def _anchors(page):
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", _prose(page), re.M)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def _arguments(line, extra):
    """A command line of a page as this interpreter runs it."""
    program, *arguments = shlex.split(line, comments=True)
    if program == "doof":
        return [sys.executable, "-W", "ignore", "-c", COMMAND, *arguments, *extra]
    assert program in ("python", ".venv/bin/python"), line
    script, *arguments = arguments
    return [sys.executable, "-W", "ignore", str(ROOT / script), *arguments, *extra]


def _tested():
    for page in PAGES:
        for fence in _fences(page):
            if fence["mark"] is None:
                continue
            mark, _, extra = fence["mark"].partition(" with: ")
            assert mark == "tested", f"{page.name}: {fence['mark']}"
            if fence["kind"] == "python":
                yield page, fence["text"], [sys.executable, "-W", "ignore", "-c", fence["text"]]
            else:
                for line in fence["text"].splitlines():
                    yield page, line, _arguments(line, shlex.split(extra))


def test_the_readme_has_at_most_130_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


@each_page
def test_every_relative_link_and_anchor_exists(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in _anchors(linked), target


@each_page
def test_every_path_that_is_named_exists(page):
    folders = "doof_ext|run_example|studies|benchmarks|docs|tools|results"
    for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", _prose(page)):
        assert (ROOT / path).exists(), path


@each_page
def test_every_flag_that_is_named_exists(page):
    sources = [*(ROOT / "doof_ext" / "cli").glob("*.py"), *(ROOT / "run_example").glob("*.py")]
    known = {found for path in sources for found in re.findall(r'"(--[\w-]+)"', path.read_text(encoding="utf-8"))}
    known |= {flag(name) for of in (Config, BaselineConfig) for name in rules_of(of)}
    known |= {"--help", "--doof-FLAG", "--doof-"}
    text = "\n".join(line for line in page.read_text(encoding="utf-8").splitlines() if "<!--" not in line)
    for found in re.findall(r"(?<![\w|-])--[a-zA-Z][\w-]*", text):
        assert found in known or found.replace("--doof-", "--") in known, found


@each_page
def test_every_python_block_compiles(page):
    for fence in _fences(page):
        if fence["kind"] == "python":
            compile(fence["text"], page.name, "exec")


@needs_report
def test_what_is_marked_as_tested_runs(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    pages = set()
    for page, text, command in _tested():
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{page.name}: {text}\n{done.stderr}"
        pages.add(page.name)
    assert {"README.md", "data.md", "deploy.md", "own-task.md", "report.md", "uncertainty.md"} <= pages
    assert list(tmp_path.glob("log/*/*/*/result/summary.json")) and (tmp_path / "report" / "report.html").is_file()


def test_the_reference_names_what_there_is():
    for name in re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.M):
        pkgutil.resolve_name(name)


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert f": {page.name}\n" in navigation and (page.name == "index.md" or f"docs/{page.name}" in _prose(PAGES[0]))


@pytest.mark.parametrize(
    ("row", "setting"),
    [
        ("steps of a recipe dataset", "dataset_steps"),
        ("most epochs of dynamics training (stages 1 and 4)", "dynamics_epochs"),
        ("epochs of pretraining", "epoch"),
        ("epochs of stage 2", "explore_epochs"),
        ("online steps", "online_steps"),
        ("epochs of stage 5", "finetune_epochs"),
        ("gradient steps of an epoch", "step_per_epoch"),
        ("epochs of stage 4, exactly", "finetune_dynamics_epochs"),
        ("gradient steps of an epoch of stage 4", "finetune_dynamics_steps"),
        ("start states per rollout", "rollout_batch_size"),
        ("episodes per evaluation", "eval_episodes"),
        ("episodes of each policy once more at the end", "final_episodes"),
    ],
)
def test_the_presets_in_the_docs_are_the_codes(row, setting):
    defaults = {"dataset_steps": "D4RL's", "dynamics_epochs": "no cap", "step_per_epoch": 1000, "eval_episodes": 10}
    defaults["finetune_dynamics_epochs"] = "as its rule decides"
    values = [preset.get(setting, defaults.get(setting)) for preset in PRESETS.values()]
    cells = " | ".join(value if isinstance(value, str) else f"{value:,}".replace(",", " ") for value in values)
    assert f"| {row} | {cells} |" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def _pins(name, python):
    """The versions that a requirements file names for a version of Python, by normalised name."""
    found = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        pin, _, marker = line.partition(";")
        if "==" in pin and not pin.startswith("#"):
            package, version = pin.split("==")
            if not marker or (python < (3, 11)) == ("<" in marker):
                assert found.setdefault(re.sub(r"[-_.]+", "-", package).lower(), version.strip()) == version.strip()
    return found


def test_the_users_constraints_are_what_the_tests_run_with():
    """Names a version of each package that doof_ext and its users' extras ask for; from 3.11 on the lock's."""
    tested, metadata = _pins("requirements.lock", (3, 11)), (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = metadata.partition("[project.optional-dependencies]")
    users = re.compile(r"(minari|adroit|report|render|deploy|tune) = ")
    extras = [line for line in project[2].splitlines() if users.match(line)]
    dependencies = project[0].partition("dependencies = [")[2].partition("]\n")[0]
    asked = re.findall(r'"([\w-]+)(?:\[[\w,]+\])?[<>=]', dependencies + "".join(extras))
    assert len(asked) > 15
    for python in ((3, 10), (3, 11)):
        pinned = _pins("constraints.txt", python)
        assert set(asked) <= set(pinned)
        if python == (3, 11):
            assert {n: v for n, v in pinned.items() if n in tested} == {n: tested[n] for n in pinned if n in tested}


def test_the_lock_is_for_every_python_3_11():
    """Debian 12 has 3.11.2: a package that asks for a later one ends `make test` there before it begins."""
    installed = {re.sub(r"[-_.]+", "-", of.name).lower(): of for of in importlib.metadata.distributions()}
    for name in _pins("requirements.lock", (3, 11)).keys() & installed.keys():
        asked = installed[name].metadata.get("Requires-Python") or ""
        assert SpecifierSet(asked).contains("3.11.0"), (name, asked)


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings_handlers")),
    reason="the docs' tools are not installed",
)
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', path.read_text("utf-8"))
        assert not [tag for tag in loaded if 'rel="canonical"' not in tag], path
