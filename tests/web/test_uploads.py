"""Uploads: offsets, resumption, verification.  Nothing that failed is kept, nothing that came is lost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from hub.settings import ServerSettings
from tests.web.api import Api

DATA = bytes(range(256)) * 64
SHA256 = hashlib.sha256(DATA).hexdigest()


def ask(api: Api, data: bytes = DATA, name: str = "task/qa", size: int | None = None) -> dict[str, Any]:
    blob = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data) if size is None else size}
    answer = api.call("POST", f"/adapters/{name}/uploads", {"blobs": [blob]}, expect=200)
    state: dict[str, Any] = answer.json["blobs"][0]
    return state


def stored_files(settings: ServerSettings) -> list[Path]:
    return [path for path in Path(settings.store).rglob("*") if path.is_file()]


def test_a_blob_that_came_whole_is_present(task: Api) -> None:
    upload = ask(task)["upload"]
    assert upload["offset"] == 0
    answer = task.append(upload, DATA)
    assert answer.headers["Upload-Offset"] == str(len(DATA))
    assert ask(task)["state"] == "present"


def test_an_upload_goes_on_from_the_servers_offset(task: Api) -> None:
    upload = ask(task)["upload"]
    task.append(upload, DATA[:1000])
    head = task.call("HEAD", upload["href"], expect=200)
    assert head.headers["Upload-Offset"] == "1000"
    again = ask(task)["upload"]
    assert (again["id"], again["offset"]) == (upload["id"], 1000)
    task.append(again, DATA[1000:])
    assert ask(task)["state"] == "present"


def test_a_wrong_offset_is_told_the_right_one(task: Api) -> None:
    upload = ask(task)["upload"]
    task.append(upload, DATA[:1000])
    answer = task.append({**upload, "offset": 500}, DATA[500:], expect=409)
    assert answer.code == "upload_offset_mismatch"
    assert answer.json["error"]["details"]["offset"] == 1000
    assert answer.headers["Upload-Offset"] == "1000"


def test_bytes_that_are_not_the_digests_are_not_kept(task: Api, settings: ServerSettings) -> None:
    before = stored_files(settings)
    upload = ask(task)["upload"]
    answer = task.append(upload, DATA[:-1] + b"!", expect=422)
    assert answer.code == "digest_mismatch"
    assert stored_files(settings) == before
    task.get(f"/uploads/{upload['id']}", 404)
    assert ask(task)["state"] == "upload"


def test_more_bytes_than_announced_are_refused(task: Api, settings: ServerSettings) -> None:
    before = stored_files(settings)
    answer = task.append(ask(task)["upload"], DATA + b"surplus", expect=413)
    assert answer.code == "too_large"
    assert stored_files(settings) == before


def test_an_empty_blob_needs_no_bytes(task: Api) -> None:
    state = ask(task, b"")
    if state["state"] == "upload":
        task.append(state["upload"], b"")
    assert ask(task, b"")["state"] == "present"


def test_the_same_blob_is_asked_for_once(task: Api) -> None:
    blob = {"sha256": SHA256, "size": len(DATA)}
    answer = task.call("POST", "/adapters/task/qa/uploads", {"blobs": [blob, blob]}, expect=200)
    assert len(answer.json["blobs"]) == 1


def test_nobody_gets_content_by_knowing_its_hash(task: Api, admin: Api) -> None:
    """A blob of an adapter that one can't read must be sent again: its presence is not even told."""
    task.call("POST", "/namespaces", {"name": "vault", "private": True}, expect=201)
    task.append(ask(task, name="vault/secret")["upload"], DATA)
    outsider = make_user(admin, "eve")
    assert ask(outsider, name="eve/copy")["state"] == "upload"


def test_an_upload_belongs_to_who_began_it(task: Api, admin: Api) -> None:
    upload = ask(task)["upload"]
    outsider = make_user(admin, "eve")
    for method in ("GET", "HEAD", "DELETE"):
        assert outsider.call(method, upload["href"]).status == 404
    outsider.append(upload, DATA, expect=404)


def make_user(admin: Api, name: str) -> Api:
    admin.call("POST", "/users", {"name": name}, expect=201)
    made = admin.call("POST", "/tokens", {"name": "t", "scopes": ["publish"], "user": name}, expect=201)
    return admin.as_(made.json["secret"])


@pytest.mark.parametrize("offset", ["", "-1", "abc", "1.5", "٣", "9" * 30])
def test_an_offset_is_a_whole_number(task: Api, offset: str) -> None:
    headers = {"Upload-Offset": offset.encode().decode("latin-1"), "Content-Type": "application/offset+octet-stream"}
    answer = task.call("PATCH", ask(task)["upload"]["href"], body=b"x", headers=headers)
    assert (answer.status, answer.code) == (400, "invalid_request")


def test_a_body_of_another_type_is_refused(task: Api) -> None:
    headers = {"Upload-Offset": "0", "Content-Type": "application/json"}
    assert task.call("PATCH", ask(task)["upload"]["href"], body=b"{}", headers=headers).status == 400


class Breaking:
    """A request body whose client goes away, or goes silent, after some bytes."""

    def __init__(self, data: bytes, error: Exception) -> None:
        self._pieces: Iterator[bytes] = iter([data])
        self._error = error

    def read(self, _size: int = -1) -> bytes:
        for piece in self._pieces:
            return piece
        raise self._error


@pytest.mark.parametrize(
    ("error", "status"), [(ConnectionResetError(104, "reset"), 400), (TimeoutError("timed out"), 408)]
)
def test_what_came_before_a_break_is_kept(task: Api, app: Flask, error: Exception, status: int) -> None:
    upload = ask(task)["upload"]
    response = app.test_client().open(
        upload["href"],
        method="PATCH",
        headers={
            "Authorization": f"Bearer {task.token}",
            "Upload-Offset": "0",
            "Content-Type": "application/offset+octet-stream",
        },
        environ_overrides={"wsgi.input": Breaking(DATA[:777], error), "wsgi.input_terminated": True},
    )
    assert response.status_code == status
    assert response.headers["Upload-Offset"] == "777"
    assert task.call("HEAD", upload["href"]).headers["Upload-Offset"] == "777"
    task.append({**upload, "offset": 777}, DATA[777:])


def test_a_length_that_lies_keeps_what_came(task: Api, app: Flask) -> None:
    upload = ask(task)["upload"]
    response = app.test_client().open(
        upload["href"],
        method="PATCH",
        data=DATA[:500],
        headers={
            "Authorization": f"Bearer {task.token}",
            "Upload-Offset": "0",
            "Content-Type": "application/offset+octet-stream",
        },
        environ_overrides={"CONTENT_LENGTH": "9000"},
    )
    assert response.status_code == 400
    assert task.call("HEAD", upload["href"]).headers["Upload-Offset"] == "500"
