"""Pushes that meet trouble half-way: files that change, uploads that expire, answers that never arrive."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hub.adapter.publication import Publication
from hub.client.api import Client
from hub.client.progress import Observer
from hub.client.sync import prepare, push, send
from hub.client.transfer import upload_blob
from hub.errors import DigestMismatch, Forbidden, NotFound
from hub.refs import AdapterName
from hub.settings import ClientSettings
from tests.client.conftest import write_large_adapter
from tests.support.adapters import write_adapter
from tests.support.fault_proxy import Fault, FaultProxy

WEIGHTS = "adapter_model.safetensors"


class Counter(Observer):
    """Keeps the books of each stage; threads may count at once."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[int, int]] = {}
        self._open = ""
        self._lock = threading.Lock()

    def begin(self, stage: str, total_bytes: int) -> None:
        self._open, self.stages[stage] = stage, (0, total_bytes)

    def advance(self, count: int) -> None:
        with self._lock:
            done, total = self.stages[self._open]
            self.stages[self._open] = (done + count, total)


@pytest.fixture
def settings(server, tmp_path: Path) -> ClientSettings:
    return ClientSettings(server.url, server.token, tmp_path / "cache")


@pytest.fixture
def proxy(server):
    with FaultProxy(int(server.url.rpartition(":")[2])) as running:
        yield running


def through(proxy: FaultProxy, settings: ClientSettings) -> ClientSettings:
    return ClientSettings(proxy.url, settings.token, settings.cache)


def test_a_file_that_changes_while_it_is_pushed_is_named(settings, tmp_path):
    folder = write_adapter(tmp_path / "adapter", seed=200)
    prepared = prepare(folder, None, Observer())
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with Client(settings) as client:
        with pytest.raises(DigestMismatch, match="changed while it was being pushed"):
            send(prepared, AdapterName("push", "changed"), Publication(), client, Observer())
        with pytest.raises(NotFound):
            client.adapter(AdapterName("push", "changed"))


def test_a_file_that_becomes_shorter_is_named(settings, tmp_path):
    folder = write_adapter(tmp_path / "adapter", seed=201)
    prepared = prepare(folder, None, Observer())
    (folder / WEIGHTS).write_bytes(b"")
    with Client(settings) as client, pytest.raises(DigestMismatch, match="changed while"):
        send(prepared, AdapterName("push", "shorter"), Publication(), client, Observer())


def test_an_upload_that_expired_on_the_server_is_begun_anew(settings, tmp_path):
    name, folder = AdapterName("push", "expired"), write_adapter(tmp_path / "adapter", seed=202)
    prepared = prepare(folder, None, Observer())
    entry = prepared.manifest.file(WEIGHTS)
    with Client(settings) as client:
        plan = client.request_uploads(name, [entry])[entry.sha256]
        assert plan is not None
        client.connection.call("DELETE", plan.href, again=False)
        upload_blob(client, name, plan, folder / WEIGHTS, entry, Observer(), threading.Event())
        assert client.request_uploads(name, [entry])[entry.sha256] is None


def test_an_answer_that_is_lost_after_the_last_byte_does_not_lose_the_push(settings, proxy, tmp_path):
    """The server has everything and has said so; the line broke before we heard it."""
    folder = write_adapter(tmp_path / "adapter", rank=64, hidden=512, seed=203)
    proxy.script = [Fault(), Fault(cut_at=1), Fault(cut_at=1)]
    assert push(folder, AdapterName("push", "unheard"), through(proxy, settings)).version.version == 1


def test_every_byte_is_counted_once_whatever_happens(settings, proxy, tmp_path):
    # A base of its own: files that the registry has from another test would not be sent.
    folder = write_large_adapter(tmp_path / "adapter", 4, seed=204, base="tests/counted")
    size = sum(path.stat().st_size for path in folder.iterdir())
    proxy.script = [Fault(toward="server", cut_at=1_000_000), Fault(toward="server", cut_at=1_500_000)]
    counter = Counter()
    push(folder, AdapterName("push", "counted"), through(proxy, settings), observer=counter)
    assert counter.stages == {"hashing": (size, size), "sending": (size, size)}


def test_what_the_registry_has_is_not_sent_again(settings, tmp_path):
    folder = write_large_adapter(tmp_path / "adapter", 4, seed=205)
    name = AdapterName("push", "known")
    assert push(folder, name, settings).sent_bytes > 4_000_000
    (folder / "README.md").write_text("# A card\n")
    second = push(folder, name, settings)
    assert (second.version.version, second.created, second.sent_bytes) == (2, True, len("# A card\n"))


def test_a_token_that_may_only_read_is_refused_before_anything_is_sent(settings, server, tmp_path):
    from hub.client.admin import AdminClient

    with Client(settings) as client:
        reader = AdminClient(client).create_token("reader", ["read"])["secret"]
    folder = write_adapter(tmp_path / "adapter", seed=206)
    with pytest.raises(Forbidden) as caught:
        push(folder, AdapterName("push", "reader"), ClientSettings(server.url, reader, settings.cache))
    assert caught.value.exit_code == 4
    assert reader not in str(caught.value)


def test_two_pushes_of_the_same_files_at_once_are_one_version(settings, tmp_path):
    folder = write_large_adapter(tmp_path / "adapter", 4, seed=207)
    name, made = AdapterName("push", "twice"), []

    def one() -> None:
        made.append(push(folder, name, settings).version.version)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert made == [1, 1, 1]
