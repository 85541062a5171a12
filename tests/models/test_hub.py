"""Checkpoints of the hub: a hub on this machine, its cache, and no hub at all."""

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from hashlib import sha1
from pathlib import Path

import huggingface_hub
import pytest

from clirscale.errors import ModelError
from clirscale.models import hub
from clirscale.models.backbone import fingerprint

from .conftest import config, write_checkpoint

SHA = "0123456789abcdef0123456789abcdef01234567"
NAME = "organisation/name"
UNREACHABLE = "http://127.0.0.1:9"


class FakeHub(http.server.BaseHTTPRequestHandler):
    """The three requests that fetching a snapshot makes: the revision, the list of files, each file."""

    folder: Path
    log: list[str]

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        self.log.append(f"{self.command} {path}")
        names = sorted(file.name for file in self.folder.iterdir())
        if path in (f"/api/models/{NAME}", f"/api/models/{NAME}/revision/main", f"/api/models/{NAME}/revision/{SHA}"):
            self.answer(
                json.dumps({"id": NAME, "sha": SHA, "siblings": [{"rfilename": name} for name in names]}).encode()
            )
        elif path == f"/api/models/{NAME}/tree/{SHA}":
            files = [
                {"type": "file", "path": name, "size": (self.folder / name).stat().st_size, "oid": "0" * 40}
                for name in names
            ]
            self.answer(json.dumps(files).encode())
        elif path.startswith(f"/{NAME}/resolve/{SHA}/") and path.rpartition("/")[2] in names:
            self.answer((self.folder / path.rpartition("/")[2]).read_bytes())
        else:
            self.send_response(404)
            self.send_header(
                "X-Error-Code", "RevisionNotFound" if "/revision/" in path and NAME in path else "RepoNotFound"
            )
            self.send_header("Content-Length", "0")
            self.end_headers()

    def answer(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{sha1(content, usedforsecurity=False).hexdigest()}"')
        self.send_header("X-Repo-Commit", SHA)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def fake_hub(tmp_path):
    """A hub with one model. Gives its address, its folder of files and the list of requests made."""
    folder = tmp_path / "on_the_hub"
    write_checkpoint(folder, "bert")
    (folder / "pytorch_model.bin").write_bytes(b"never fetched")
    handler = type("Handler", (FakeHub,), {"folder": folder, "log": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder, handler.log
    server.shutdown()
    server.server_close()


SCRIPT = """
import sys, time
from clirscale.errors import ModelError
from clirscale.models import hub
start = time.perf_counter()
try:
    folder = hub.snapshot(sys.argv[1], sys.argv[2] or None)
    if "load" in sys.argv:
        from clirscale.config import BackboneConfig
        from clirscale.models.backbone import fingerprint, load_encoder
        where = (sys.argv[1], sys.argv[2] or None)
        config = BackboneConfig("x", "hub", *where, None, None, False, None, "mean", "", "", 40, 80, 1)
        print(fingerprint(config), load_encoder(config).tokenize(["a"], "query"), end=" ")
    print(folder)
except ModelError as error:
    print("ModelError:", error)
print(time.perf_counter() - start)
"""


def snapshot(cache, endpoint, *options, model=NAME, revision="", **environment):
    """Ask for a model in a process of its own, which reads the hub's settings anew; return the answer and seconds."""
    values = {**os.environ, "HF_HOME": str(cache), "HF_ENDPOINT": endpoint}
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        values.pop(name, None)
    command = [sys.executable, "-c", SCRIPT, model, revision, *options]
    done = subprocess.run(command, env=values | environment, capture_output=True, text=True, timeout=120, check=True)
    *lines, seconds = done.stdout.strip().splitlines()
    return "\n".join(lines), float(seconds)


@pytest.mark.slow
def test_a_model_is_fetched_once_and_then_works_offline(fake_hub, tmp_path):
    endpoint, folder, log = fake_hub
    cache = tmp_path / "cache"
    fetched, _ = snapshot(cache, endpoint, "load")
    assert fetched.startswith(fingerprint_of(folder))
    assert fetched.endswith(SHA)
    assert not any("pytorch_model.bin" in request for request in log)
    log.clear()
    assert snapshot(cache, endpoint, revision=SHA)[0].endswith(SHA)
    assert log == []  # a pinned revision in the cache needs no request
    assert snapshot(cache, endpoint, "load", HF_HUB_OFFLINE="1")[0] == fetched
    assert log == []
    without_network, seconds = snapshot(cache, UNREACHABLE)
    assert without_network.endswith(SHA)
    assert seconds < 5


def fingerprint_of(folder):
    (folder / "pytorch_model.bin").unlink(missing_ok=True)
    return fingerprint(config(source="local", path=str(folder)))


def test_unknown_names_are_told_apart_from_no_network(fake_hub, tmp_path):
    unknown_model, _ = snapshot(tmp_path / "cache", fake_hub[0], model="organisation/other")
    assert "the hub has no such model" in unknown_model
    unknown_revision, _ = snapshot(tmp_path / "cache", fake_hub[0], revision="v2")
    assert "the hub has no revision 'v2'" in unknown_revision


def test_a_model_with_pickled_weights_only(fake_hub, tmp_path):
    endpoint, folder, log = fake_hub
    (folder / "model.safetensors").unlink()
    output, _ = snapshot(tmp_path / "cache", endpoint)
    assert "has no model.safetensors" in output
    assert not any("pytorch_model.bin" in request for request in log)


@pytest.mark.parametrize(("revision", "environment"), [("", {}), (SHA, {"HF_HUB_OFFLINE": "1"})])
def test_without_a_hub_the_command_to_fetch_it_comes_within_seconds(tmp_path, revision, environment):
    output, seconds = snapshot(tmp_path, UNREACHABLE, revision=revision, **environment)
    pinned = f" --revision {SHA}" if revision else ""
    assert f"hf download {NAME} config.json tokenizer.json tokenizer_config.json model.safetensors{pinned}" in output
    assert "backbone.source=local backbone.path=DIR" in output
    assert "HF_HUB_OFFLINE=1" in output
    assert seconds < 5


def test_an_incomplete_cache_is_not_taken_for_the_model(tmp_path, monkeypatch):
    repository = tmp_path / f"models--{NAME.replace('/', '--')}"
    snapshot = repository / "snapshots" / SHA
    write_checkpoint(snapshot, "bert")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(SHA)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda *_, **__: (_ for _ in ()).throw(OSError("no route"))
    )
    hub.snapshot.cache_clear()
    assert hub.snapshot(NAME, None) == hub.snapshot(NAME, SHA) == snapshot
    hub.snapshot.cache_clear()
    (snapshot / "model.safetensors").unlink()
    start = time.perf_counter()
    for revision in (None, SHA):
        with pytest.raises(ModelError, match="no route"):
            hub.snapshot(NAME, revision)
    assert time.perf_counter() - start < 1
