"""Which code a number comes from."""

import shutil
import subprocess

import pytest

from doof_ext.experiment.provenance import commit_of, versions


def _git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_checkout_that_the_package_is_the_code_of(tmp_path):
    package, installed = tmp_path / "package", tmp_path / ".venv" / "package"
    for folder in (package, installed):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
    assert commit_of(str(package)) == ""
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "add", "package")
    _git(tmp_path, "commit", "--quiet", "-m", "x")
    commit_of.cache_clear()
    commit = commit_of(str(package))
    assert commit and _git(tmp_path, "rev-parse", "HEAD").startswith(commit)
    assert commit_of(str(installed)) == ""  # somebody else's repository
    (tmp_path / ".gitignore").write_text("vendored/")
    (tmp_path / "vendored").mkdir()
    (tmp_path / "vendored" / "__init__.py").write_text("")
    assert commit_of(str(tmp_path / "vendored")) == ""  # at the top of somebody else's
    (package / "new.py").write_text("x = 1")
    commit_of.cache_clear()
    assert commit_of(str(package)) == f"{commit}-dirty"


def test_versions_are_texts_and_name_what_numbers_depend_on():
    found = versions()
    assert {"python", "doof_ext", "torch", "numpy"} <= set(found) and all(map(str, found.values()))
