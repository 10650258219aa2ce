"""An S3 server that refuses, stalls, breaks off or loses its answers: a few attempts, then a clear 503, nothing half
stored, and all is well again as soon as it is."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.errors import DigestMismatch, NotFound, QuotaExceeded, Unavailable, UploadNotFound
from hub.registry.rights.access import ANONYMOUS
from hub.registry.storage import s3_client
from hub.registry.storage.opening import open_store
from hub.registry.storage.s3_store import S3Store
from hub.registry.storage.store import BlobStore, Staged
from hub.settings import ServerSettings
from tests.registry.conftest import fresh_database
from tests.registry.world import World, named, ref
from tests.support.s3_faults import S3Fault, S3FaultProxy
from tests.support.threads import at_once

QA = named("task/qa")
DATA = os.urandom(200_000)
SHA = hashlib.sha256(DATA).hexdigest()

# What a push asks of the store, whether its bytes come through the registry or in parts past it.
THROUGH_US = (
    *("CreateMultipartUpload", "UploadPart", "ListParts", "CompleteMultipartUpload", "HeadObject", "CopyObject"),
    *("AbortMultipartUpload", "DeleteObject", "GetObject"),
)
IN_PARTS = ("CreateMultipartUpload", "ListParts", "CompleteMultipartUpload", "GetObject", "HeadObject", "CopyObject")
ANSWERS = {
    "500": {"status": 500, "code": "InternalError"},
    "503": {"status": 503, "code": "SlowDown"},
    "error in a 200": {"status": 200, "code": "InternalError"},
    "reset": {"reset": True},
    "done but lost": {"done": True, "reset": True},
}


@pytest.fixture
def proxy(s3_server: str) -> Iterator[S3FaultProxy]:
    with S3FaultProxy(int(s3_server.rpartition(":")[2])) as made:
        yield made


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts nothing is waited for; how many there are is not touched."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)


@pytest.fixture
def quick_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a second for an answer, not half a minute.  Before `world` opens the store.

    Longer than this process, of which the S3 server is a part, ever stands still to collect its garbage.
    """
    monkeypatch.setattr(s3_client, "READ_TIMEOUT_SECONDS", 1.2)


@pytest.fixture
def url(s3_url: str, s3_server: str, proxy: S3FaultProxy) -> str:
    return s3_url.replace(s3_server, proxy.url)


@pytest.fixture
def store(url: str) -> BlobStore:
    return open_store(url)


@pytest.fixture
def world(url: str, tmp_path: Path, request: pytest.FixtureRequest, proxy: S3FaultProxy) -> Iterator[World]:
    made = World.open(ServerSettings(tmp_path, fresh_database("sqlite", request, tmp_path), url), tmp_path)
    proxy.heal()
    yield made
    made.close()


def push_through_us(world: World, folder: Path) -> int:
    return world.push("task/qa", folder).version.number


def push_in_parts(world: World, folder: Path) -> int:
    """Push as our own client does: the bytes go to signed addresses of the store, in parts."""
    manifest = world.manifest(folder)
    data = {file.sha256: (folder / file.path).read_bytes() for file in manifest.files}
    wanted = [(file.sha256, file.size) for file in manifest.files]
    for sha256, size in world.registry.blobs.missing(world.admin, QA, wanted):
        upload = world.registry.uploads.start(world.admin, QA, sha256, size)
        sent = [(part.number, put(part.url, data[sha256])) for part in upload.parts]
        world.registry.uploads.complete(world.admin, upload.id, sent)
    return world.registry.versions.publish(world.admin, QA, manifest).version.number


def put(url: str, data: bytes) -> str:
    request = urllib.request.Request(url, data, {"Content-Type": "application/octet-stream"}, method="PUT")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.headers["ETag"])


WAYS: dict[str, Callable[[World, Path], int]] = {"through us": push_through_us, "in parts": push_in_parts}


def versions(world: World) -> list[int]:
    try:
        return [version.number for version in world.registry.versions.list(ANONYMOUS, QA)]
    except NotFound:
        return []


def assert_nothing_half_stored(world: World) -> None:
    """What is called a blob has the bytes of its name, and what a row or a version names is there."""
    for blob in world.context.store.blobs():
        data = b"".join(world.context.store.stream(blob.sha256, 0, blob.size))
        assert hashlib.sha256(data).hexdigest() == blob.sha256
    assert {problem.kind for problem in world.registry.upkeep.check().problems} <= {"orphan"}


def assert_whole(world: World, number: int, folder: Path) -> None:
    for path in folder.iterdir():
        stored = world.registry.versions.open_file(ANONYMOUS, ref(f"task/qa@v{number}"), path.name)
        assert b"".join(stored.open(0, stored.entry.size)) == path.read_bytes()


def assert_clean_after_collection(world: World) -> None:
    world.clock.forward(hours=25)
    world.registry.upkeep.collect()
    assert leftovers(world.context.store) == []
    assert world.registry.upkeep.check().ok


def assert_all_is_well_again(world: World, folder: Path, way: str) -> None:
    assert WAYS[way](world, folder) == 1
    assert_whole(world, 1, folder)
    assert_clean_after_collection(world)


def leftovers(store: BlobStore) -> list[str]:
    return list(store.stale_uploads(datetime.now(UTC) + timedelta(days=1)))


def each(operations: tuple[str, ...], answers: list[str]) -> Iterator[tuple[str, S3Fault]]:
    """Every operation with every answer, in an order in which each has been met early."""
    for turn in range(len(answers)):
        for place, operation in enumerate(operations):
            answer = answers[(place + turn) % len(answers)]
            if answer == "error in a 200" and operation in {"HeadObject", "GetObject"}:
                continue  # to HEAD there is no body, and of GET it is the body: hashes are what notices
            yield f"{operation}: {answer}", S3Fault(operation, **ANSWERS[answer])  # type: ignore[arg-type]


def some(operations: tuple[str, ...], answers: list[str]) -> list[tuple[str, S3Fault]]:
    """Every operation once, and every answer."""
    return list(each(operations, answers))[: max(len(operations), len(answers))]


STEPS = {"through us": THROUGH_US, "in parts": IN_PARTS}
FAILURES = ["500", "503", "reset"]
TIDYING = frozenset({"AbortMultipartUpload", "DeleteObject"})


def needed(way: str) -> tuple[str, ...]:
    """The steps without which nothing is stored; the others only tidy up behind them."""
    return tuple(step for step in STEPS[way] if step not in TIDYING)


@pytest.mark.parametrize("way", WAYS)
def test_one_failure_of_a_step_is_not_even_noticed(world: World, proxy: S3FaultProxy, way: str) -> None:
    faults = some(STEPS[way], list(ANSWERS))
    assert fail_once(world, proxy, way, faults) == [name for name, _ in faults]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_no_single_failure_of_any_step_is_noticed(world: World, proxy: S3FaultProxy, way: str) -> None:
    faults = list(each(STEPS[way], list(ANSWERS)))
    assert fail_once(world, proxy, way, faults) == [name for name, _ in faults]


def fail_once(world: World, proxy: S3FaultProxy, way: str, faults: list[tuple[str, S3Fault]]) -> list[str]:
    """Push with each of the faults; return those that happened, once each, and kept nobody from the whole version."""
    passed = []
    for number, (name, fault) in enumerate(faults, start=1):
        proxy.heal()
        once = replace(fault, times=1)
        proxy.faults = [once]
        folder = world.adapter(seed=number, layers=1, hidden=8, rank=number)
        assert WAYS[way](world, folder) == number, name
        assert_whole(world, number, folder)
        if proxy.happened(once) == 1:
            passed.append(name)
    proxy.heal()
    assert_clean_after_collection(world)
    return passed


@pytest.mark.parametrize("way", WAYS)
def test_a_step_that_keeps_failing_is_a_503_and_leaves_nothing_half_stored(
    world: World, proxy: S3FaultProxy, way: str
) -> None:
    faults = some((*needed(way), "*"), FAILURES)
    assert fail_on(world, proxy, way, faults) == dict.fromkeys((name for name, _ in faults), 503)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_any_step_that_keeps_failing_is_a_503_and_leaves_nothing_half_stored(
    world: World, proxy: S3FaultProxy, way: str
) -> None:
    faults = list(each((*needed(way), "*"), FAILURES))
    assert fail_on(world, proxy, way, faults) == dict.fromkeys((name for name, _ in faults), 503)


def fail_on(world: World, proxy: S3FaultProxy, way: str, faults: list[tuple[str, S3Fault]]) -> dict[str, int]:
    """Push with each of the faults, then without; return the statuses of the refusals."""
    refused = {}
    for number, (name, fault) in enumerate(faults, start=1):
        proxy.heal()
        proxy.faults = [fault]
        folder = world.adapter(seed=number, layers=1, hidden=8, rank=number)
        with pytest.raises(Unavailable, match="object store") as caught:
            WAYS[way](world, folder)
        refused[name] = caught.value.status
        assert "Try again" in caught.value.message, name
        asked = proxy.asked.total() if fault.operation == "*" else proxy.asked[fault.operation]
        # The step itself, and as often again what tidies up behind it or looks whether it was done after all.
        assert s3_client.ATTEMPTS <= asked <= 4 * s3_client.ATTEMPTS, name
        proxy.heal()
        assert len(versions(world)) == number - 1, name
        assert_nothing_half_stored(world)
        assert WAYS[way](world, folder) == number, name
        assert_whole(world, number, folder)
    assert_clean_after_collection(world)
    return refused


def test_a_request_is_sent_three_times_and_no_more(store: BlobStore, proxy: S3FaultProxy) -> None:
    proxy.faults = [S3Fault("*", status=503, code="SlowDown")]
    with pytest.raises(Unavailable, match="SlowDown"):
        store.begin(10)
    assert proxy.asked == {"CreateMultipartUpload": 3}


def test_a_refusal_for_good_is_asked_once_and_says_which_step(store: BlobStore, proxy: S3FaultProxy) -> None:
    proxy.faults = [S3Fault("*", status=403, code="AccessDenied")]
    with pytest.raises(Unavailable, match=r"CreateMultipartUpload \(AccessDenied\)"):
        store.begin(10)
    assert proxy.asked == {"CreateMultipartUpload": 1}


def test_an_answer_that_is_no_xml_is_unavailable_like_any_other(store: BlobStore, proxy: S3FaultProxy) -> None:
    """What a captive portal or a wrong endpoint says with a 200."""
    proxy.faults = [S3Fault("*", status=200, code="<")]
    with pytest.raises(Unavailable):
        list(store.blobs())


# Slow ---------------------------------------------------------------------------------------------------------------


def test_slow_answers_are_waited_for(quick_to_give_up: None, world: World, proxy: S3FaultProxy) -> None:
    proxy.faults = [S3Fault("*", delay_seconds=0.05)]
    assert push_through_us(world, world.adapter(layers=1, hidden=8)) == 1


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CopyObject"])
def test_a_store_that_falls_silent_once_is_asked_again(
    quick_to_give_up: None, world: World, proxy: S3FaultProxy, operation: str
) -> None:
    proxy.faults = [S3Fault(operation, times=1, stall=True)]
    assert push_through_us(world, world.adapter(layers=1, hidden=8)) == 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("way", "operation"), [("through us", "*"), ("in parts", "CopyObject"), ("in parts", "*")])
def test_a_store_that_stays_silent_is_given_up(
    quick_to_give_up: None, world: World, proxy: S3FaultProxy, way: str, operation: str
) -> None:
    """With the connection open it would be silent for ever: only our own timeouts end this."""
    folder = world.adapter(layers=1, hidden=8)
    proxy.faults = [S3Fault(operation, stall=True)]
    with pytest.raises(Unavailable, match="does not answer"):
        WAYS[way](world, folder)
    assert max(proxy.asked.values()) <= 2 * s3_client.ATTEMPTS
    proxy.heal()
    assert versions(world) == []
    assert_nothing_half_stored(world)
    assert_all_is_well_again(world, folder, way)


@pytest.mark.timeout(60)
def test_an_answer_that_stops_in_the_middle_is_taken_up_where_it_stopped(
    quick_to_give_up: None, store: BlobStore, proxy: S3FaultProxy
) -> None:
    data = os.urandom(3_000_000)
    keep(store, data)
    proxy.heal()
    proxy.faults = [
        S3Fault("GetObject", times=1, stop_at=2_500_000),
        S3Fault("GetObject", times=1, stop_at=100_000, stall=True),
    ]
    assert store.read(hashlib.sha256(data).hexdigest(), 0, len(data)) == data
    assert proxy.asked == {"GetObject": 3}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("stall", [False, True])
def test_an_answer_that_never_comes_to_its_end_is_no_short_file(
    quick_to_give_up: None, store: BlobStore, proxy: S3FaultProxy, stall: bool
) -> None:
    keep(store, DATA)
    key = store.begin(len(DATA))
    _, parts = store.parts(key, len(DATA))
    store.join(key, [(1, put(parts[0].url, DATA))])
    proxy.heal()
    proxy.faults = [S3Fault("GetObject", stop_at=50_000, stall=stall)]
    with pytest.raises(Unavailable):
        store.read(SHA, 0, len(DATA))
    with pytest.raises(Unavailable):
        store.verify(key, SHA, len(DATA))
    assert proxy.asked == {"GetObject": 6}


def test_an_upload_whose_bytes_can_not_be_read_back_now_is_finished_later(world: World, proxy: S3FaultProxy) -> None:
    """All parts are there: nobody sends them again because the store could not be read in one moment."""
    upload = world.registry.uploads.start(world.admin, QA, SHA, len(DATA))
    sent = [(part.number, put(part.url, DATA)) for part in upload.parts]
    proxy.faults = [S3Fault("GetObject", status=503, code="SlowDown")]
    with pytest.raises(Unavailable):
        world.registry.uploads.complete(world.admin, upload.id, sent)
    proxy.heal()
    assert world.registry.uploads.complete(world.admin, upload.id, sent).done
    assert world.context.store.read(SHA, 0, len(DATA)) == DATA
    assert proxy.asked["UploadPart"] == 0


@pytest.mark.parametrize("operation", sorted(TIDYING))
def test_a_blob_is_stored_although_the_store_does_not_clean_up(
    world: World, proxy: S3FaultProxy, operation: str
) -> None:
    proxy.faults = [S3Fault(operation, status=503, code="SlowDown")]
    world.put(str(QA), DATA)
    assert proxy.asked[operation] >= 1
    proxy.heal()
    assert world.context.store.read(SHA, 0, len(DATA)) == DATA
    assert_clean_after_collection(world)


def test_what_the_quota_has_no_room_for_is_not_stored(world: World) -> None:
    world.namespace("task")
    world.registry.namespaces.set_quota(world.admin, "task", max_bytes=10, max_adapters=None)
    with pytest.raises(QuotaExceeded):
        world.put(str(QA), DATA)
    assert list(world.context.store.blobs()) == []
    assert leftovers(world.context.store) == []


# Conflicts ----------------------------------------------------------------------------------------------------------


def keep(store: BlobStore, data: bytes = DATA) -> Staged:
    staged = store.stage(io.BytesIO(data), None, len(data), len(data) + 1)
    store.keep(staged)
    store.drop(staged.key)
    return staged


CONFLICTS = [(409, "ConditionalRequestConflict"), (409, "OperationAborted"), (412, "PreconditionFailed")]


@pytest.mark.parametrize(("status", "code"), CONFLICTS)
def test_a_conflict_that_passes_is_tried_again(store: BlobStore, proxy: S3FaultProxy, status: int, code: str) -> None:
    proxy.faults = [S3Fault("CopyObject", times=2, status=status, code=code)]
    assert keep(store).sha256 == SHA
    assert store.read(SHA, 0, len(DATA)) == DATA


@pytest.mark.parametrize(("status", "code"), CONFLICTS)
def test_a_conflict_with_a_writer_of_the_same_bytes_is_no_failure(
    store: BlobStore, proxy: S3FaultProxy, status: int, code: str
) -> None:
    """The other one won: the blob is there."""
    fault = S3Fault("CopyObject", status=status, code=code, done=True)
    proxy.faults = [fault]
    assert keep(store).sha256 == SHA
    assert proxy.happened(fault) == 1
    assert store.read(SHA, 0, len(DATA)) == DATA
    assert leftovers(store) == []


@pytest.mark.parametrize(("status", "code"), CONFLICTS)
def test_a_conflict_that_stays_is_a_503_and_no_blob(world: World, proxy: S3FaultProxy, status: int, code: str) -> None:
    folder = world.adapter(layers=1, hidden=8)
    proxy.faults = [S3Fault("CopyObject", status=status, code=code)]
    with pytest.raises(Unavailable, match=code):
        push_in_parts(world, folder)
    assert proxy.asked["CopyObject"] == s3_client.ATTEMPTS
    proxy.heal()
    assert list(world.context.store.blobs()) == []
    assert_nothing_half_stored(world)
    assert_all_is_well_again(world, folder, "in parts")


def test_the_same_bytes_kept_by_many_at_once_are_one_blob(store: BlobStore) -> None:
    at_once(6, lambda _: keep(store))
    assert [(blob.sha256, blob.size) for blob in store.blobs()] == [(SHA, len(DATA))]
    assert leftovers(store) == []


# Abandoned and taken up ---------------------------------------------------------------------------------------------


def test_an_upload_that_failed_after_it_was_joined_is_finished_by_asking_again(
    world: World, proxy: S3FaultProxy
) -> None:
    """Not a byte of the part is sent twice."""
    upload = world.registry.uploads.start(world.admin, QA, SHA, len(DATA))
    sent = [(part.number, put(part.url, DATA)) for part in upload.parts]
    proxy.faults = [S3Fault("CopyObject", status=503, code="SlowDown")]
    with pytest.raises(Unavailable):
        world.registry.uploads.complete(world.admin, upload.id, sent)
    proxy.heal()
    assert world.registry.uploads.complete(world.admin, upload.id, sent).done
    assert proxy.asked["UploadPart"] == 0
    assert world.context.store.read(SHA, 0, len(DATA)) == DATA


def test_a_joined_upload_of_wrong_bytes_is_not_taken_up_by_asking_again(world: World) -> None:
    upload = world.registry.uploads.start(world.admin, QA, SHA, len(DATA))
    sent = [(part.number, put(part.url, DATA[::-1])) for part in upload.parts]
    with pytest.raises(DigestMismatch):
        world.registry.uploads.complete(world.admin, upload.id, sent)
    with pytest.raises(UploadNotFound):
        world.registry.uploads.complete(world.admin, upload.id, sent)
    assert list(world.context.store.blobs()) == []
    assert leftovers(world.context.store) == []


def test_an_abandoned_multipart_upload_is_kept_for_its_lifetime_and_then_dropped(
    world: World, proxy: S3FaultProxy
) -> None:
    """moto dates every unfinished upload to 2010, so only its row keeps garbage collection off it."""
    upload = world.registry.uploads.start(world.admin, QA, SHA, len(DATA))
    put(upload.parts[0].url, DATA)
    assert world.registry.upkeep.collect().uploads == 0
    assert len(leftovers(world.context.store)) == 1
    world.clock.forward(hours=25)
    proxy.faults = [S3Fault("AbortMultipartUpload", status=503, code="SlowDown")]
    with pytest.raises(Unavailable):
        world.registry.upkeep.collect()
    proxy.heal()
    assert world.registry.upkeep.collect().uploads == 1, "what a failing store kept is collected the next time"
    assert leftovers(world.context.store) == []
    assert list(world.context.store.blobs()) == []


# Slowness -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_slow_copy_keeps_no_other_writer_waiting(world: World, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """SQLite has one writer at a time: a push that waits for the store may not be it."""
    first = world.push("task/other", world.adapter(layers=1, hidden=8)).version.number
    copying, go_on, copy = threading.Event(), threading.Event(), S3Store._copy

    def wait_and_copy(store: S3Store, source: str, staged: Staged, *, last: bool) -> bool:
        copying.set()
        assert go_on.wait(60)
        return copy(store, source, staged, last=last)

    monkeypatch.setattr(S3Store, "_copy", wait_and_copy)
    with ThreadPoolExecutor(1) as pool:
        push = pool.submit(WAYS[way], world, world.adapter(seed=1, layers=1, hidden=8))
        try:
            assert copying.wait(30)
            world.registry.versions.yank(world.admin, named("task/other"), first, "while the store copies")
        finally:
            go_on.set()
        assert push.result() == 1
    assert world.registry.upkeep.check().ok


def test_what_was_collected_between_the_copy_and_its_row_is_copied_again(store: BlobStore) -> None:
    """As when the same bytes lay there without a row, for longer than the grace."""
    staged = store.precopy(store.stage(io.BytesIO(DATA), SHA, len(DATA), len(DATA)))
    store.delete(SHA)
    store.keep(staged)
    assert store.read(SHA, 0, len(DATA)) == DATA
