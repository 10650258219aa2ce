"""Blobs on their way in, on a local store."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from pathlib import Path

import pytest

from hub.errors import (
    DigestMismatch,
    InvalidRequest,
    QuotaExceeded,
    TooLarge,
    Unavailable,
    UploadNotFound,
    UploadOffsetMismatch,
)
from hub.formats import early_sync
from hub.registry.values import Upload
from tests.registry.world import World, named

QA = named("task/qa")
DATA = os.urandom(300_000)
SHA = hashlib.sha256(DATA).hexdigest()


def stored_files(world: World) -> list[str]:
    root = Path(world.context.settings.store)
    return sorted(path.name for path in root.rglob("*") if path.is_file())


def start(world: World, data: bytes = DATA) -> Upload:
    return world.registry.uploads.start(world.admin, QA, hashlib.sha256(data).hexdigest(), len(data))


def test_upload_in_pieces_is_stored_with_the_last_one(world: World) -> None:
    upload = start(world)
    assert (upload.mode, upload.offset, upload.done) == ("append", 0, False)
    for begin in range(0, len(DATA), 100_000):
        upload = world.registry.uploads.append(world.admin, upload.id, begin, io.BytesIO(DATA[begin : begin + 100_000]))
    assert upload.done
    assert stored_files(world) == [SHA]
    assert world.registry.blobs.missing(world.admin, QA, [(SHA, len(DATA))]) == ()


def test_last_bytes_may_come_twice(world: World) -> None:
    """A client that did not hear the answer asks again, and is told that all is there."""
    upload = start(world)
    world.registry.uploads.append(world.admin, upload.id, 0, io.BytesIO(DATA))
    assert world.registry.uploads.get(world.admin, upload.id).done
    again = world.registry.uploads.append(world.admin, upload.id, len(DATA) - 10, io.BytesIO(DATA[-10:]))
    assert (again.done, again.offset) == (True, len(DATA))
    assert stored_files(world) == [SHA]


def test_two_pushes_of_one_user_do_not_write_into_one_upload(world: World) -> None:
    one, two = start(world), start(world)
    assert one.id != two.id, "nothing came yet, so there is nothing to go on from"
    world.registry.uploads.append(world.admin, one.id, 0, io.BytesIO(DATA[:100]))

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            assert start(world).id != one.id, "somebody is sending it right now"
            return super().read(size)

    assert world.registry.uploads.append(world.admin, one.id, 100, Slow(DATA[100:])).done
    assert world.registry.uploads.append(world.admin, two.id, 0, io.BytesIO(DATA)).done
    assert [name for name in stored_files(world) if len(name) == 64] == [SHA]


def test_no_file_handles_left_costs_no_upload_its_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the server that is busy; nothing is wrong with what came so far."""
    upload = start(world)
    world.registry.uploads.append(world.admin, upload.id, 0, io.BytesIO(DATA[:1000]))

    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("hub.registry.storage.local_store.os.open", fail)
        with pytest.raises(Unavailable, match="file handles"):
            world.registry.uploads.append(world.admin, upload.id, 1000, io.BytesIO(DATA[1000:]))
    assert world.registry.uploads.get(world.admin, upload.id).offset == 1000
    assert world.registry.uploads.append(world.admin, upload.id, 1000, io.BytesIO(DATA[1000:])).done


def test_git_id_of_a_small_blob_is_gits_own(world: World) -> None:
    folder = world.adapter()
    world.push("task/qa", folder)
    by_path = {file.path: file.git_sha1 for file in world.registry.commits.tree(world.admin, QA).files}
    for path in folder.iterdir():
        data = path.read_bytes()
        assert by_path[path.name] == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def test_upload_that_broke_off_goes_on_where_it_stood(world: World) -> None:
    upload = start(world)
    world.registry.uploads.append(world.admin, upload.id, 0, io.BytesIO(DATA[:123_456]))
    resumed = start(world)
    assert (resumed.id, resumed.offset) == (upload.id, 123_456)
    assert world.registry.uploads.append(world.admin, upload.id, 123_456, io.BytesIO(DATA[123_456:])).done


class Dying:
    """A client that is killed after `size` bytes."""

    def __init__(self, data: bytes, size: int) -> None:
        self._stream = io.BytesIO(data[:size])

    def read(self, size: int = -1, /) -> bytes:
        piece = self._stream.read(size)
        if not piece:
            raise ConnectionResetError("gone")
        return piece


def test_what_came_before_the_client_died_is_kept(world: World) -> None:
    upload = start(world)
    assert world.registry.uploads.append(world.admin, upload.id, 0, Dying(DATA, 77_777)).offset == 77_777
    assert start(world).offset == 77_777
    with pytest.raises(InvalidRequest):
        world.registry.blobs.put(world.admin, QA, Dying(DATA, 500), SHA, len(DATA))
    assert world.registry.uploads.append(world.admin, upload.id, 77_777, io.BytesIO(DATA[77_777:])).done
    assert stored_files(world) == [SHA]


@pytest.mark.parametrize("dies", [False, True])
def test_bytes_that_the_disk_lost_on_the_way_are_not_kept(
    world: World, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    """The disk's word of it comes once, in the middle; the fsync at the end would find nothing wrong."""

    def fail(file: int) -> None:
        raise OSError(errno.EIO, "the disk failed")

    monkeypatch.setattr(early_sync, "STEP_BYTES", 10_000)
    monkeypatch.setattr(early_sync, "_sync", fail)
    upload = start(world)
    stream = Dying(DATA, 77_777) if dies else io.BytesIO(DATA)
    with pytest.raises(Unavailable, match="EIO"):
        world.registry.uploads.append(world.admin, upload.id, 0, stream)
    assert stored_files(world) == []
    with pytest.raises(UploadNotFound):
        world.registry.uploads.get(world.admin, upload.id)


def test_wrong_offset_is_answered_with_the_right_one(world: World) -> None:
    upload = start(world)
    world.registry.uploads.append(world.admin, upload.id, 0, io.BytesIO(DATA[:1000]))
    for wrong in (0, 999, 1001, len(DATA) + 1):
        with pytest.raises(UploadOffsetMismatch) as caught:
            world.registry.uploads.append(world.admin, upload.id, wrong, io.BytesIO(b"x"))
        assert caught.value.details["offset"] == 1000


def test_bytes_that_are_not_the_announced_ones_are_dropped(world: World) -> None:
    upload = start(world)
    flipped = bytes([DATA[0] ^ 1]) + DATA[1:]
    with pytest.raises(DigestMismatch):
        world.registry.uploads.append(world.admin, upload.id, 0, io.BytesIO(flipped))
    with pytest.raises(DigestMismatch):
        world.registry.blobs.put(world.admin, QA, io.BytesIO(flipped), SHA, len(DATA))
    with pytest.raises(DigestMismatch):
        world.registry.blobs.put(world.admin, QA, io.BytesIO(DATA), SHA, len(DATA) - 1)
    assert stored_files(world) == []
    with pytest.raises(UploadNotFound):
        world.registry.uploads.get(world.admin, upload.id)
    assert start(world).offset == 0


def test_more_bytes_than_announced_are_refused(world: World) -> None:
    upload = start(world)
    with pytest.raises(TooLarge):
        world.registry.uploads.append(world.admin, upload.id, 0, io.BytesIO(DATA + b"!"))
    assert stored_files(world) == []


def test_empty_blob_is_a_blob(world: World) -> None:
    upload = start(world, b"")
    assert world.registry.uploads.append(world.admin, upload.id, 0, io.BytesIO(b"")).done
    assert stored_files(world) == [hashlib.sha256(b"").hexdigest()]


def test_upload_is_its_owners_and_expires(world: World) -> None:
    upload = start(world)
    other = world.user("pia", {"task": "publisher"})
    with pytest.raises(UploadNotFound):
        world.registry.uploads.get(other, upload.id)
    world.clock.forward(hours=25)
    with pytest.raises(UploadNotFound):
        world.registry.uploads.append(world.admin, upload.id, 0, io.BytesIO(DATA))
    assert world.registry.upkeep.collect().uploads == 1
    assert stored_files(world) == []


def test_aborted_upload_leaves_nothing(world: World) -> None:
    upload = start(world)
    world.registry.uploads.append(world.admin, upload.id, 0, io.BytesIO(DATA[:10]))
    world.registry.uploads.abort(world.admin, upload.id)
    assert stored_files(world) == []


def test_blob_that_is_sent_twice_at_once_is_stored_once(world: World) -> None:
    one = start(world)
    two = world.registry.uploads.start(world.user("pia", {"task": "publisher"}), QA, SHA, len(DATA))
    pia = world.registry.users.actor_for("pia")
    assert world.registry.uploads.append(world.admin, one.id, 0, io.BytesIO(DATA)).done
    assert world.registry.uploads.append(pia, two.id, 0, io.BytesIO(DATA)).done
    assert stored_files(world) == [SHA]


@pytest.mark.parametrize(("sha256", "size"), [("x" * 64, 1), ("A" * 64, 1), ("0" * 63, 1), ("0" * 64, -1)])
def test_blob_is_announced_by_a_real_hash_and_size(world: World, sha256: str, size: int) -> None:
    with pytest.raises(InvalidRequest):
        world.registry.uploads.start(world.admin, QA, sha256, size)


def test_too_large_a_file_is_refused_before_a_byte_is_sent(world: World) -> None:
    limit = world.context.settings.max_upload_bytes
    with pytest.raises(TooLarge):
        world.registry.uploads.start(world.admin, QA, SHA, limit + 1)


def test_bytes_that_are_sent_anew_count_once_against_the_quota(world: World) -> None:
    """A client that can't go on with its upload begins another; one that expired is no more on its way."""
    world.namespace("task")
    world.registry.namespaces.set_quota(world.admin, "task", max_bytes=100, max_adapters=None)
    for _ in range(3):
        world.registry.uploads.start(world.admin, QA, "1" * 64, 60, may_resume=False)
    with pytest.raises(QuotaExceeded, match="60 are taken and 60 would come"):
        world.registry.uploads.start(world.admin, QA, "2" * 64, 60)
    world.clock.forward(hours=25)
    assert world.registry.uploads.start(world.admin, QA, "2" * 64, 60).offset == 0


def test_quota_counts_versions_and_what_is_on_its_way(world: World) -> None:
    size = world.push("task/qa", seed=1).version.size_bytes
    world.registry.namespaces.set_quota(world.admin, "task", max_bytes=2 * size + 100, max_adapters=2)
    assert world.registry.namespaces.get(world.admin, "task").used_bytes == size
    world.registry.uploads.start(world.admin, QA, "1" * 64, size)
    with pytest.raises(QuotaExceeded):
        world.registry.uploads.start(world.admin, QA, "2" * 64, size)
    with pytest.raises(QuotaExceeded):
        world.put("task/qa", b"x" * (size + 101))
    world.clock.forward(hours=25)
    world.registry.upkeep.collect()
    assert world.push("task/qa", seed=2).version.number == 2
    with pytest.raises(QuotaExceeded):
        world.push("task/qa", seed=3)
    world.registry.versions.delete(world.admin, QA, 2)
    assert world.registry.namespaces.get(world.admin, "task").used_bytes == size
    assert world.push("task/other", seed=4).created
    with pytest.raises(QuotaExceeded, match="2 adapters"):
        world.registry.adapters.create(world.admin, named("task/third"))
