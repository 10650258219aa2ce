"""Whatever is sent to the wire, nothing fails: every answer is a 2xx or a 4xx that says why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.refs import AdapterName
from hub.registry.service import Registry
from hub.settings import ServerSettings
from hub.web.app import create_app
from tests.support.rounds import rounds

REPO = "admin/fuzzed"
WRITES = (
    ("POST", f"/api/models/{REPO}/preupload/main"),
    ("POST", f"/api/models/{REPO}/paths-info/main"),
    ("POST", f"/{REPO}.git/info/lfs/objects/batch"),
    ("POST", f"/api/models/{REPO}/commit/main"),
    ("POST", "/api/repos/create"),
    ("DELETE", "/api/repos/delete"),
    ("POST", "/api/repos/move"),
    ("PUT", f"/api/models/{REPO}/settings"),
    ("POST", f"/api/models/{REPO}/tag/main"),
    ("POST", f"/api/models/{REPO}/branch/main"),
    ("POST", "/api/validate-yaml"),
)
# The fields that the addresses above read: a fuzzer that never hits a field never gets past the first check.
FIELDS = ("files", "path", "size", "sample", "gitIgnore", "operation", "transfers", "objects", "oid", "name", "type",
          "organization", "private", "visibility", "gated", "tag", "content", "paths", "expand", "key", "value",
          "summary", "parentCommit", "encoding", "algo", "fromRepo", "toRepo")  # fmt: skip
WORDS = st.sampled_from(["upload", "file", "lfsFile", "header", "deletedFile", "base64", "a.txt", "../x", "main", "v1"])
SCALARS = st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats(allow_nan=False) | st.text(max_size=20) | WORDS
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """A client of the whole application in this process, logged in as the admin."""
    used = ServerSettings.from_env({}, data=tmp_path_factory.mktemp("fuzz"))
    registry = Registry.open(used)
    made = registry.users.first_start()
    assert made is not None
    registry.adapters.create(registry.tokens.authenticate(made.secret), AdapterName.parse(REPO))
    found = create_app(registry, used).test_client()
    found.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {made.secret}"
    yield found
    registry.close()


def check(answer: Any) -> None:
    assert answer.status_code < 500, answer.get_data(as_text=True)
    if answer.status_code >= 400:
        assert answer.headers.get("X-Error-Message") or answer.get_json()["error"], answer.get_data()


@settings(max_examples=rounds(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.sampled_from(WRITES), body=JSON)
def test_any_json_is_answered(client: FlaskClient, where: tuple[str, str], body: Any) -> None:
    check(client.open(where[1], method=where[0], data=json.dumps(body), content_type="application/json"))


@settings(max_examples=rounds(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(JSON | st.fixed_dictionaries({"key": WORDS, "value": JSON}), max_size=5))
def test_any_commit_is_answered(client: FlaskClient, lines: list[Any]) -> None:
    header = {"key": "header", "value": {"summary": "fuzz"}}
    body = "\n".join(json.dumps(line) for line in [header, *lines])
    check(client.post(f"/api/models/{REPO}/commit/main", data=body, content_type="application/x-ndjson"))


@settings(max_examples=rounds(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    revision=st.text(min_size=1, max_size=30) | WORDS,
    path=st.text(min_size=1, max_size=30) | WORDS,
    query=st.dictionaries(
        st.sampled_from(["limit", "before", "cursor", "sort", "search", "filter", "expand"]), st.text()
    ),
    kind=st.sampled_from(["resolve", "tree", "revision", "commits", "xet-read-token", "xet-write-token"]),
)
def test_any_address_is_answered(
    client: FlaskClient, revision: str, path: str, query: dict[str, str], kind: str
) -> None:
    where = f"/{quote(revision, safe='')}"
    where = f"/{REPO}/resolve{where}/{quote(path)}" if kind == "resolve" else f"/api/models/{REPO}/{kind}{where}"
    raw = where + "?" + "&".join(f"{name}={quote(value)}" for name, value in query.items())
    check(client.get(raw, environ_overrides={"RAW_URI": raw}))
    check(client.get("/api/models", query_string=query))


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024])
def test_any_bytes_are_answered(client: FlaskClient, size: int) -> None:
    for _, path in WRITES:
        check(client.post(path, data=b"\xff\x00" * (size // 2), content_type="application/json"))
