"""A set's folder: on this machine, from a hub on this machine, from its cache, and from no hub at all."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from clirscale.data import sources
from clirscale.errors import DataError

SHA = "0123456789abcdef0123456789abcdef01234567"
NAME = "organisation/name"
GATED = "organisation/gated"
UNREACHABLE = "http://127.0.0.1:9"
CONTENT = {"de.json": "eins", "en.json": "one", "sub/en.parquet": "two", "script.py": "raise SystemExit"}


class FakeHub(http.server.BaseHTTPRequestHandler):
    """The requests that fetching a pinned snapshot of a dataset makes: the list of files, each file."""

    log: list[str]

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        self.log.append(f"{self.command} {path}")
        if path == f"/api/datasets/{NAME}/revision/{SHA}":  # asked by older clients
            siblings = [{"rfilename": name} for name in CONTENT]
            self.answer(json.dumps({"id": NAME, "sha": SHA, "siblings": siblings}).encode())
        elif path == f"/api/datasets/{NAME}/tree/{SHA}":
            files = [
                {"type": "file", "path": name, "size": len(text), "oid": "0" * 40} for name, text in CONTENT.items()
            ]
            self.answer(json.dumps(files).encode())
        elif path.startswith(begin := f"/datasets/{NAME}/resolve/{SHA}/"):
            self.answer(CONTENT[path.removeprefix(begin)].encode())
        elif GATED in path:
            self.refuse(403, "GatedRepo")
        else:
            self.refuse(404, "RevisionNotFound" if NAME in path else "RepoNotFound")

    def answer(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"')
        self.send_header("X-Repo-Commit", SHA)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def fake_hub():
    """A hub with one open dataset. Gives its address and the list of requests made."""
    handler = type("Handler", (FakeHub,), {"log": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.log
    server.shutdown()
    server.server_close()


SCRIPT = """
import json, sys
from clirscale.data import sources
from clirscale.errors import DataError
try:
    source = sources.folder(*json.loads(sys.argv[1]))
    files = sorted(file for file in source.path.rglob("*") if file.is_file())
    print(json.dumps([source.revision, source.digests(files)]))
except DataError as error:
    print("DataError:", error)
"""


def fetch(cache, endpoint, files=("*.json", "sub/*.parquet"), hub=NAME, revision=SHA, path=None, **environment):
    """Ask for a set in a process of its own, which reads the hub's settings anew; return what it prints."""
    values = {**os.environ, "HF_HOME": str(cache), "HF_ENDPOINT": endpoint}
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        values.pop(name, None)
    command = [sys.executable, "-c", SCRIPT, json.dumps([path, hub, revision, files])]
    done = subprocess.run(command, env=values | environment, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()


def test_a_cache_that_lacks_files_is_completed(fake_hub, tmp_path):
    endpoint, log = fake_hub
    fetch(tmp_path, endpoint, files=["de.json"])
    log.clear()
    assert json.loads(fetch(tmp_path, endpoint, files=["*.json"]))[1].keys() == {"de.json", "en.json"}
    assert [request for request in log if request.startswith("GET /datasets")] == [
        f"GET /datasets/{NAME}/resolve/{SHA}/en.json"
    ]


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_pinned_set_is_fetched_once_and_then_works_offline(fake_hub, tmp_path):
    endpoint, log = fake_hub
    fetched = fetch(tmp_path, endpoint)
    expected = {name: sha256(text) for name, text in CONTENT.items() if name != "script.py"}
    assert json.loads(fetched) == [SHA, expected]
    assert f"GET /datasets/{NAME}/resolve/{SHA}/de.json" in log
    assert not any("script.py" in request for request in log)
    assert fetch(tmp_path, UNREACHABLE) == fetched
    assert fetch(tmp_path, UNREACHABLE, HF_HUB_OFFLINE="1") == fetched


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hub": "organisation/other"}, "there is no such dataset, or it is private"),
        ({"hub": GATED}, "registered users only: ask on its page, then hf auth login"),
        ({"revision": "f" * 40}, f"it has no revision {'f' * 40}"),
        ({"files": ["*.tsv"]}, "it has none of these files"),
    ],
)
def test_what_the_hub_does_not_give(fake_hub, tmp_path, changed, message):
    output = fetch(tmp_path, fake_hub[0], **changed)
    assert output.startswith("DataError:")
    assert message in output
    assert "--local-dir DIR" in output


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_without_a_hub_the_message_says_what_to_place_and_how_to_fetch_it(tmp_path, environment):
    start = time.perf_counter()
    output = fetch(tmp_path / "cache", UNREACHABLE, path=str(tmp_path / "my set"), **environment)
    assert time.perf_counter() - start < 10
    assert output.startswith(f"DataError: {tmp_path}/my set: no such folder; ")
    assert "place these files in it: *.json, sub/*.parquet." in output
    assert (
        f"hf download {NAME} --repo-type dataset --revision {SHA} --include '*.json' --include 'sub/*.parquet' "
        f"--local-dir '{tmp_path}/my set'"
    ) in output


@pytest.mark.parametrize("revision", [None, "main", "v1.0", SHA[:12], SHA.upper()])
def test_a_revision_that_can_move_is_refused(tmp_path, revision):
    with pytest.raises(DataError, match=rf"{NAME}: revision is .*pin it to a commit \(40 hexadecimal digits\)"):
        sources.folder(str(tmp_path / "none"), NAME, revision, ["*.json"])


def test_a_local_folder_comes_before_the_hub(tmp_path):
    source = sources.folder(str(tmp_path), NAME, SHA, ["*.json"])
    assert (source.path, source.revision) == (tmp_path, None)


def test_a_path_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sets").mkdir()
    assert sources.folder("~/sets", None, None, ["*.json"]).path == tmp_path / "sets"


def test_a_misspelt_folder_gets_the_nearest_name(tmp_path):
    (tmp_path / "xquad_r").mkdir()
    with pytest.raises(DataError, match=r"no such folder; did you mean 'xquad_r'\?; place these files in it: de\.json"):
        sources.folder(str(tmp_path / "xquad-r"), None, None, ["de.json"])


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "set").write_text("")
    with pytest.raises(DataError, match="set: is a file; give a folder"):
        sources.folder(str(tmp_path / "set"), NAME, SHA, ["*.json"])


def test_neither_folder_nor_hub():
    with pytest.raises(DataError, match=r"no folder is given \(path\); place these files in one: a\.json, b\.json"):
        sources.folder(None, None, None, ["a.json", "b.json"])


def test_digests_follow_a_change_of_the_file(tmp_path):
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "a.txt"
    source = sources.Source(tmp_path, None)
    for text in ("one", "three"):
        file.write_text(text)
        assert source.digests([file]) == {"sub/a.txt": sha256(text)}


def test_digest_of_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt: cannot be read \(No such file"):
        sources.Source(tmp_path, None).digests([tmp_path / "a.txt"])
