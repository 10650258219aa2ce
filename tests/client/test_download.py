"""Downloads under fault: cut, reset, stalled, damaged, killed, shared by two processes, redirected."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest

from hub.client.cache import Cache
from hub.client.connection import Connection
from hub.client.progress import Observer
from hub.client.transfer import download_blob
from hub.errors import DigestMismatch, NetworkError, StorageFull
from hub.manifest import FileEntry
from hub.settings import ClientSettings
from tests.client.blob_server import blob_server
from tests.support.fault_proxy import Fault, FaultProxy

DATA = random.Random(1).randbytes(2_000_000)
ENTRY = FileEntry("adapter_model.safetensors", len(DATA), hashlib.sha256(DATA).hexdigest())
PATH = "/blob"


class Counter(Observer):
    def __init__(self) -> None:
        self.bytes = 0

    def advance(self, count: int) -> None:
        self.bytes += count


def fetch(url: str, cache: Path, *, token: str | None = None, timeout: float = 5.0, observer: Observer | None = None):
    settings = ClientSettings(endpoint=url, token=token, cache=cache)
    with Connection(settings, timeout=httpx2.Timeout(timeout)) as connection:
        return download_blob(connection, PATH, ENTRY, Cache(cache), observer or Observer(), threading.Event())


def test_a_download_becomes_a_sealed_blob(tmp_path):
    counter = Counter()
    with blob_server(blobs={PATH: DATA}) as server:
        path = fetch(server.url, tmp_path, observer=counter)
        assert path.read_bytes() == DATA
        assert counter.bytes == len(DATA)
        assert fetch(server.url, tmp_path) == path
        assert len(server.requests) == 1, "what is in the cache is not asked for again"
    assert not list((tmp_path / "partial").iterdir())


def test_a_disk_that_fills_up_in_the_last_bytes_leaves_no_short_file(tmp_path):
    """It takes a part of the last write and says so by a number, not by an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with blob_server(blobs={PATH: DATA}) as server:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(DATA) - 100, hard))
        try:
            with pytest.raises(StorageFull):
                fetch(server.url, tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert fetch(server.url, tmp_path).read_bytes() == DATA


def test_interrupted_download_resumes_from_last_byte(tmp_path):
    with blob_server(blobs={PATH: DATA}) as server, FaultProxy(server.port) as proxy:
        proxy.script = [Fault(cut_at=900_000), Fault(cut_at=700_000)]
        assert fetch(proxy.url, tmp_path).read_bytes() == DATA
        starts = [int(text.removeprefix("bytes=").rstrip("-")) for text in server.ranges() if text]
        assert len(starts) == 2
        assert starts == sorted(starts)
        assert starts[0] > 500_000
        resumed = [headers for _, _, headers in server.requests if "range" in headers]
        assert all(headers["if-range"] == f'"{ENTRY.sha256}"' for headers in resumed)


def test_a_reset_connection_is_taken_up_again(tmp_path):
    with blob_server(blobs={PATH: DATA}) as server, FaultProxy(server.port) as proxy:
        proxy.script = [Fault(reset_at=900_000), Fault(reset_at=700_000)]
        assert fetch(proxy.url, tmp_path).read_bytes() == DATA
        assert len(server.requests) == 3


def test_a_line_that_breaks_often_still_gets_through(tmp_path):
    with blob_server(blobs={PATH: DATA}) as server, FaultProxy(server.port) as proxy:
        proxy.always = Fault(cut_at=150_000)  # 14 pieces: more breaks than a download without progress may have
        assert fetch(proxy.url, tmp_path).read_bytes() == DATA
        assert proxy.connections >= 12


def test_a_stalled_download_is_taken_up_again(tmp_path):
    with blob_server(blobs={PATH: DATA}) as server, FaultProxy(server.port) as proxy:
        proxy.script = [Fault(stall_at=1_000_000)]
        assert fetch(proxy.url, tmp_path, timeout=0.3).read_bytes() == DATA


def test_a_byte_flipped_on_the_way_is_fetched_once_more(tmp_path):
    counter = Counter()
    with blob_server(blobs={PATH: DATA}) as server, FaultProxy(server.port) as proxy:
        proxy.script = [Fault(flip_at=1_500_000)]
        assert fetch(proxy.url, tmp_path, observer=counter).read_bytes() == DATA
        assert server.ranges() == [None, None], "a damaged copy is fetched from its first byte"
    assert counter.bytes == len(DATA)


def test_a_copy_damaged_at_its_source_is_refused(tmp_path):
    damaged = bytes([DATA[0] ^ 1]) + DATA[1:]
    with blob_server(blobs={PATH: damaged}) as server, pytest.raises(DigestMismatch) as caught:
        fetch(server.url, tmp_path)
    assert caught.value.exit_code == 6
    assert "lorahub fsck" in caught.value.message
    assert not Cache(tmp_path).has_blob(ENTRY)
    assert not Cache(tmp_path).partial_path(ENTRY.sha256).exists()


@pytest.mark.parametrize("data", [DATA + b"more", DATA[:-5]], ids=["longer", "shorter"])
def test_a_file_of_another_length_is_refused(tmp_path, data):
    with blob_server(blobs={PATH: data}) as server, pytest.raises((DigestMismatch, NetworkError)):
        fetch(server.url, tmp_path)
    assert not Cache(tmp_path).has_blob(ENTRY)


def test_a_partial_file_of_other_content_does_not_survive(tmp_path):
    partial = Cache(tmp_path).partial_path(ENTRY.sha256)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x" * 1000)
    with blob_server(blobs={PATH: DATA}) as server:
        assert fetch(server.url, tmp_path).read_bytes() == DATA
        assert server.ranges() == ["bytes=1000-", None]


def test_a_file_that_changed_at_the_store_is_fetched_from_the_start(tmp_path):
    """If-Range: the store has other bytes under its own ETag than those of the partial file."""
    cache = Cache(tmp_path)
    partial = cache.partial_path(ENTRY.sha256)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"old" * 1000)
    partial.with_name(f"{partial.name}.etag").write_text('"old"')
    with blob_server(blobs={PATH: DATA}, etags={PATH: '"new"'}) as server:
        assert fetch(server.url, tmp_path).read_bytes() == DATA
        assert len(server.requests) == 1


def test_a_busy_registry_is_asked_again_after_its_retry_after(tmp_path):
    with blob_server(blobs={PATH: DATA}, busy=2, retry_after="1") as server:
        begun = time.monotonic()
        assert fetch(server.url, tmp_path).read_bytes() == DATA
        assert time.monotonic() - begun >= 2.0
        assert len(server.requests) == 3


def test_the_token_stays_with_the_registry_when_the_bytes_are_elsewhere(tmp_path):
    with blob_server(blobs={"/store": DATA}) as store, blob_server() as registry:
        registry.redirects[PATH] = f"{store.url}/store"
        fetch(registry.url, tmp_path, token="lhub_canary")
        assert registry.requests[0][2]["authorization"] == "Bearer lhub_canary"
        assert "authorization" not in store.requests[0][2]
        assert "lhub_canary" not in str(store.requests)


def test_a_redirected_download_resumes_with_the_stores_own_etag(tmp_path):
    with blob_server(blobs={"/store": DATA}, etags={"/store": '"of-the-store"'}) as store:
        with FaultProxy(store.port) as proxy, blob_server() as registry:
            proxy.script = [Fault(cut_at=1_000_000)]
            registry.redirects[PATH] = f"{proxy.url}/store"
            assert fetch(registry.url, tmp_path).read_bytes() == DATA
        assert store.requests[1][2]["if-range"] == '"of-the-store"'
        assert store.ranges()[1] is not None


CHILD = """
import sys, threading
from pathlib import Path
from hub.client.cache import Cache
from hub.client.connection import Connection
from hub.manifest import FileEntry
from hub.client.progress import Observer
from hub.settings import ClientSettings
from hub.client.transfer import download_blob
url, cache, size, sha256 = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
with Connection(ClientSettings(url, None, cache)) as connection:
    entry = FileEntry("f", size, sha256)
    print("ready", flush=True)
    download_blob(connection, "/blob", entry, Cache(cache), Observer(), threading.Event())
print("done", flush=True)
"""


def start_child(url: str, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, url, str(cache), str(ENTRY.size), ENTRY.sha256]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"LORAHUB_OFFLINE": ""})


def wait_for_size(path: Path, size: int, seconds: float = 30.0) -> None:
    limit = time.monotonic() + seconds
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < limit, f"{path} did not grow to {size} bytes"
        time.sleep(0.005)


def test_killed_downloads_resume_across_processes(tmp_path):
    """SIGKILL, three times; each process goes on where the last one died, past the lock that it held."""
    partial = Cache(tmp_path).partial_path(ENTRY.sha256)
    with blob_server(blobs={PATH: DATA}) as server, FaultProxy(server.port) as proxy:
        proxy.always = Fault(bytes_per_second=2_000_000)
        reached = 0
        for _ in range(3):
            child = start_child(proxy.url, tmp_path)
            wait_for_size(partial, reached + 200_000)
            child.send_signal(signal.SIGKILL)
            child.wait(10)
            child.stdout.close()
            assert partial.stat().st_size >= reached
            reached = partial.stat().st_size
        assert fetch(proxy.url, tmp_path).read_bytes() == DATA
        starts = [int((text or "bytes=0-")[6:-1]) for text in server.ranges()]
        assert starts == sorted(starts)
        assert starts[-1] >= 600_000


def test_two_processes_fetch_a_blob_once(tmp_path):
    with blob_server(blobs={PATH: DATA}) as server, FaultProxy(server.port) as proxy:
        proxy.always = Fault(bytes_per_second=4_000_000)
        children = [start_child(proxy.url, tmp_path) for _ in range(2)]
        outputs = [child.communicate(timeout=60)[0] for child in children]
        assert [output.split() for output in outputs] == [["ready", "done"]] * 2
        assert len(server.requests) == 1
    assert Cache(tmp_path).has_blob(ENTRY)


def test_two_threads_fetch_a_blob_once_and_the_one_that_waits_says_so(tmp_path):
    class Notes(Observer):
        def __init__(self) -> None:
            self.texts: list[str] = []

        def note(self, text: str) -> None:
            self.texts.append(text)

    notes = Notes()
    with blob_server(blobs={PATH: DATA}) as server, FaultProxy(server.port) as proxy:
        proxy.always = Fault(bytes_per_second=2_000_000)
        threads = [
            threading.Thread(target=fetch, args=(proxy.url, tmp_path), kwargs={"observer": notes}) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(server.requests) == 1
    assert Cache(tmp_path).has_blob(ENTRY)
    assert notes.texts == ["Another process is fetching adapter_model.safetensors: waiting for it."]


def test_a_full_disk_is_named_before_anything_is_fetched(tmp_path):
    huge = 2**60
    with pytest.raises(StorageFull) as caught:
        Cache(tmp_path).check_room(huge)
    assert "LORAHUB_CACHE" in caught.value.message


def test_a_silent_server_ends_in_a_network_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("hub.client.transfer.ATTEMPTS", 2)
    with blob_server(blobs={PATH: DATA}) as server, FaultProxy(server.port) as proxy:
        proxy.always = Fault(stall_at=1)
        with pytest.raises(NetworkError) as caught:
            fetch(proxy.url, tmp_path, timeout=0.2)
    assert caught.value.exit_code == 8
    assert "Try again" in caught.value.message


def test_no_server_is_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr("hub.client.transfer.ATTEMPTS", 1)
    with blob_server() as gone:
        pass
    with pytest.raises(NetworkError, match="lorahub serve"):
        fetch(gone.url, tmp_path)


def test_errors_never_show_the_signature_of_a_store(tmp_path, monkeypatch):
    monkeypatch.setattr("hub.client.transfer.ATTEMPTS", 1)
    with blob_server() as store, blob_server() as registry:
        registry.redirects[PATH] = f"{store.url}/gone?signature=canary"
        with pytest.raises(Exception) as caught:
            fetch(registry.url, tmp_path)
    assert "canary" not in str(caught.value)
