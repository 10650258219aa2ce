"""A server whose object store fails: a clear 503 with Retry-After, reading of what it knows itself goes on, and all is
well again when the store is."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.adapters import write_adapter
from tests.support.s3_faults import S3Fault, S3FaultProxy
from tests.support.server import RunningServer, running_server
from tests.web.api import Api, OverSocket

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "store-secret-canary"}


@pytest.fixture(scope="module")
def proxy() -> Iterator[S3FaultProxy]:
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("boto3")
    s3 = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    s3.start()
    _, port = s3.get_host_and_port()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/adapters", method="PUT")
    urllib.request.urlopen(request, timeout=10).close()
    with S3FaultProxy(port) as made:
        yield made
    s3.stop()


@pytest.fixture(scope="module")
def server(proxy: S3FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    store = f"s3://adapters/registry?endpoint={proxy.url}"
    with running_server(tmp_path_factory.mktemp("failing"), "--store", store, **KEYS) as running:
        yield running


def test_a_store_that_fails_is_a_503_and_a_push_goes_through_when_it_is_back(
    server: RunningServer, proxy: S3FaultProxy, tmp_path: Path
) -> None:
    api = Api(OverSocket(server.url), server.token)
    api.push_parts(write_adapter(tmp_path / "1", seed=1), "task/qa")
    folder = write_adapter(tmp_path / "2", seed=2)
    proxy.heal()
    proxy.faults = [S3Fault("*", status=503, code="SlowDown")]
    blob = {"sha256": "ab" * 32, "size": 20}
    refused = api.call("POST", "/adapters/task/qa/uploads", {"blobs": [blob]})
    assert (refused.status, refused.code) == (503, "unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert "SlowDown" in refused.json["error"]["message"]
    assert api.get("/adapters/task/qa/versions/latest").json["version"] == 1, "the database tells this"
    failed = server.cli("push", str(folder), "task/qa", check=False)
    assert failed.returncode in {1, 8}
    assert "Traceback" not in failed.stderr
    proxy.heal()
    assert "task/qa@v2" in server.cli("push", str(folder), "task/qa").stdout
    pulled = Path(server.cli("pull", "task/qa@v2").stdout.strip())
    assert (pulled / "adapter_model.safetensors").read_bytes() == (folder / "adapter_model.safetensors").read_bytes()
    assert "store-secret-canary" not in server.log_text() + failed.stderr + refused.body.decode()


def test_a_server_whose_store_fails_is_alive_and_not_ready(server: RunningServer, proxy: S3FaultProxy) -> None:
    sender = OverSocket(server.url)
    proxy.heal()
    proxy.faults = [S3Fault("*", reset=True)]
    assert sender.send("GET", "/healthz", {}, None).status == 200
    assert sender.send("GET", "/readyz", {}, None).status == 503
    proxy.heal()
    assert sender.send("GET", "/readyz", {}, None).status == 200
