"""One suite for every blob store: a local folder, and a real S3 server."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.errors import DigestMismatch, FileNotFound, InvalidRequest, Unavailable, UploadNotFound
from hub.registry.storage.opening import open_store
from hub.registry.storage.store import BlobStore, Staged
from tests.support.fault_proxy import Fault, FaultProxy

DATA = os.urandom(200_000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "local":
        return open_store(str(tmp_path / "store"))
    return open_store(request.getfixturevalue("s3_url"))


def send(store: BlobStore, data: bytes) -> str:
    """Send bytes the way that this store takes them from a client, and return the upload's key."""
    key = store.begin(len(data))
    if not store.takes_parts:
        assert store.append(key, 0, io.BytesIO(data), len(data)) == len(data)
        return key
    part_size, parts = store.parts(key, len(data))
    tags = [(part.number, put(part.url, data[(part.number - 1) * part_size :][:part_size])) for part in parts]
    store.join(key, tags)
    return key


def put(url: str, data: bytes) -> str:
    request = urllib.request.Request(url, data=data, method="PUT", headers={"Content-Type": "application/octet-stream"})
    with urllib.request.urlopen(request) as answer:
        return str(answer.headers["ETag"])


def kept(store: BlobStore, data: bytes = DATA) -> str:
    staged = store.stage(io.BytesIO(data), None, len(data), len(data) + 1)
    store.keep(staged)
    store.drop(staged.key)
    return staged.sha256


def everything(store: BlobStore, sha256: str, size: int) -> bytes:
    return b"".join(store.stream(sha256, 0, size))


def leftovers(store: BlobStore) -> list[str]:
    return list(store.stale_uploads(datetime.now(UTC) + timedelta(days=1)))


def test_sent_bytes_become_a_blob_only_when_they_are_kept(store: BlobStore) -> None:
    key = send(store, DATA)
    assert store.size(SHA) is None
    staged = store.verify(key, SHA, len(DATA))
    assert staged == Staged(key, SHA, len(DATA), hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest())
    assert store.size(SHA) is None
    store.keep(staged)
    store.drop(key)
    assert store.size(SHA) == len(DATA)
    assert everything(store, SHA, len(DATA)) == DATA
    assert leftovers(store) == []


def test_bytes_that_are_not_the_named_ones_are_noticed(store: BlobStore) -> None:
    key = send(store, DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(DigestMismatch):
        store.verify(key, SHA, len(DATA))
    with pytest.raises(DigestMismatch):
        store.stage(io.BytesIO(DATA), "0" * 64, len(DATA), 10**6)
    with pytest.raises(DigestMismatch):
        store.stage(io.BytesIO(DATA), SHA, len(DATA) - 1, 10**6)
    store.drop(key)
    assert list(store.blobs()) == []
    assert leftovers(store) == []


def test_keeping_twice_does_no_harm(store: BlobStore) -> None:
    first = store.stage(io.BytesIO(DATA), SHA, len(DATA), 10**6)
    second = store.stage(io.BytesIO(DATA), SHA, len(DATA), 10**6)
    for staged in (first, second, first):
        store.keep(staged)
        store.drop(staged.key)
    assert everything(store, SHA, len(DATA)) == DATA


def test_keeping_what_is_gone_is_an_error_and_no_empty_blob(store: BlobStore) -> None:
    staged = store.stage(io.BytesIO(DATA), SHA, len(DATA), 10**6)
    store.drop(staged.key)
    with pytest.raises(Unavailable):
        store.keep(staged)
    assert store.size(SHA) is None


def test_ranges_are_exact(store: BlobStore) -> None:
    kept(store)
    assert store.read(SHA, 0, 8) == DATA[:8]
    assert store.read(SHA, 199_990, 100) == DATA[199_990:]
    assert b"".join(store.stream(SHA, 5, 70_000)) == DATA[5:70_000]
    assert b"".join(store.stream(SHA, 7, 7)) == b""
    assert store.read(SHA, 0, 0) == b""


def test_empty_blob_is_a_blob(store: BlobStore) -> None:
    empty = hashlib.sha256(b"").hexdigest()
    assert kept(store, b"") == empty
    assert store.size(empty) == 0
    assert everything(store, empty, 0) == b""
    key = send(store, b"")
    assert store.verify(key, empty, 0).size == 0


def test_large_blob_goes_in_pieces(store: BlobStore) -> None:
    data = os.urandom(1024 * 1024) * 17 + b"tail"  # more than one part of 16 MiB
    sha256 = hashlib.sha256(data).hexdigest()
    assert store.verify(send(store, data), sha256, len(data)).git_sha1 is None
    assert kept(store, data) == sha256
    assert hashlib.sha256(everything(store, sha256, len(data))).hexdigest() == sha256


def test_deleted_blob_is_gone_and_deleting_again_is_no_error(store: BlobStore) -> None:
    kept(store)
    store.delete(SHA)
    store.delete(SHA)
    assert store.size(SHA) is None
    with pytest.raises(FileNotFound):
        everything(store, SHA, 10)


def test_listing_tells_names_and_sizes(store: BlobStore) -> None:
    names = {kept(store, data): len(data) for data in (b"one", b"two", DATA)}
    assert {blob.sha256: blob.size for blob in store.blobs()} == names
    now = datetime.now(UTC)
    assert all(abs(now - blob.stored_at) < timedelta(minutes=5) for blob in store.blobs())


def test_abandoned_uploads_are_listed_and_dropped(store: BlobStore) -> None:
    begun, finished = store.begin(10), send(store, DATA)
    found = leftovers(store)
    assert len(found) == 2
    # moto says of every unfinished upload that it began in 2010, so only the other one can be found too young.
    assert finished.partition(":")[0] not in "".join(store.stale_uploads(datetime.now(UTC) - timedelta(hours=1)))
    for key in found:
        store.drop(key)
    assert leftovers(store) == []
    for key in (begun, finished):
        with pytest.raises(UploadNotFound):
            store.verify(key, None, None)


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "0" * 31, "g" * 32, "nonsense:x"])
def test_keys_that_no_store_gave_out_are_unknown(store: BlobStore, key: str) -> None:
    with pytest.raises(UploadNotFound):
        store.offset(key)
    with pytest.raises(UploadNotFound):
        store.verify(key, None, None)


@pytest.mark.parametrize("name", ["", "../x", "A" * 64, "0" * 63])
def test_names_that_are_no_hashes_are_no_blobs(store: BlobStore, name: str) -> None:
    with pytest.raises(FileNotFound):
        store.size(name)


def test_store_says_that_it_can_be_written(store: BlobStore) -> None:
    store.check()
    assert leftovers(store) == []


@pytest.mark.parametrize("location", ["ftp://host/x", "s3:///no-bucket", "s3://bucket?unknown=1", "gs://bucket"])
def test_store_that_is_none_is_refused(location: str) -> None:
    with pytest.raises(InvalidRequest):
        open_store(location)


# Of the local store alone ------------------------------------------------------------------------------------------


def test_looking_whether_an_upload_can_be_resumed_never_stops_its_sender(tmp_path: Path) -> None:
    """Somebody who pushes the same file looks at the upload just when its first sender goes on with it."""
    store = open_store(str(tmp_path / "store"))
    sent, is_over = deque([store.begin(len(DATA))], 1), threading.Event()

    def look() -> int:
        looks = 0
        while not is_over.is_set():
            store.can_resume(sent[0], len(DATA))
            looks += 1
        return looks

    half = len(DATA) // 2
    with ThreadPoolExecutor(2) as pool:
        watchers = [pool.submit(look) for _ in range(2)]
        try:
            for _ in range(100):
                sent.append(key := store.begin(len(DATA)))
                assert store.append(key, 0, io.BytesIO(DATA), half) == half
                assert store.append(key, half, io.BytesIO(DATA[half:]), half) == len(DATA)
                assert store.verify(key, SHA, len(DATA)).sha256 == SHA
        finally:
            is_over.set()
    assert min(watcher.result() for watcher in watchers) > 100


def test_upload_that_is_being_written_is_not_one_to_resume(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    key = store.begin(len(DATA))
    seen: list[bool] = []

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            seen.append(store.can_resume(key, len(DATA)))
            return super().read(1_000)

    assert store.append(key, 0, Slow(DATA), 5_000) == 5_000
    assert len(seen) >= 5
    assert not any(seen)
    assert store.can_resume(key, len(DATA))


# Of S3 alone -------------------------------------------------------------------------------------------------------


@pytest.fixture
def s3(s3_url: str) -> BlobStore:
    return open_store(s3_url)


def test_signed_url_gives_the_blob_as_an_attachment(s3: BlobStore) -> None:
    kept(s3)
    url = s3.signed_url(SHA, 'odd "name"\r\n.safetensors')
    assert url is not None
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == DATA
        assert answer.headers["Content-Disposition"] == 'attachment; filename="odd__name___.safetensors"'
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Range": "bytes=10-19"})) as answer:
        assert (answer.status, answer.read()) == (206, DATA[10:20])


def test_resumed_upload_asks_for_the_missing_parts_only(s3: BlobStore) -> None:
    size = 40 * 1024 * 1024
    key = s3.begin(size)
    part_size, parts = s3.parts(key, size)
    assert [part.number for part in parts] == [1, 2, 3]
    tag = put(parts[1].url, os.urandom(part_size))
    assert [part.number for part in s3.parts(key, size)[1]] == [1, 3]
    assert s3.offset(key) == part_size
    with pytest.raises(InvalidRequest, match="Part 1"):
        s3.join(key, [(1, tag), (2, tag)])


def test_parts_of_a_finished_upload_cannot_be_sent_again(s3: BlobStore) -> None:
    """So nobody swaps the bytes between the hash and the copy."""
    key = s3.begin(len(DATA))
    _, parts = s3.parts(key, len(DATA))
    s3.join(key, [(1, put(parts[0].url, DATA))])
    with pytest.raises(urllib.error.HTTPError):
        put(parts[0].url, b"other bytes")
    assert s3.verify(key, SHA, len(DATA)).sha256 == SHA


@pytest.fixture
def broken_s3(s3_url: str, s3_server: str) -> Iterator[tuple[BlobStore, FaultProxy]]:
    """The same server, behind a proxy that breaks connections."""
    port = int(s3_server.rpartition(":")[2])
    with FaultProxy(port) as proxy:
        yield open_store(s3_url.replace(s3_server, f"http://127.0.0.1:{proxy.port}")), proxy


def test_store_that_resets_every_connection_is_given_up_with_a_clear_error(
    broken_s3: tuple[BlobStore, FaultProxy],
) -> None:
    store, proxy = broken_s3
    proxy.always = Fault(reset_at=0)
    with pytest.raises(Unavailable, match="does not answer"):
        store.stage(io.BytesIO(DATA), SHA, len(DATA), 10**6)
    proxy.always = None
    assert list(store.blobs()) == []


def test_one_reset_is_not_even_noticed(broken_s3: tuple[BlobStore, FaultProxy]) -> None:
    store, proxy = broken_s3
    proxy.script = [Fault(reset_at=0)]
    assert kept(store) == SHA


def test_answer_that_is_cut_off_is_an_error_and_no_short_file(broken_s3: tuple[BlobStore, FaultProxy]) -> None:
    store, proxy = broken_s3
    kept(store)
    proxy.always = Fault(cut_at=50_000)
    with pytest.raises(Unavailable):
        everything(store, SHA, len(DATA))


def test_store_that_is_not_there_is_unavailable(s3_url: str, s3_server: str) -> None:
    with pytest.raises(Unavailable):
        open_store(s3_url.replace(s3_server, "http://127.0.0.1:9")).check()
