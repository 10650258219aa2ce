"""Downloads of large files through Xet: what the views of a file come to, and who may have them."""

from __future__ import annotations

import hashlib
import io
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.client.sync import push
from hub.errors import Unavailable
from hub.manifest import FileEntry
from hub.refs import AdapterName
from hub.registry import service
from hub.registry.values import StoredFile
from hub.settings import ClientSettings
from hub.web.hf import xet_reads
from hub.web.hf.xet_reads import MIN_FILE_BYTES
from hub.web.http.file_parts import FilePart
from hub.web.http.limits import FAILED_LOGINS_PER_MINUTE
from hub.web.xet.packs import CHUNKS, PACK_BYTES, pack_bytes, pack_parts, packed_size, pieces
from hub.web.xet.xorb import MAX_CHUNK_BYTES, read_chunks
from tests.hf.conftest import Wire
from tests.hf.counting_proxy import counting_proxy
from tests.hf.large_adapter import large_adapter
from tests.hf.test_wire import ask
from tests.hf.threaded_app import threaded_app

CHUNK, PACK = MAX_CHUNK_BYTES, PACK_BYTES
CONTENT = random.Random(9).randbytes(10 * CHUNK)


def stored(size: int) -> StoredFile:
    """Return a file of `size` random bytes."""

    def read(start: int, stop: int) -> Iterator[bytes]:
        yield CONTENT[start:stop]

    return StoredFile(FileEntry("w", size, "0" * 64), None, "0" * 40, open=read)


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 9 * CHUNK + 5])
def test_a_pack_unpacks_to_the_file(size: int) -> None:
    file = stored(size)
    whole = b"".join(pack_bytes(file, 0, 0, packed_size(size, 0)))
    assert len(whole) == packed_size(size, 0)
    assert b"".join(read_chunks(io.BytesIO(whole))) == b"".join(file.open(0, size))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_range_of_a_pack_is_that_part_of_it(data: st.DataObject) -> None:
    size = 2 * CHUNK + 100
    whole = b"".join(pack_bytes(stored(size), 0, 0, packed_size(size, 0)))
    start = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(start + 1, len(whole)))
    assert b"".join(pack_bytes(stored(size), 0, start, stop)) == whole[start:stop]


def test_the_last_pack_holds_the_rest() -> None:
    assert packed_size(PACK, 0) == PACK + CHUNKS * 8
    assert packed_size(PACK + 1, 0) == PACK + CHUNKS * 8
    assert packed_size(PACK + 1, 1) == 1 + 8
    assert packed_size(PACK, 1) == 0
    assert packed_size(PACK, 7) == 0


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of two chunks and a bit."""
    path = tmp_path_factory.mktemp("on-disk") / "blob"
    path.write_bytes(CONTENT[: 2 * CHUNK + 100])
    return path


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_parts_of_a_pack_are_its_bytes(on_disk: Path, data: st.DataObject) -> None:
    """A server that sends files itself and one that doesn't send the same."""
    size = on_disk.stat().st_size
    start = data.draw(st.integers(0, packed_size(size, 0) - 1))
    stop = data.draw(st.integers(start + 1, packed_size(size, 0)))
    content = on_disk.read_bytes()
    with on_disk.open("rb") as file:
        parts = list(pack_parts(file, pieces(size, 0, start, stop)))
    sent = b"".join(content[part.start : part.stop] if isinstance(part, FilePart) else part for part in parts)
    assert sent == b"".join(pack_bytes(stored(size), 0, start, stop))


@pytest.fixture(scope="module")
def large(wire: Wire, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A private adapter of 70 MB: five packs."""
    wire.namespace("large")
    folder = large_adapter(tmp_path_factory.mktemp("large"), 70_000_000, seed=5)
    wire.server.cli("push", str(folder), "large/one", "--private")
    return "large/one", folder / "adapter_model.safetensors"


def test_the_stock_client_reads_large_files_so(wire: Wire, large: tuple[str, Path], tmp_path: Path) -> None:
    name, weights = large
    code = "import sys; from huggingface_hub import hf_hub_download as h; print(h(sys.argv[1], sys.argv[2]))"
    with counting_proxy(wire.url) as counter:
        env = wire.client_env(tmp_path) | {"HF_ENDPOINT": counter.url}
        command = [sys.executable, "-c", code, name, weights.name]
        done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
        packs = [seen for seen in counter.seen if "/packs" in seen.path]
        assert len(packs) >= 2
        assert not [seen for seen in counter.seen if seen.method == "GET" and "/resolve/" in seen.path]
    found = Path(done.stdout.strip())
    assert hashlib.sha256(found.read_bytes()).digest() == hashlib.sha256(weights.read_bytes()).digest()
    assert wire.native("GET", f"/adapters/{name}/versions/v1")["downloads"] == 1


def test_a_part_is_described_with_its_offset(wire: Wire, large: tuple[str, Path]) -> None:
    name, weights = large
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    token = json.loads(ask(wire, "GET", f"/api/models/{name}/xet-read-token/main")[2])["accessToken"]
    path = f"/api/xet/read/v1/reconstructions/{sha256}"
    part = json.loads(
        ask(wire, "GET", path, None, Authorization=f"Bearer {token}", Range=f"bytes={PACK + 10}-{PACK + 19}")[2]
    )
    assert part["offset_into_first_range"] == 10
    assert [term["unpacked_length"] for term in part["terms"]] == [PACK]
    whole = json.loads(ask(wire, "GET", path, None, Authorization=f"Bearer {token}")[2])
    assert sum(term["unpacked_length"] for term in whole["terms"]) == weights.stat().st_size
    beyond = ask(wire, "GET", path, None, Authorization=f"Bearer {token}", Range="bytes=999999999-")
    assert beyond[0] == 416


def test_only_those_who_may_read_get_a_token_or_bytes(wire: Wire, large: tuple[str, Path], tmp_path: Path) -> None:
    name, weights = large
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert ask(wire, "GET", f"/api/models/{name}/xet-read-token/main", Authorization="")[0] == 401
    reader = f"Bearer {wire.reader_token}"
    assert ask(wire, "GET", f"/api/models/{name}/xet-read-token/main", Authorization=reader)[0] == 404
    wire.server.cli("push", str(large_adapter(tmp_path / "other", 4_000)), "large/other")
    public = json.loads(ask(wire, "GET", "/api/models/large/other/xet-read-token/main", Authorization="")[2])
    path = f"/api/xet/read/v1/reconstructions/{sha256}"
    assert ask(wire, "GET", path, Authorization=f"Bearer {public['accessToken']}")[0] == 404
    assert ask(wire, "GET", path)[0] == 401
    assert ask(wire, "GET", "/api/xet/read/v1/packs?ticket=made-up&number=0", Authorization="")[0] == 403


def test_small_files_are_read_plainly(wire: Wire, large: tuple[str, Path]) -> None:
    name, weights = large
    entries = json.loads(ask(wire, "GET", f"/api/models/{name}/tree/main")[2])
    offered = {entry["path"] for entry in entries if "xetHash" in entry}
    assert offered == {weights.name}
    assert all(entry["size"] < MIN_FILE_BYTES for entry in entries if entry["path"] not in offered)


def test_an_address_ends_with_the_token_that_it_was_given_to(wire: Wire, large: tuple[str, Path]) -> None:
    name, weights = large
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    made = wire.native("POST", "/tokens", {"name": "short-lived", "scopes": ["read"]})
    bearer = f"Bearer {made['secret']}"
    token = json.loads(ask(wire, "GET", f"/api/models/{name}/xet-read-token/main", Authorization=bearer)[2])
    path = f"/api/xet/read/v1/reconstructions/{sha256}"
    told = json.loads(ask(wire, "GET", path, Authorization=f"Bearer {token['accessToken']}")[2])
    address = next(iter(told["fetch_info"].values()))[0]["url"].removeprefix(wire.url)
    assert ask(wire, "GET", address, Authorization="", Range="bytes=0-9")[0] == 206
    wire.native("DELETE", f"/tokens/{made['id']}")
    # What a worker found out of an address holds for a moment.
    for _ in range(100):
        status = ask(wire, "GET", address, Authorization="", Range="bytes=0-9")[0]
        if status != 206:
            break
        time.sleep(0.2)
    assert status == 403


def test_what_the_client_reports_is_dropped_and_is_no_failed_login(wire: Wire) -> None:
    for _ in range(FAILED_LOGINS_PER_MINUTE + 5):
        status, _headers, body = ask(
            wire, "POST", "/v1/telemetry", b'{"event": "xet_download_summary"}', Authorization="Bearer .eJw9"
        )
        assert (status, body) == (204, b"")
    assert ask(wire, "GET", "/api/whoami-v2")[0] == 200


def test_a_download_that_can_not_be_counted_is_sent_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise Unavailable("the database is busy")

    monkeypatch.setattr(xet_reads, "MIN_FILE_BYTES", 1)
    weights = large_adapter(tmp_path / "adapter", 4_000) / "adapter_model.safetensors"
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    with threaded_app(tmp_path / "data") as server:
        server.registry.namespaces.create(server.registry.tokens.authenticate(server.token), "task")
        push(weights.parent, AdapterName("task", "qa"), ClientSettings(server.url, server.token, tmp_path / "cache"))
        wire = Wire(server, "")  # type: ignore[arg-type]
        monkeypatch.setattr(service.Versions, "count_download", refuse)
        plain = ask(wire, "GET", f"/task/qa/resolve/main/{weights.name}")
        token = json.loads(ask(wire, "GET", "/api/models/task/qa/xet-read-token/main")[2])["accessToken"]
        path = f"/api/xet/read/v1/reconstructions/{sha256}"
        described = ask(wire, "GET", path, Authorization=f"Bearer {token}")
    assert (plain[0], plain[2]) == (200, weights.read_bytes())
    assert (described[0], len(json.loads(described[2])["terms"])) == (200, 1)
    assert caplog.text.count("a download was not counted: the database is busy") == 2
