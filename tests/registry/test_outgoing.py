"""What the server fetches or posts because a user said so: imports and webhooks, and where they may not go."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from sqlalchemy import select

from hub.errors import (
    FileNotFound,
    Forbidden,
    HubError,
    InvalidRequest,
    NetworkError,
    TooManyRequests,
    UnsafeFile,
    WebhookNotFound,
)
from hub.registry.db.database import Database
from hub.registry.db.models import DeliveryRow, WebhookRow
from hub.registry.events import webhooks
from hub.registry.events.outgoing import is_public, open_client, parse_url, send_following
from hub.registry.library import importing
from tests.registry.world import World, named

QA = named("task/qa")


@dataclass
class Peer:
    """A real HTTP server on loopback, which answers what the test says and remembers what it was asked."""

    routes: dict[str, Callable[[BaseHTTPRequestHandler], tuple[int, dict[str, str], bytes]]] = field(
        default_factory=dict
    )
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlsplit(self.path).path)
            made.asked.append((self.command, path, dict(self.headers), body))
            status, headers, data = made.routes.get(path, lambda _: (404, {}, b""))(self)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer

        def log_message(self, *_args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def trusting(world: World, *hosts: str) -> World:
    settings = replace(world.context.settings, trusted_hosts=hosts)
    world.registry.context = replace(world.context, settings=settings)
    return world


def serve_adapter(peer: Peer, folder: Path, repo: str = "else/where", revision: str = "main") -> None:
    """Let the peer answer as a hub that has this adapter."""
    commit = "c" * 40
    names = sorted(path.name for path in folder.iterdir())
    listing: dict[str, Any] = {"sha": commit, "siblings": [{"rfilename": name} for name in names]}
    peer.routes[f"/api/models/{repo}/revision/{revision}"] = lambda _: (200, {}, json.dumps(listing).encode())
    for name in names:
        data = (folder / name).read_bytes()
        peer.routes[f"/{repo}/resolve/{commit}/{name}"] = lambda _, data=data: (200, {}, data)  # type: ignore[misc]


# Where the server may not go ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("fec0::1", False),
        ("64:ff9b:1::a00:1", False),
        ("64:ff9b::808:808", True),
        ("64:ff9b::a00:1", False),
        ("::7f00:1", False),
        ("::808:808", False),
        ("::ffff:0:7f00:1", False),
        ("::ffff:0:808:808", False),
    ],
)
def test_only_public_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"]
)
def test_import_from_a_private_address_is_refused_before_a_byte_is_sent(world: World, peer: Peer, host: str) -> None:
    with pytest.raises((InvalidRequest, NetworkError)):
        world.registry.versions.import_from(world.admin, QA, f"http://{host}:{peer.port}/else/where")
    assert peer.asked == []


def test_where_a_name_leads_inside_the_network_is_told_to_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.11.12.13", 80))]
    monkeypatch.setattr("hub.registry.events.outgoing.socket.getaddrinfo", lambda *_, **__: answer)
    with pytest.raises(InvalidRequest) as caught:
        world.registry.versions.import_from(world.admin, QA, "http://db.internal/else/where")
    assert "10.11.12.13" not in str(caught.value.message) + str(caught.value.details)


def test_a_cookie_that_one_request_was_given_goes_out_with_no_other(peer: Peer) -> None:
    peer.routes["/a"] = lambda _: (302, {"Location": "/b", "Set-Cookie": "seen=first; Path=/"}, b"")
    peer.routes["/b"] = lambda _: (200, {"Set-Cookie": "session=anns; Path=/"}, b"")
    with open_client([f"localhost:{peer.port}"]) as client:
        for _ in range(2):
            send_following(client, f"{peer.url}/a", {}).close()
    assert len(peer.asked) == 4
    assert not [headers for _, _, headers, _ in peer.asked if any(name.lower() == "cookie" for name in headers)]


def test_redirect_to_a_private_address_is_not_followed(world: World, peer: Peer) -> None:
    trusting(world, f"localhost:{peer.port}")
    hidden = Peer()
    hidden.port = peer.port
    peer.routes["/api/models/else/where/revision/main"] = lambda _: (
        302,
        {"Location": f"http://127.0.0.1:{peer.port}/internal"},
        b"",
    )
    with pytest.raises(InvalidRequest, match="no public address"):
        world.registry.versions.import_from(world.admin, QA, f"{peer.url}/else/where")
    assert [path for _, path, _, _ in peer.asked] == ["/api/models/else/where/revision/main"]


def test_name_that_answers_differently_the_second_time_gets_nowhere(
    world: World, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection goes to the address that was checked; the name is not looked up again."""
    answers = iter(["93.184.216.34", "127.0.0.1", "127.0.0.1"])
    dialled: list[str] = []

    def resolve(_host: str, port: int, **_options: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    def connect(address: tuple[str, int], *_args: object, **_options: object) -> socket.socket:
        dialled.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr("hub.registry.events.outgoing.socket.getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(NetworkError):
        world.registry.versions.import_from(world.admin, QA, f"http://rebind.example.com:{peer.port}/else/where")
    assert dialled == ["93.184.216.34"]
    with pytest.raises(InvalidRequest, match="no public address"):
        world.registry.versions.import_from(world.admin, QA, f"http://rebind.example.com:{peer.port}/else/where")
    assert dialled == ["93.184.216.34"]


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "gopher://x/", "http://user:pw@host/a/b", "http:///a/b", "http://h:0/a/b", "ns/name", ""],
)
def test_only_plain_web_addresses_are_addresses(url: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_url(url)


def test_token_goes_to_the_first_server_only(peer: Peer) -> None:
    elsewhere = f"http://127.0.0.1:{peer.port}/end"
    peer.routes["/start"] = lambda _: (302, {"Location": elsewhere}, b"")
    peer.routes["/end"] = lambda _: (200, {}, b"ok")
    with open_client(["localhost", "127.0.0.1"]) as client:
        send_following(client, f"{peer.url}/start", {"Authorization": "Bearer canary"}).close()
    assert [headers.get("Authorization") for _, _, headers, _ in peer.asked] == ["Bearer canary", None]


def test_circle_of_redirects_ends(peer: Peer) -> None:
    peer.routes["/start"] = lambda _: (302, {"Location": "/start"}, b"")
    with open_client(["localhost"]) as client, pytest.raises(NetworkError, match="circles"):
        send_following(client, f"{peer.url}/start", {})
    assert len(peer.asked) == 6


# Import ------------------------------------------------------------------------------------------------------------


def test_import_publishes_what_the_other_hub_has(world: World, peer: Peer) -> None:
    trusting(world, "localhost")
    folder = world.adapter(readme="# From afar\n")
    (folder / "training_args.bin").write_bytes(b"\x80\x04pickle")
    serve_adapter(peer, folder, revision="v2")
    done = world.registry.versions.import_from(world.admin, QA, f"{peer.url}/else/where@v2", token="canary")
    assert done.created
    assert {file.path for file in done.version.manifest.files} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert "else/where" in done.version.message
    assert all(headers.get("Authorization") == "Bearer canary" for _, _, headers, _ in peer.asked)
    assert not any(path.endswith(".bin") for _, path, _, _ in peer.asked)
    assert not world.registry.versions.import_from(world.admin, QA, f"{peer.url}/else/where@v2").created
    assert "canary" not in repr(world.registry.audit.list(world.admin))


def test_import_of_what_is_no_safetensors_adapter_is_refused(world: World, peer: Peer) -> None:
    trusting(world, "localhost")
    folder = world.adapter()
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    serve_adapter(peer, folder)
    with pytest.raises(FileNotFound, match="safetensors"):
        world.registry.versions.import_from(world.admin, QA, f"{peer.url}/else/where")
    with pytest.raises(FileNotFound):
        world.registry.versions.import_from(world.admin, QA, f"{peer.url}/not/there")
    peer.routes["/api/models/no/hub/revision/main"] = lambda _: (200, {}, b"<html>")
    with pytest.raises(NetworkError):
        world.registry.versions.import_from(world.admin, QA, f"{peer.url}/no/hub")


def test_import_never_stores_a_pickle_under_a_good_name(world: World, peer: Peer) -> None:
    trusting(world, "localhost")
    folder = world.adapter()
    (folder / "adapter_model.safetensors").write_bytes(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.")
    serve_adapter(peer, folder)
    with pytest.raises(UnsafeFile):
        world.registry.versions.import_from(world.admin, QA, f"{peer.url}/else/where")


def test_import_that_is_cut_short_keeps_nothing(world: World, peer: Peer) -> None:
    trusting(world, "localhost")
    folder = world.adapter()
    serve_adapter(peer, folder)
    weights = (folder / "adapter_model.safetensors").read_bytes()
    peer.routes[f"/else/where/resolve/{'c' * 40}/adapter_model.safetensors"] = lambda _: (
        200,
        {"Content-Length": str(len(weights))},
        weights[:100],
    )
    with pytest.raises(HubError):
        world.registry.versions.import_from(world.admin, QA, f"{peer.url}/else/where")
    with pytest.raises(HubError):
        world.registry.adapters.get(world.admin, QA)


def test_import_takes_the_right_to_publish(world: World, peer: Peer) -> None:
    trusting(world, "localhost")
    world.namespace("task")
    with pytest.raises(Forbidden):
        world.registry.versions.import_from(world.user("tom"), QA, f"{peer.url}/else/where")
    assert peer.asked == []


@pytest.mark.parametrize(
    ("url", "repo", "revision"),
    [
        ("https://huggingface.co/org/name", "org/name", "main"),
        ("https://hub.example.com/task/qa@rel/1.0", "task/qa", "rel/1.0"),
        ("https://huggingface.co/org/name/tree/dev", "org/name", "dev"),
    ],
)
def test_source_is_read_from_the_address_of_its_page(url: str, repo: str, revision: str) -> None:
    source = importing.parse_source(url)
    assert (source.repo, source.revision) == (repo, revision)


# Webhooks ----------------------------------------------------------------------------------------------------------


def test_event_is_posted_signed_and_once(world: World, peer: Peer) -> None:
    trusting(world, "localhost")
    world.namespace("task")
    peer.routes["/hook"] = lambda _: (204, {}, b"")
    _, secret = world.registry.webhooks.create(world.admin, "task", f"{peer.url}/hook", ["version.publish"])
    world.push("task/qa", alias="prod")
    world.push("other/qa", seed=2)
    assert world.registry.webhooks.deliver() == 1
    assert world.registry.webhooks.deliver() == 0
    _, _, headers, body = peer.asked[0]
    assert headers["X-Lorahub-Event"] == "version.publish"
    signed = f"{headers['X-Lorahub-Timestamp']}.".encode() + body
    assert headers["X-Lorahub-Signature"] == "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    told = json.loads(body)
    assert (told["event"], told["target"], told["user"]) == ("version.publish", "task/qa@v1", "admin")


def test_delivery_is_tried_again_later_and_later_until_it_gets_through(world: World, peer: Peer) -> None:
    trusting(world, "localhost")
    world.namespace("task")
    peer.routes["/hook"] = lambda _: (500, {}, b"")
    world.registry.webhooks.create(world.admin, "task", f"{peer.url}/hook", ["version.publish"])
    world.push("task/qa")
    assert world.registry.webhooks.deliver() == 0
    assert world.registry.webhooks.deliver() == 0, "not due yet"
    assert len(peer.asked) == 1
    for wait in (31, 61, 121):
        world.clock.forward(seconds=wait)
        world.registry.webhooks.deliver()
    assert len(peer.asked) == 4
    assert "500" in (world.registry.webhooks.list(world.admin, "task")[0].last_error or "")
    peer.routes["/hook"] = lambda _: (200, {}, b"")
    world.clock.forward(hours=1)
    assert world.registry.webhooks.deliver() == 1
    assert len({headers["X-Lorahub-Delivery"] for _, _, headers, _ in peer.asked}) == 1


def test_delivery_that_never_gets_through_is_given_up(world: World, peer: Peer) -> None:
    trusting(world, "localhost")
    world.namespace("task")
    world.registry.webhooks.create(world.admin, "task", f"{peer.url}/nowhere", ["version.publish"])
    world.push("task/qa")
    for _ in range(webhooks.MAX_ATTEMPTS + 3):
        world.registry.webhooks.deliver()
        world.clock.forward(hours=7)
    assert len(peer.asked) == webhooks.MAX_ATTEMPTS


def test_delivery_of_a_worker_that_died_is_taken_over(world: World, peer: Peer) -> None:
    trusting(world, "localhost")
    world.namespace("task")
    peer.routes["/hook"] = lambda _: (200, {}, b"")
    hook, _ = world.registry.webhooks.create(world.admin, "task", f"{peer.url}/hook", ["*"])
    world.push("task/qa")
    claimed = 0
    with world.context.database.write() as session:
        while webhooks._claim(world.context, session, webhook_id=hook.id) is not None:
            claimed += 1  # and then it died
    assert claimed >= 1
    assert world.registry.webhooks.deliver() == 0
    world.clock.forward(minutes=3)
    assert world.registry.webhooks.deliver() == claimed


@pytest.mark.parametrize("host", ["300.1.1.1", "a..b", f"{'a' * 64}.example"])
def test_host_that_no_resolver_can_be_asked_for_is_refused(world: World, host: str) -> None:
    world.namespace("task")
    with pytest.raises(InvalidRequest, match="no name of a host"):
        world.registry.webhooks.create(world.admin, "task", f"http://{host}/hook")


@pytest.mark.parametrize("host", ["300.1.1.1", "a..b"])
def test_an_address_that_can_not_be_used_keeps_no_other_delivery_waiting(world: World, peer: Peer, host: str) -> None:
    trusting(world, "localhost")
    world.namespace("task")
    peer.routes["/hook"] = lambda _: (200, {}, b"")
    for _ in range(2):
        world.registry.webhooks.create(world.admin, "task", f"{peer.url}/hook", ["version.publish"])
    with world.context.database.write() as session:  # one that an older release took
        session.scalars(select(WebhookRow).order_by(WebhookRow.id)).first().url = f"http://{host}/hook"  # type: ignore[union-attr]
    world.push("task/qa")
    assert world.registry.webhooks.deliver() == 1
    bad, good = world.registry.webhooks.list(world.admin, "task")
    assert bad.last_error
    assert good.last_error is None


def test_what_waits_behind_a_slow_delivery_is_not_posted_twice(world: World, peer: Peer) -> None:
    """While it takes its time, another worker takes what is due: that is not ours any more when our turn comes."""
    trusting(world, "localhost")
    world.namespace("task")

    def slow(_: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if len(peer.asked) == 1:
            world.clock.forward(minutes=3)  # longer than anything is claimed for
            world.registry.webhooks.deliver()
        return 200, {}, b""

    peer.routes["/slow"] = slow
    world.registry.webhooks.create(world.admin, "task", f"{peer.url}/slow", ["version.publish"])
    for seed in (1, 2):
        world.push("task/qa", seed=seed)
    world.registry.webhooks.deliver()
    posted = [json.loads(body)["target"] for _, _, _, body in peer.asked]
    assert posted.count("task/qa@v2") == 1


def test_deliveries_to_one_receiver_share_a_connection(
    world: World, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting(world, "localhost")
    world.namespace("task")
    ports: set[int] = set()

    def note(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        ports.add(request.client_address[1])
        return 200, {}, b"thank you"

    monkeypatch.setattr(BaseHTTPRequestHandler, "protocol_version", "HTTP/1.1")
    peer.routes["/hook"] = note
    world.registry.webhooks.create(world.admin, "task", f"{peer.url}/hook", ["version.publish"])
    for seed in range(3):
        world.push("task/qa", seed=seed)
    assert world.registry.webhooks.deliver() == 3
    assert len(ports) == 1


def test_what_a_receiver_says_besides_its_status_is_not_read(world: World, peer: Peer) -> None:
    """So none can fill our memory, nor keep us until it has said all."""
    trusting(world, "localhost")
    world.namespace("task")
    peer.routes["/hook"] = lambda _: (200, {"Content-Length": "1000000000"}, b"only the beginning")
    world.registry.webhooks.create(world.admin, "task", f"{peer.url}/hook", ["version.publish"])
    world.push("task/qa")
    assert world.registry.webhooks.deliver() == 1


def test_webhook_is_never_posted_to_a_private_address(world: World, peer: Peer) -> None:
    world.namespace("task")
    world.registry.webhooks.create(world.admin, "task", f"{peer.url}/hook")
    world.push("task/qa")
    assert world.registry.webhooks.deliver() == 0
    assert peer.asked == []
    assert "no public address" in (world.registry.webhooks.list(world.admin, "task")[0].last_error or "")


def test_no_event_of_a_mutation_that_was_rolled_back(world: World, peer: Peer) -> None:
    trusting(world, "localhost")
    world.push("task/qa", alias="prod")
    world.registry.aliases.set(world.admin, QA, "prod", 1, protected=True)
    peer.routes["/hook"] = lambda _: (200, {}, b"")
    world.registry.webhooks.create(world.admin, "task", f"{peer.url}/hook", ["version.publish"])
    publisher = world.user("pia", {"task": "publisher"})
    with pytest.raises(Forbidden):
        world.push("task/qa", seed=2, actor=publisher, alias="prod")
    assert world.registry.webhooks.deliver() == 0
    with pytest.raises(WebhookNotFound):
        world.registry.webhooks.delete(publisher, world.registry.webhooks.list(world.admin, "task")[0].id)


def test_rate_bucket_is_one_for_all_and_fills_up_again(world: World) -> None:
    def take() -> bool:
        try:
            world.registry.rates.take("ip:1.2.3.4", per_minute=60, burst=5)
        except TooManyRequests:
            return False
        return True

    assert [take() for _ in range(7)] == [True] * 5 + [False] * 2
    with pytest.raises(TooManyRequests) as caught:
        world.registry.rates.take("ip:1.2.3.4", per_minute=60, burst=5)
    assert caught.value.details["retry_after_seconds"] == 1
    world.clock.forward(seconds=2)
    assert [take() for _ in range(3)] == [True, True, False]
    world.registry.rates.take("ip:5.6.7.8", per_minute=60, burst=5)
    world.clock.forward(days=-1)
    assert not take()
    world.clock.forward(seconds=1)
    assert take(), "a clock that went back does not stop the bucket for a day"
    world.clock.forward(days=3)
    world.registry.upkeep.collect(grace=timedelta(days=30))
    assert [take() for _ in range(6)] == [True] * 5 + [False]


def test_a_take_that_waited_for_another_does_not_count_the_time_between_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second fills one token of ten.  The first comes at 10 s, and gets to its bucket after one of 20 s."""

    def take(cost: float) -> bool:
        try:
            world.registry.rates.take("caller", per_minute=60, burst=10, cost=cost)
        except TooManyRequests:
            return False
        return True

    assert take(10)
    world.clock.forward(seconds=10)
    transact = Database.transact

    def overtaken(database: Database, work: Any) -> Any:
        monkeypatch.setattr(Database, "transact", transact)
        world.clock.forward(seconds=10)
        assert take(10)
        return database.transact(work)

    monkeypatch.setattr(Database, "transact", overtaken)
    assert not take(1)
    assert not take(1), "nothing has come in since"
    world.clock.forward(seconds=1)
    assert take(1)


def test_a_receiver_that_drips_delays_only_itself(world: World, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its head comes a byte at a time: no read ever times out, and yet the delivery ends."""
    trusting(world, "localhost", "127.0.0.1")
    world.namespace("task")
    monkeypatch.setattr(webhooks, "DELIVERY_SECONDS", 3.0)
    peer.routes["/quick"] = lambda _: (200, {}, b"")
    with dripping() as (address, heads):
        for url in (f"{address}/slow", f"{peer.url}/quick"):
            world.registry.webhooks.create(world.admin, "task", url, ["version.publish"])
        world.push("task/qa")
        quick_after_bytes: list[int] = []
        peer.routes["/quick"] = lambda _: (quick_after_bytes.append(sum(heads)), (200, {}, b""))[1]  # type: ignore[func-returns-value]
        assert world.registry.webhooks.deliver() == 1
    slow, quick = world.registry.webhooks.list(world.admin, "task")
    assert "too long" in (slow.last_error or "")
    assert quick.last_error is None
    assert quick_after_bytes[0] < sum(heads), "the quick one was posted to while the slow one dripped"


@contextmanager
def dripping() -> Iterator[tuple[str, list[int]]]:
    """A receiver that sends its head a byte at a time for a minute; and the counts of what it sent."""
    heads: list[int] = []
    over = threading.Event()

    def drip(client: socket.socket) -> None:
        heads.append(0)
        mine = len(heads) - 1
        with client, suppress(OSError):
            client.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            for _ in range(600):
                if over.wait(0.1):
                    return
                client.sendall(b"a")
                heads[mine] += 1

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads
        over.set()


def test_what_ended_is_pruned_and_what_waits_is_kept(world: World, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    trusting(world, "localhost")
    world.namespace("task")
    monkeypatch.setattr(webhooks, "KEPT_PER_WEBHOOK", 3)
    monkeypatch.setattr(webhooks, "PRUNED_AT_ONCE", 2)
    peer.routes["/hook"] = lambda _: (200, {}, b"")
    for path in ("hook", "nowhere"):
        world.registry.webhooks.create(world.admin, "task", f"{peer.url}/{path}", ["version.publish"])
    for seed in range(8):
        world.push("task/qa", seed=seed)
    assert world.registry.webhooks.deliver() == 8
    assert world.registry.webhooks.prune() == 5
    with world.context.database.read() as session:
        states = Counter(session.scalars(select(DeliveryRow.state)))
    assert states == {"delivered": 3, "waiting": 8}
    world.clock.forward(days=8)
    assert world.registry.webhooks.prune() == 3
