"""What the cache of the upstream keeps, and what it lets go."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.errors import DigestMismatch
from hub.web.hf.upstream_cache import MAX_ANSWERS_PER_FOLDER, UpstreamCache


def keep(cache: UpstreamCache, data: bytes) -> str:
    etag = hashlib.sha256(data).hexdigest()
    assert b"".join(cache.keep(etag, len(data), [data[:3], data[3:]])) == data
    return etag


def test_files_are_kept_by_sha256_or_git_id(tmp_path: Path) -> None:
    cache = UpstreamCache(tmp_path, 10**9)
    data = b"config of a base"
    found = cache.find(keep(cache, data), len(data))
    assert found is not None
    assert found.read_bytes() == data
    git_id = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    list(cache.keep(git_id, len(data), [data]))
    assert cache.find(git_id, len(data)) is not None


def test_a_kept_file_of_another_length_is_none(tmp_path: Path) -> None:
    """As a power cut or a careless program may leave it: the upstream is asked again, and it is written anew."""
    cache, data = UpstreamCache(tmp_path, 10**9), b"weights of a base"
    etag = keep(cache, data)
    os.truncate(tmp_path / "files" / etag, 5)
    assert cache.find(etag, len(data)) is None
    keep(cache, data)
    found = cache.find(etag, len(data))
    assert found is not None
    assert found.read_bytes() == data


def test_wrong_bytes_are_not_kept_and_never_whole(tmp_path: Path) -> None:
    cache = UpstreamCache(tmp_path, 10**9)
    etag = hashlib.sha256(b"right").hexdigest()
    blocks = cache.keep(etag, 5, [b"wr", b"ong"])
    assert next(blocks) == b"wr"
    with pytest.raises(DigestMismatch):
        next(blocks)
    assert cache.find(etag, 5) is None
    assert not list((tmp_path / "files").iterdir())


def test_a_reader_that_leaves_early_leaves_nothing(tmp_path: Path) -> None:
    cache = UpstreamCache(tmp_path, 10**9)
    blocks = cache.keep(hashlib.sha256(b"abcdef").hexdigest(), 6, [b"abc", b"def"])
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert not list((tmp_path / "files").iterdir())


def test_files_not_asked_for_the_longest_go_first(tmp_path: Path) -> None:
    cache = UpstreamCache(tmp_path, 25)
    first, second = keep(cache, b"0123456789"), keep(cache, b"abcdefghij")
    for age, etag in enumerate((second, first)):
        os.utime(tmp_path / "files" / etag, (age, age))
    third = keep(cache, b"ABCDEFGHIJ")
    assert cache.find(second, 10) is None
    assert cache.find(first, 10) is not None
    assert cache.find(third, 10) is not None


def test_an_etag_of_another_form_is_passed_on_and_not_kept(tmp_path: Path) -> None:
    cache = UpstreamCache(tmp_path, 10**9)
    assert list(cache.keep("../../etc/passwd", 3, [b"abc"])) == [b"abc"]
    assert cache.find("../../etc/passwd", 3) is None
    assert not (tmp_path / "files").exists()


def test_invented_addresses_fill_no_disk(tmp_path: Path) -> None:
    cache = UpstreamCache(tmp_path, 10**9)
    cache.remember("one", {"status": 200})
    assert cache.recall("one") == {"status": 200}
    assert cache.recall("another") is None
    folder = next((tmp_path / "answers").iterdir())
    for number in range(2 * MAX_ANSWERS_PER_FOLDER):
        (folder / f"{number}.json").write_text("{}")
    cache.remember("one", {"status": 200, "again": True})
    assert len(list(folder.iterdir())) <= MAX_ANSWERS_PER_FOLDER
    assert cache.recall("one") == {"status": 200, "again": True}


def abandon(folder: Path, name: str, age_seconds: float) -> Path:
    """What a worker that was killed leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age_seconds,) * 2)
    return path


def test_what_a_killed_worker_left_is_removed_a_day_later(tmp_path: Path) -> None:
    cache = UpstreamCache(tmp_path, 10**9)
    old = abandon(tmp_path / "files", ".receiving-old", 25 * 3600)
    running = abandon(tmp_path / "files", ".receiving-running", 23 * 3600)
    assert cache.find(keep(cache, b"another file"), 12) is not None
    assert not old.exists()
    assert running.exists()


def test_what_was_left_goes_before_more_is_received(tmp_path: Path) -> None:
    """On a disk that it has filled, no file would be kept first."""
    old = abandon(tmp_path / "files", ".receiving-old", 25 * 3600)
    blocks = UpstreamCache(tmp_path, 10**9).keep(hashlib.sha256(b"abcdef").hexdigest(), 6, [b"abc", b"def"])
    assert next(iter(blocks)) == b"abc"
    assert not old.exists()


def test_answers_that_a_killed_worker_left_half_written_are_removed(tmp_path: Path) -> None:
    cache = UpstreamCache(tmp_path, 10**9)
    cache.remember("one", {"status": 200})
    folder = next((tmp_path / "answers").iterdir())
    old, running = abandon(folder, ".writing-old", 25 * 3600), abandon(folder, ".writing-running", 60)
    cache.remember("one", {"status": 200})
    assert not old.exists()
    assert running.exists()


def test_an_answer_that_can_not_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = UpstreamCache(tmp_path, 10**9)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(TypeError):
        cache.remember("one", {"status": object()})  # no JSON
    monkeypatch.setattr(os, "replace", refuse)
    cache.remember("one", {"status": 200})
    assert cache.recall("one") is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_answer_that_can_not_be_read_is_as_good_as_none(tmp_path: Path) -> None:
    cache = UpstreamCache(tmp_path, 10**9)
    cache.remember("one", {"status": 200})
    (path,) = (tmp_path / "answers").glob("*/*.json")
    path.write_text('{"status":')
    assert cache.recall("one") is None


DATA = bytes(range(256)) * 1024
"""More than a file keeps back before it writes."""


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files can be made, and no byte be written to them."""
    made = tempfile.mkstemp

    def mkstemp(*args: object, **named: object) -> tuple[int, str]:
        handle, path = made(*args, **named)  # type: ignore[call-overload]
        os.close(handle)
        return os.open(path, os.O_RDONLY), path

    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("size", [len(DATA), 6])
def test_a_full_disk_costs_only_the_keeping(tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int) -> None:
    """It is noticed at the first block that is written, or when a short file is closed."""
    cache, data = UpstreamCache(tmp_path, 10**9), DATA[:size]
    etag = hashlib.sha256(data).hexdigest()
    half = size // 2
    assert b"".join(cache.keep(etag, size, [data[:half], data[half:]])) == data
    assert cache.find(etag, size) is None
    assert not list((tmp_path / "files").iterdir())
    assert caplog.text.count("is not kept") == 1
    cache.remember("one", {"status": 200})
    assert cache.recall("one") is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("full_disk")
def test_wrong_bytes_are_refused_on_a_full_disk_too(tmp_path: Path) -> None:
    blocks = UpstreamCache(tmp_path, 10**9).keep(hashlib.sha256(b"right").hexdigest(), 5, [b"wr", b"ong"])
    assert next(iter(blocks)) == b"wr"
    with pytest.raises(DigestMismatch):
        next(iter(blocks))


def test_a_folder_that_can_not_be_made_costs_only_the_keeping(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("not a folder")
    cache = UpstreamCache(tmp_path / "root", 10**9)
    etag = keep(cache, b"0123456789")
    assert cache.find(etag, 10) is None
    cache.remember("one", {"status": 200})
    assert cache.recall("one") is None


def test_an_upstream_that_breaks_off_is_no_matter_of_the_disk(tmp_path: Path) -> None:
    def break_off() -> Iterator[bytes]:
        yield b"abc"
        raise ConnectionResetError("the upstream went away")

    blocks = UpstreamCache(tmp_path, 10**9).keep(hashlib.sha256(b"abcdef").hexdigest(), 6, break_off())
    with pytest.raises(ConnectionResetError):
        list(blocks)
    assert not list((tmp_path / "files").iterdir())
