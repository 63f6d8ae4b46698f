"""Which code a number comes from."""

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import resumed

from doof_ext import pipeline
from doof_ext.data.dataset import write_dataset
from doof_ext.data.recipe import record_uniform
from doof_ext.errors import StoppedAfter
from doof_ext.experiment.provenance import commit_of, versions
from doof_ext.tasks import make_env


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


RULE = """
def fallen(obs, act, next_obs):
    return abs(next_obs[:, 1:2]) > {}
"""


@pytest.mark.parametrize(("angle", "told"), [("0.2", 0), ("0.3", 1)])
def test_a_rule_that_was_edited_since_is_named_where_the_run_goes_on(settings, tmp_path, monkeypatch, angle, told):
    monkeypatch.chdir(tmp_path)
    rule = f"rule_of_{angle[-1]}"  # a module is imported once
    Path(f"{rule}.py").write_text(RULE.format("0.2"))
    own = dict(task="InvertedPendulum-v5", env_id="InvertedPendulum-v5", termination=f"{rule}:fallen")
    config = settings(**own, source="hdf5:log.hdf5", dataset_steps=None, stop_after="pretrain")
    write_dataset("log.hdf5", record_uniform(make_env(config.spec).spec, 500, 1))
    with pytest.raises(StoppedAfter) as caught:
        pipeline.run(config)
    Path(f"{rule}.py").write_text(RULE.format(angle))
    pipeline.run(resumed(caught.value.run_directory))
    log = (Path(caught.value.run_directory) / "record" / "consoleout_backup.txt").read_text()
    assert log.count(f"WARNING: module {rule} ") == log.count("results may differ from an uninterrupted run's") == told
