"""What the cache of the upstream keeps, and what it lets go."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from hub.errors import DigestMismatch
from hub.web.hf_upstream_cache import MAX_ANSWERS_PER_FOLDER, UpstreamCache


def keep(cache: UpstreamCache, data: bytes) -> str:
    etag = hashlib.sha256(data).hexdigest()
    assert b"".join(cache.keep(etag, len(data), [data[:3], data[3:]])) == data
    return etag


def test_files_are_kept_by_sha256_or_git_id(tmp_path: Path) -> None:
    cache = UpstreamCache(tmp_path, 10**9)
    data = b"config of a base"
    found = cache.find(keep(cache, data))
    assert found is not None
    assert found.read_bytes() == data
    git_id = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    list(cache.keep(git_id, len(data), [data]))
    assert cache.find(git_id) is not None


def test_wrong_bytes_are_not_kept_and_never_whole(tmp_path: Path) -> None:
    cache = UpstreamCache(tmp_path, 10**9)
    etag = hashlib.sha256(b"right").hexdigest()
    blocks = cache.keep(etag, 5, [b"wr", b"ong"])
    assert next(blocks) == b"wr"
    with pytest.raises(DigestMismatch):
        next(blocks)
    assert cache.find(etag) is None
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
    assert cache.find(second) is None
    assert cache.find(first) is not None
    assert cache.find(third) is not None


def test_an_etag_of_another_form_is_passed_on_and_not_kept(tmp_path: Path) -> None:
    cache = UpstreamCache(tmp_path, 10**9)
    assert list(cache.keep("../../etc/passwd", 3, [b"abc"])) == [b"abc"]
    assert cache.find("../../etc/passwd") is None
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
