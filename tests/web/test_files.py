"""Downloads: ranges, validators, HEAD, and what keeps a browser from showing the bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.support.adapters import write_adapter
from tests.web.api import Api

WEIGHTS = "/adapters/task/qa/versions/v1/files/adapter_model.safetensors"


@pytest.fixture
def task(shared: Api) -> Api:
    return shared


@pytest.fixture
def anonymous(shared: Api) -> Api:
    return shared.as_(None)


@pytest.fixture(scope="module")
def weights(shared: Api, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = write_adapter(tmp_path_factory.mktemp("qa") / "adapter", readme="# An adapter")
    shared.push(folder, "task/qa")
    return (folder / "adapter_model.safetensors").read_bytes()


def test_a_file_comes_whole_with_its_hash(task: Api, weights: bytes) -> None:
    answer = task.get(WEIGHTS)
    assert answer.body == weights
    assert answer.headers["ETag"] == f'"{hashlib.sha256(weights).hexdigest()}"'
    assert answer.headers["Content-Length"] == str(len(weights))
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_head_says_the_length_and_sends_nothing(task: Api, weights: bytes) -> None:
    answer = task.call("HEAD", WEIGHTS, expect=200)
    assert answer.body == b""
    assert answer.headers["Content-Length"] == str(len(weights))


@pytest.mark.parametrize("spec", ["0-0", "0-99", "100-", "-50", "5-5", "10-999999999"])
def test_a_range_is_answered_with_exactly_those_bytes(task: Api, weights: bytes, spec: str) -> None:
    answer = task.get(WEIGHTS, 206, Range=f"bytes={spec}")
    start, _, end = spec.partition("-")
    if start:
        expected = weights[int(start) : int(end) + 1 if end else None]
        first = int(start)
    else:
        expected, first = weights[-int(end) :], len(weights) - int(end)
    assert answer.body == expected
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/{len(weights)}"
    assert answer.headers["Content-Length"] == str(len(expected))


def test_a_range_past_the_end_says_how_long_the_file_is(task: Api, weights: bytes) -> None:
    answer = task.get(WEIGHTS, 416, Range=f"bytes={len(weights)}-")
    assert answer.headers["Content-Range"] == f"bytes */{len(weights)}"


@pytest.mark.parametrize("spec", ["bytes=0-1,3-4", "items=0-1", "bytes=a-b", "bytes=5-2", "nonsense"])
def test_what_is_no_single_byte_range_gets_the_whole_file(task: Api, weights: bytes, spec: str) -> None:
    assert task.get(WEIGHTS, 200, Range=spec).body == weights


def test_if_range_resumes_only_the_same_content(task: Api, weights: bytes) -> None:
    tag = task.get(WEIGHTS).headers["ETag"]
    same = task.get(WEIGHTS, 206, Range="bytes=100-", If_Range=tag)
    assert same.body == weights[100:]
    for other in ('"' + "0" * 64 + '"', "Wed, 21 Oct 2015 07:28:00 GMT", f"W/{tag}"):
        assert task.get(WEIGHTS, 200, Range="bytes=100-", If_Range=other).body == weights


def test_a_client_that_has_the_content_gets_304(task: Api, weights: bytes) -> None:
    tag = task.get(WEIGHTS).headers["ETag"]
    answer = task.get(WEIGHTS, 304, If_None_Match=tag)
    assert answer.body == b""
    assert answer.headers["ETag"] == tag


def test_a_file_is_saved_and_never_shown(task: Api, weights: bytes) -> None:
    answer = task.get("/adapters/task/qa/versions/v1/files/README.md")
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "sandbox" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["nothing.txt", "../registry.sqlite3", "..%2F..%2Fetc%2Fpasswd", "%00", "a/../b"])
def test_no_other_path_leads_to_a_file(task: Api, weights: bytes, path: str) -> None:
    assert task.get(f"/adapters/task/qa/versions/v1/files/{path}", 404).code in {"file_not_found", "not_found"}


def test_downloads_count_once_per_user_version_and_day(task: Api, anonymous: Api, folder: Path) -> None:
    weights = pushed_weights(task, folder, "task/counted")
    for _ in range(3):
        task.get(weights)
        task.get(weights, 206, Range="bytes=0-9")
    task.get(weights, 206, Range="bytes=10-")
    task.call("HEAD", weights, expect=200)
    assert task.get("/adapters/task/counted").json["downloads"] == 1
    for _ in range(2):
        anonymous.get(weights)
    assert task.get("/adapters/task/counted").json["downloads"] == 2
    assert sum(day["count"] for day in task.get("/adapters/task/counted/downloads").json["items"]) == 2


def test_a_part_from_the_middle_is_no_download(task: Api, folder: Path) -> None:
    task.get(pushed_weights(task, folder, "task/parts"), 206, Range="bytes=10-")
    assert task.get("/adapters/task/parts").json["downloads"] == 0


def pushed_weights(task: Api, folder: Path, name: str) -> str:
    task.push(folder, name)
    return f"/adapters/{name}/versions/v1/files/adapter_model.safetensors"
