"""Fetching D4RL's files, from a real server on this machine."""

import concurrent.futures
import http.server
import threading

import pytest

from doof_ext import data
from doof_ext.data import download as d4rl_files
from doof_ext.data.dataset import first_steps, write_dataset
from doof_ext.errors import UserError
from doof_ext.tasks import TaskSpec, get_spec

SPEC = get_spec("hopper-random-v2")


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.content`` with ranges; breaks off after ``server.break_after`` bytes of an answer."""

    def do_GET(self):
        content, start = self.server.content, 0
        self.server.ranges.append(self.headers.get("Range"))
        if self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Type", self.server.content_type)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.break_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, dataset, monkeypatch):
    """A server of a file with as many steps as the task's should have."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    write_dataset(tmp_path / "content.hdf5", dataset)
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        running.content_type = "application/octet-stream"
        running.content, running.break_after, running.ranges = (tmp_path / "content.hdf5").read_bytes(), None, []
        monkeypatch.setattr("doof_ext.data.download.SERVER", f"http://127.0.0.1:{running.server_port}")
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def spec():
    return TaskSpec(**{**SPEC.__dict__, "dataset_steps": 600})


def _files(tmp_path):
    return sorted(path.name for path in (tmp_path / "d4rl").iterdir())


def test_a_download_arrives_whole_under_d4rls_name(server, tmp_path, spec, dataset):
    loaded = data.load("auto", spec, download=True)
    assert loaded.dataset.sha256() == dataset.sha256()
    assert _files(tmp_path) == ["hopper_random-v2.hdf5"]
    assert data.load("d4rl", spec).dataset.sha256() == dataset.sha256() and len(server.ranges) == 1


def test_a_broken_download_is_continued_where_it_broke(server, tmp_path, spec, dataset):
    server.break_after = 20_000
    with pytest.raises(UserError, match="connection ended after 20000 of"):
        d4rl_files.download(spec)
    assert _files(tmp_path) == ["hopper_random-v2.hdf5.part"]
    with pytest.raises(UserError, match="no D4RL file"):  # half a file is none
        data.load("d4rl", spec)
    server.break_after = None
    path = d4rl_files.download(spec)
    assert server.ranges == [None, "bytes=20000-"] and _files(tmp_path) == ["hopper_random-v2.hdf5"]
    with open(path, "rb") as file:
        assert file.read() == server.content


def test_a_whole_but_unnamed_download_is_not_fetched_again(server, tmp_path, spec):
    (tmp_path / "d4rl").mkdir()
    (tmp_path / "d4rl" / "hopper_random-v2.hdf5.part").write_bytes(server.content)
    d4rl_files.download(spec)
    assert _files(tmp_path) == ["hopper_random-v2.hdf5"]


@pytest.mark.parametrize("wrong", ["not hdf5", "too short"])
def test_a_wrong_file_is_refused_and_nothing_stays(server, tmp_path, spec, dataset, wrong):
    if wrong == "not hdf5":
        server.content = b"<html>gone</html>"
    else:
        write_dataset(tmp_path / "short.hdf5", first_steps(dataset, 300))
        server.content = (tmp_path / "short.hdf5").read_bytes()
    with pytest.raises(UserError, match="is not the file of hopper-random-v2"):
        d4rl_files.download(spec)
    assert not _files(tmp_path)


def test_a_web_page_in_its_place_does_not_cost_what_was_fetched(server, tmp_path, spec):
    server.break_after = 20_000
    with pytest.raises(UserError):
        d4rl_files.download(spec)
    whole, server.content, server.content_type = server.content, b"<html>log in</html>" * 9999, "text/html"
    with pytest.raises(UserError, match="web page"):
        d4rl_files.download(spec)
    server.content, server.break_after, server.content_type = whole, None, "application/octet-stream"
    with open(d4rl_files.download(spec), "rb") as file:
        assert file.read() == whole


def test_two_at_once_fetch_it_once(server, tmp_path, spec):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: d4rl_files.download(spec), range(2)))
    with open(paths[0], "rb") as file:
        assert file.read() == server.content
    assert paths[0] == paths[1] and len(server.ranges) == 1
    assert "hopper_random-v2.hdf5" in _files(tmp_path)


def test_no_network_names_address_and_folder(tmp_path, monkeypatch, spec):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    monkeypatch.setattr("doof_ext.data.download.SERVER", "http://127.0.0.1:9")
    with pytest.raises(UserError) as caught:
        d4rl_files.download(spec)
    for words in ("http://127.0.0.1:9/gym_mujoco_v2/hopper_random-v2.hdf5", str(tmp_path)):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_published_addresses_are_d4rls():
    server = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
    assert (
        d4rl_files.url(get_spec("walker2d-medium-replay-v2"))
        == f"{server}/gym_mujoco_v2/walker2d_medium_replay-v2.hdf5"
    )
    assert d4rl_files.url(get_spec("pen-human-v1")) == f"{server}/hand_dapg_v1/pen-human-v1.hdf5"
    assert d4rl_files.url(TaskSpec("own", "Pendulum-v1", "never")) is None
