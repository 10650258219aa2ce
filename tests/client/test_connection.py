"""The rules of the client's HTTP: who gets the token, what is tried again, what an error says."""

from __future__ import annotations

import time

import httpx2
import pytest

from hub.client.api import Client, Search
from hub.client.connection import Connection
from hub.errors import InvalidRequest, NetworkError, Offline, TooManyRequests, Unauthenticated
from hub.refs import AdapterName, AdapterRef
from hub.settings import ClientSettings
from tests.client.blob_server import blob_server
from tests.support.fault_proxy import Fault, FaultProxy

NAME = AdapterName("task", "qa")
EMPTY_PAGE = b'{"items": [], "next": null, "total": 0, "facets": {}}'
SEARCH = "/api/v1/adapters?sort=recent&limit=100&facets=false"


def connect(url: str, tmp_path, **fields) -> Connection:
    return Connection(ClientSettings(endpoint=url, token=fields.pop("token", None), cache=tmp_path, **fields))


def test_an_answer_that_is_not_a_registrys_says_what_to_check(tmp_path):
    with (
        blob_server(blobs={"/x": b"<html>hello</html>"}) as server,
        connect(server.url, tmp_path) as connection,
        pytest.raises(NetworkError, match="LORAHUB_ENDPOINT"),
    ):
        connection.get_json("/x")


def test_an_answer_that_some_proxy_compressed_is_read(tmp_path):
    with blob_server(blobs={"/x": b'{"a": 1}'}, gzipped=True) as server, connect(server.url, tmp_path) as connection:
        assert connection.get_json("/x") == {"a": 1}


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"adapter": 3}', b'{"adapter": "task/qa", "version": "v1"}'])
def test_an_answer_of_another_shape_is_a_network_error(tmp_path, body):
    path = "/api/v1/adapters/task/qa/versions/latest"
    with blob_server(blobs={path: body}) as server, pytest.raises(NetworkError, match="not one of a lorahub registry"):
        Client(ClientSettings(server.url, None, tmp_path)).resolve(AdapterRef(NAME))


def test_a_redirect_of_the_api_is_not_followed_with_the_token(tmp_path):
    with blob_server() as elsewhere, blob_server() as server:
        server.redirects["/api/v1/whoami"] = f"{elsewhere.url}/steal"
        connection = connect(server.url, tmp_path, token="lhub_canary")
        with pytest.raises(NetworkError, match="sends us on") as caught:
            connection.get_json("/api/v1/whoami")
        assert elsewhere.requests == []
        assert "lhub_canary" not in caught.value.message


def test_reads_are_tried_again_and_writes_are_not(tmp_path):
    with blob_server(blobs={"/x": b"{}"}, busy=2) as server, connect(server.url, tmp_path) as connection:
        assert connection.get_json("/x") == {}
        assert len(server.requests) == 3
    with blob_server(busy=2) as server, FaultProxy(server.port) as proxy, connect(proxy.url, tmp_path) as connection:
        proxy.always = Fault(cut_at=1)
        with pytest.raises(NetworkError):
            connection.call("POST", "/x", json={}, again=False)
        assert proxy.connections == 1


def test_a_retry_after_of_an_hour_is_told_instead_of_waited_for(tmp_path):
    begun = time.monotonic()
    with blob_server(busy=1, retry_after="3600") as server, connect(server.url, tmp_path) as connection:
        with pytest.raises(Exception) as caught:
            connection.get_json("/x")
        assert len(server.requests) == 1
    assert caught.value.details["retry_after_seconds"] == 3600
    assert time.monotonic() - begun < 60
    assert TooManyRequests.exit_code == 1


def test_offline_asks_nobody(tmp_path):
    with blob_server() as server, connect(server.url, tmp_path, offline=True) as connection:
        with pytest.raises(Offline, match="LORAHUB_OFFLINE"):
            connection.get_json("/x")
        assert server.requests == []


def test_an_address_that_can_not_be_one_is_a_usage_error(tmp_path):
    with pytest.raises(InvalidRequest):
        ClientSettings.from_env({"LORAHUB_ENDPOINT": "ftp://example", "LORAHUB_CONFIG": str(tmp_path / "none")})


def test_the_proxy_of_the_environment_is_not_asked_for_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with blob_server(blobs={"/x": b"{}"}) as server, connect(server.url, tmp_path) as connection:
        assert connection.get_json("/x") == {}


def test_the_proxy_of_the_environment_is_asked_for_other_machines(tmp_path, monkeypatch):
    with blob_server(blobs={"http://registry.example/x": b'{"by": "proxy"}'}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        with connect("http://registry.example", tmp_path) as connection:
            assert connection.get_json("/x") == {"by": "proxy"}


def test_the_search_is_asked_as_the_api_reads_it(tmp_path):
    with blob_server(blobs={SEARCH: EMPTY_PAGE}) as server:
        assert Client(ClientSettings(server.url, None, tmp_path)).search(Search()).total == 0


def test_an_alias_with_a_slash_is_one_path_segment(tmp_path):
    with blob_server() as server, pytest.raises(Exception):  # noqa: B017 - the small server has nothing to show
        Client(ClientSettings(server.url, None, tmp_path)).resolve(NAME.at("rel/1.0"))
    assert server.requests[0][1] == "/api/v1/adapters/task/qa/versions/rel%2F1.0"


def test_without_a_token_the_next_step_is_to_log_in(tmp_path):
    body = b'{"error": {"code": "unauthenticated", "message": "Publishing needs a token.", "details": {}}}'
    with connect("http://127.0.0.1:9", tmp_path) as connection:
        error = connection._error(httpx2.Response(401, content=body), body)
    assert isinstance(error, Unauthenticated)
    assert "lorahub login" in str(error)


@pytest.mark.parametrize("token", ["lhub_canary\nX-Evil: 1", "lhub_canary \u00e9", "lhub_canary x"])
def test_a_token_that_no_header_can_carry_is_refused_without_being_shown(tmp_path, token):
    with pytest.raises(InvalidRequest, match="lorahub login") as caught:
        connect("http://127.0.0.1:9", tmp_path, token=token)
    assert "canary" not in str(caught.value)


def test_white_space_around_a_token_does_no_harm(tmp_path):
    with blob_server(blobs={"/x": b"{}"}) as server, connect(server.url, tmp_path, token=" lhub_x\n") as connection:
        connection.get_json("/x")
        assert server.requests[0][2]["authorization"] == "Bearer lhub_x"
