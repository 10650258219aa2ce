"""A registry with an S3 store: bytes go to and from the store by signed addresses, past the registry."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from hub.client import multipart
from hub.client.api import Client
from hub.client.connection import Connection
from hub.client.progress import Observer
from hub.client.records import UploadPlan
from hub.client.sync import prepare, pull, push
from hub.manifest import FileEntry
from hub.refs import AdapterName, AdapterRef
from hub.settings import ClientSettings
from tests.client.conftest import write_large_adapter
from tests.support.adapters import write_adapter
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.server import RunningServer, running_server

NAME = AdapterName("task", "qa")
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """moto's S3 server; yields its address."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    request = urllib.request.Request(f"http://{host}:{port}/adapters", method="PUT")
    urllib.request.urlopen(request, timeout=10).close()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def store(s3: str) -> Iterator[FaultProxy]:
    """The store, behind a proxy that can break its connections."""
    with FaultProxy(urlsplit(s3).port or 0) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def registry(s3: str, store: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    url = f"s3://adapters/registry?endpoint={s3}&public_endpoint={store.url}"
    with running_server(tmp_path_factory.mktemp("s3"), "--store", url, **KEYS) as running:
        yield running


@pytest.fixture
def settings(registry: RunningServer, store: FaultProxy, tmp_path: Path) -> ClientSettings:
    store.script, store.always, store.connections = [], None, 0
    store.bytes_toward.update(client=0, server=0)
    return ClientSettings(registry.url, registry.token, tmp_path / "cache")


def assert_same(folder: Path, other: Path) -> None:
    for path in folder.iterdir():
        assert (other / path.name).read_bytes() == path.read_bytes()


def test_bytes_go_straight_to_the_store_and_back(settings, store, registry, tmp_path):
    folder = write_large_adapter(tmp_path / "adapter", 20, seed=1)  # two parts of at most 16 MiB
    size = sum(path.stat().st_size for path in folder.iterdir())
    pushed = push(folder, NAME, settings)
    assert pushed.created
    assert store.bytes_toward["server"] > size
    assert_same(folder, pull(pushed.version.ref, settings))
    assert store.bytes_toward["client"] > size
    assert registry.token not in registry.log_text()


def test_a_broken_part_is_sent_again_and_the_others_are_not(settings, store, tmp_path):
    folder = write_large_adapter(tmp_path / "adapter", 36, seed=2)
    size = sum(path.stat().st_size for path in folder.iterdir())
    store.script = [Fault(toward="server", cut_at=3_000_000), Fault(toward="server", reset_at=5_000_000)]
    pushed = push(folder, NAME, settings)
    assert size < store.bytes_toward["server"] < size + 20_000_000
    assert_same(folder, pull(pushed.version.ref, settings))


def test_an_interrupted_push_sends_the_missing_parts_only(settings, store, tmp_path):
    """The first part of three was sent before the push died."""
    folder = write_large_adapter(tmp_path / "adapter", 36, seed=3)
    prepared = prepare(folder, None, Observer())
    weights = prepared.manifest.file("adapter_model.safetensors")
    with Client(settings) as client:
        plan = client.request_uploads(NAME, [weights])[weights.sha256]
        assert plan is not None
        first = (folder / weights.path).read_bytes()[: plan.part_size]
        assert httpx2.put(plan.parts[0].href, content=first).is_success
        again = client.request_uploads(NAME, [weights])[weights.sha256]
    assert again is not None
    assert [part.number for part in again.parts] == [2, 3]
    before = store.bytes_toward["server"]
    assert push(folder, NAME, settings).created
    assert store.bytes_toward["server"] - before < weights.size - plan.part_size + 1_000_000


class Meter(Observer):
    """Adds up what it hears of the stage that was begun last."""

    def __init__(self) -> None:
        self.total, self.shown, self._lock = 0, 0, threading.Lock()

    def begin(self, stage: str, total_bytes: int) -> None:
        self.total, self.shown = total_bytes, 0

    def advance(self, count: int) -> None:
        with self._lock:
            self.shown += count


@pytest.mark.timeout(120)
def test_a_push_asks_for_new_addresses_when_the_store_refuses_one(settings, store, tmp_path, monkeypatch):
    """The first of three parts is sent; then the store says 404 to the others, whose addresses name nothing."""
    folder = write_large_adapter(tmp_path / "adapter", 36, seed=6)
    request, asked, put, sent = Client.request_uploads, [], multipart._put, threading.Event()

    def request_uploads(client: Client, name: AdapterName, blobs: Iterable[FileEntry]) -> dict[str, UploadPlan | None]:
        plans = request(client, name, blobs)
        asked.append(plans)
        return plans if len(asked) > 1 else {sha256: spoil(plan) for sha256, plan in plans.items()}

    def spoil(plan: UploadPlan | None) -> UploadPlan | None:
        if plan is None:
            return None
        others = (replace(part, href=part.href.replace("/adapters/", "/gone/")) for part in plan.parts[1:])
        return replace(plan, parts=(plan.parts[0], *others))

    def put_in_order(connection: Connection, href: str, body: multipart._CountedBody) -> str:
        if "/gone/" in href:
            assert sent.wait(60)
        etag = put(connection, href, body)
        if body.end > 1_000_000:  # not the configuration
            sent.set()
        return etag

    monkeypatch.setattr(Client, "request_uploads", request_uploads)
    monkeypatch.setattr(multipart, "_put", put_in_order)
    meter = Meter()
    pushed = push(folder, NAME, settings, observer=meter)
    assert len(asked) == 2
    assert meter.shown == meter.total
    assert_same(folder, pull(pushed.version.ref, settings))


def test_a_download_from_the_store_resumes(settings, store, tmp_path):
    folder = write_large_adapter(tmp_path / "adapter", 6, seed=4)
    ref = push(folder, NAME, settings).version.ref
    store.always, before = Fault(cut_at=2_500_000), store.bytes_toward["client"]
    assert_same(folder, pull(ref, settings))
    assert store.bytes_toward["client"] - before < 8_500_000


def test_the_store_never_sees_the_token(settings, registry, s3, tmp_path):
    """A server in the store's place writes down what it is sent."""
    from tests.client.blob_server import blob_server

    folder = write_adapter(tmp_path / "adapter", seed=5)
    ref = push(folder, NAME, settings).version.ref
    with Client(settings) as client:
        location = ""
        with client.connection.stream(
            "GET", client.file_path(AdapterRef(NAME, ref.selector), "adapter_config.json")
        ) as answer:
            location = answer.headers["location"]
        data = (folder / "adapter_config.json").read_bytes()
        with blob_server(blobs={"/spy": data}) as spy, client.connection.stream("GET", f"{spy.url}/spy") as answer:
            answer.read()
            assert "authorization" not in spy.requests[0][2]
    assert "Signature" in location
    assert registry.token not in location
    assert json.loads(data)["peft_type"] == "LORA"
