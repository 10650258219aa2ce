"""A base is described from a folder, a config, the local Hugging Face cache, or a hub's headers: never its weights."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hub.base.spec import BaseMatch, BaseSpec, compare_identity
from hub.client.bases import open_base
from hub.errors import BaseNotFound, InvalidRequest, NetworkError
from tests.client.tiny_base import TINY_LLAMA, write_base

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubServer:
    """The few routes of a Hugging Face Hub that a look at one model takes."""

    folder: Path
    port: int = 0
    sent_bytes: int = 0
    requests: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def hub_server(folder: Path) -> Iterator[HubServer]:
    state = HubServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._serve()

        def do_GET(self) -> None:
            self._serve()

        def _serve(self) -> None:
            state.requests.append(f"{self.command} {self.path}")
            path = self.path.partition("?")[0]
            if path.startswith("/api/models/tiny/llama"):
                names = sorted(state.folder.iterdir())
                siblings = [{"rfilename": file.name, "size": file.stat().st_size, "blobId": "0"} for file in names]
                answer = {"id": "tiny/llama", "sha": COMMIT, "siblings": siblings}
                self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})
            elif found := re.fullmatch(rf"/tiny/llama/resolve/{COMMIT}/(.+)", path):
                self._file((state.folder / found[1]).read_bytes())
            else:
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

        def _file(self, data: bytes) -> None:
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if not asked:
                self._send(200, data, headers)
                return
            start, end = int(asked[1]), min(int(asked[2]) + 1, len(data))
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            self._send(206, data[start:end], headers)

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
                state.sent_bytes += len(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def own_hf_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "hf"), raising=False)


def test_a_folder_is_known_by_its_weights(tmp_path):
    spec = open_base(write_base(tmp_path / "base"))
    assert spec.identity().weights is not None
    assert spec.parameters == BaseSpec.from_config(TINY_LLAMA).parameters


def test_a_config_alone_gives_the_shapes(tmp_path):
    folder = write_base(tmp_path / "base")
    spec = open_base(folder / "config.json")
    assert spec.shapes == open_base(folder).shapes
    assert spec.weights is None


def test_a_model_on_a_hub_is_known_by_its_headers_and_sketch(tmp_path):
    """More layers and a large vocabulary, so that weights would show in the bytes that were read."""
    folder = write_base(tmp_path / "base", vocab_size=60_000, hidden_size=64, num_hidden_layers=4)
    with hub_server(folder) as hub:
        spec = open_base("tiny/llama", endpoint=hub.url)
        weights = (folder / "model.safetensors").stat().st_size
        assert hub.sent_bytes < weights / 3
    local = open_base(folder)
    assert (spec.id, spec.revision) == ("tiny/llama", COMMIT)
    assert spec.shapes == local.shapes
    assert spec.sketch == local.sketch
    assert compare_identity(local.identity(), spec) in {BaseMatch.SAME_WEIGHTS, BaseMatch.COPY}


def test_another_model_of_equal_shapes_is_told_apart_over_the_hub(tmp_path):
    folder, twin = write_base(tmp_path / "base", seed=1), write_base(tmp_path / "twin", seed=2)
    with hub_server(twin) as hub:
        spec = open_base("tiny/llama", endpoint=hub.url)
    assert compare_identity(open_base(folder).identity(), spec) is BaseMatch.OTHER_WEIGHTS


def test_a_model_in_the_local_hub_cache_asks_nobody(tmp_path):
    folder = write_base(tmp_path / "base")
    snapshot = tmp_path / "hf" / "models--tiny--llama" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    spec = open_base("tiny/llama", offline=True, endpoint="http://127.0.0.1:9")
    assert spec.id == "tiny/llama"
    assert spec.identity().weights == open_base(folder).weights


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "~/nowhere", "not an id", "a/b/c"])
def test_what_is_neither_a_folder_nor_an_id_is_not_looked_up(name):
    with pytest.raises(BaseNotFound, match="Name its folder") as caught:
        open_base(name, endpoint="http://127.0.0.1:9")
    assert caught.value.exit_code == 3


def test_a_model_that_the_hub_does_not_have_is_said_so(tmp_path):
    with hub_server(write_base(tmp_path / "base")) as hub, pytest.raises(BaseNotFound, match=r"\./"):
        open_base("other/model", endpoint=hub.url)


def test_a_hub_that_can_not_be_reached_is_exit_8():
    with pytest.raises(NetworkError, match="folder") as caught:
        open_base("tiny/llama", endpoint="http://127.0.0.1:9")
    assert caught.value.exit_code == 8


def test_offline_names_the_next_step():
    with pytest.raises(BaseNotFound, match="LORAHUB_OFFLINE"):
        open_base("tiny/llama", offline=True)


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_config_file_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InvalidRequest):
        open_base(path)
