"""What the wire's JSON may cost, and what it may say: bounds by route, and no odd value that fails the server."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest

from hub.web.http.json_bodies import LIMITS, STRANGERS_BYTES
from tests.hf.conftest import Wire
from tests.support.cost import Cost

ODD: tuple[Any, ...] = (
    *(None, True, 5, -1, 2**70, 1.5, 1e300, "", "\0", "a\0b", "\ud800", "x" * 10_000, "../.."),
    *([], [[]], ["a"], [5], {}, {"a": {}}, [None]),
)
OID = "ab" * 32


def post(url: str, path: str, body: bytes, token: str | None = None, method: str = "POST") -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (urllib.error.URLError, ConnectionError):
        # The server answered and closed before it had read all of it.
        return 413, b""


@pytest.fixture(scope="module")
def repo(wire: Wire) -> str:
    name = f"{wire.namespace('bodies')}/repo"
    post(wire.url, "/api/repos/create", json.dumps({"name": name}).encode(), wire.token)
    return name


def test_what_strangers_send_is_small_whatever_the_route(wire: Wire, repo: str) -> None:
    for method, path in (
        ("POST", "/api/validate-yaml"),
        ("POST", f"/{repo}.git/info/lfs/objects/batch"),
        ("POST", "/api/repos/create"),
        ("DELETE", "/api/repos/delete"),
        ("POST", "/api/repos/move"),
        ("PUT", f"/api/models/{repo}/settings"),
        ("POST", f"/api/models/{repo}/preupload/main"),
        ("POST", f"/api/models/{repo}/tag/main"),
        ("POST", f"/api/models/{repo}/paths-info/main"),
        ("POST", f"/api/v1/adapters/{repo}/versions"),
    ):
        bomb = b'{"a":' + b"[" * (STRANGERS_BYTES + 1)
        assert post(wire.url, path, bomb, method=method)[0] in {401, 413}, path
        nested = b'{"content": ' + b"[" * 500 + b"]" * 500 + b"}"
        assert post(wire.url, path, nested, method=method)[0] in {400, 401}, path


def test_brackets_from_strangers_cost_nothing(wire: Wire) -> None:
    cost = Cost.of(wire.server.process.pid)
    bomb = b'{"content":' + b"[]," * 6_000_000 + b"[]}"
    senders = [threading.Thread(target=post, args=(wire.url, "/api/validate-yaml", bomb)) for _ in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert cost.grown_bytes() < 60_000_000


def test_those_who_are_known_may_send_what_their_route_needs(wire: Wire, repo: str) -> None:
    readme = "---\nlicense: mit\n---\n" + "word " * 200_000
    assert post(wire.url, "/api/validate-yaml", json.dumps({"content": readme}).encode(), wire.token)[0] == 200
    assert post(wire.url, "/api/validate-yaml", json.dumps({"content": readme}).encode())[0] == 413
    blobs = [{"oid": f"{number:064x}", "size": 10} for number in range(1_000)]
    batch = json.dumps({"operation": "upload", "transfers": ["basic"], "objects": blobs}).encode()
    assert len(batch) > STRANGERS_BYTES
    assert post(wire.url, f"/{repo}.git/info/lfs/objects/batch", batch, wire.token)[0] == 200
    too_long = b" " * (LIMITS["hf.validate_yaml"] + 1)
    assert post(wire.url, "/api/validate-yaml", too_long, wire.token)[0] == 413


def test_a_stranger_is_asked_who_they_are_before_their_json_is_read(wire: Wire, repo: str) -> None:
    for method, path in (
        ("POST", f"/{repo}.git/info/lfs/objects/batch"),
        ("POST", "/api/repos/create"),
        ("DELETE", "/api/repos/delete"),
        ("POST", "/api/repos/move"),
        ("PUT", f"/api/models/{repo}/settings"),
        ("POST", f"/api/models/{repo}/preupload/main"),
        ("POST", f"/api/models/{repo}/tag/main"),
    ):
        assert post(wire.url, path, b"{not json", method=method)[0] == 401, path


BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/repos/create"): {"name": "x", "organization": "bodies", "type": "model", "private": False,
                                    "visibility": "public"},
    ("DELETE", "/api/repos/delete"): {"name": "none-such", "organization": "bodies", "type": "model"},
    ("POST", "/api/repos/move"): {"fromRepo": "a/b", "toRepo": "c/d"},
    ("PUT", "/api/models/bodies/repo/settings"): {"visibility": "public", "private": False, "gated": False},
    ("POST", "/api/models/bodies/repo/preupload/main"): {"files": [{"path": "a.txt", "size": 3, "sample": "YWJj"}],
                                                         "gitIgnore": ""},
    ("POST", "/bodies/repo.git/info/lfs/objects/batch"): {"operation": "upload", "transfers": ["basic"],
                                                         "objects": [{"oid": OID, "size": 5}], "hash_algo": "sha256"},
    ("POST", "/api/models/bodies/repo/paths-info/main"): {"paths": ["a"], "expand": True},
    ("POST", "/api/models/bodies/repo/tag/main"): {"tag": "t"},
    ("POST", "/api/models/bodies/repo/branch/main"): {"startingPoint": "main"},
    ("POST", "/api/validate-yaml"): {"content": "---\na: b\n---\n", "repoType": "model"},
    ("POST", "/api/v1/adapters/bodies/imported/import"): {"url": "http://127.0.0.1:9/a/b", "message": "", "token": "t"},
}  # fmt: skip


def changed(value: Any, odd: Any) -> list[Any]:
    """Return copies of a JSON value, each with one part replaced by `odd`."""
    made = [odd]
    if isinstance(value, dict):
        made += [value | {key: other} for key in value for other in changed(value[key], odd)]
        made += [{key: kept for key, kept in value.items() if key != left_out} for left_out in value]
    if isinstance(value, list):
        made += [[other] for item in value for other in changed(item, odd)]
    return made


@pytest.mark.parametrize("where", BODIES, ids=lambda where: re.sub(r"\W+", "-", " ".join(where)))
def test_no_odd_value_in_a_field_fails_the_server(wire: Wire, repo: str, where: tuple[str, str]) -> None:
    for odd in ODD:
        for body in changed(BODIES[where], odd):
            status, answer = post(wire.url, where[1], json.dumps(body).encode(), wire.token, method=where[0])
            # 502 and 503 speak of the other end, which an import names.
            assert status < 500 or (status in {502, 503} and "import" in where[1]), (body, answer)


def test_a_token_for_another_hub_that_no_header_can_carry_is_the_callers_mistake(wire: Wire, repo: str) -> None:
    for token in ("tökén", "a b", "a\nb", "\x7f"):
        body = json.dumps({"url": "http://127.0.0.1:9/a/b", "token": token}).encode()
        assert post(wire.url, "/api/v1/adapters/bodies/imported/import", body, wire.token)[0] == 400


def test_addresses_with_a_nul_are_answered(wire: Wire, repo: str) -> None:
    expected = {"/%00": "404", "/bodies/re%00po": "404", f"/{repo}/resolve/main/a%00b": "404",
                "/api/v1/adapters/a%00/b": "404", "/api/models?search=%00": "400",
                f"/{repo}?q=a%00b": "400"}  # fmt: skip
    for path, code in expected.items():
        command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", wire.url + path]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == code, path
