"""Slow clients, each kind a few lines: what they do to a server, and how the others fare meanwhile.

    python -m tests.attack.slow_clients [--clients 1000] [--seconds 10] [KIND …]

starts a real `lorahub serve` with one worker, lets every kind in turn do its worst for some seconds, and prints how
`/healthz` and a download went for somebody else.  Loopback only, bounded in count and time.  `make attack` runs it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import resource
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.server.wire import connect, read_all, status_of
from tests.support.adapters import write_adapter
from tests.support.server import RunningServer, running_server

WEIGHTS = "/api/v1/adapters/task/qa/versions/v1/files/adapter_model.safetensors"
PING = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
BEHIND = b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
NEIGHBOUR = "127.0.0.2"
"""The bystander's address: a flood of questions is counted against the address that it comes from."""

PATIENCE_SECONDS = 10.0
"""A bystander that waits longer than this was not served."""


@dataclass(frozen=True)
class Target:
    """url: of the server.  bearer: the field that says who publishes."""

    url: str
    bearer: bytes

    @classmethod
    def of(cls, server: RunningServer) -> Target:
        return cls(server.url, f"Authorization: Bearer {server.token}\r\n".encode())


Step = Callable[[socket.socket], None]


@dataclass(frozen=True)
class Kind:
    """begin: what each client sends at first.  drip: what it sends again and again, a byte or so; None: nothing."""

    name: str
    begin: Callable[[Target, socket.socket], None]
    drip: bytes | None = b"a"


def _says(words: bytes) -> Callable[[Target, socket.socket], None]:
    return lambda target, one: one.sendall(words.replace(b"BEARER\r\n", target.bearer))


def _asks_and_stays(_target: Target, one: socket.socket) -> None:
    """Ask for the connection to be closed, and never close it."""
    one.sendall(PING)


def _urgent(_target: Target, one: socket.socket) -> None:
    """Half a head, with a byte out of band in it."""
    one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    one.send(b"!", socket.MSG_OOB)


def _reads_slowly(target: Target, one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (WEIGHTS.encode(), target.bearer))


def _asks_without_reading(target: Target, one: socket.socket) -> None:
    """Many short questions, none of whose answers is read."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.setblocking(False)
    words = b"GET /api/v1/adapters/task/qa/versions/v1 HTTP/1.1\r\nHost: x\r\n%s\r\n" % target.bearer
    with contextlib.suppress(BlockingIOError):
        for _ in range(200):
            one.send(words)


def _half_closes(_target: Target, one: socket.socket) -> None:
    one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    one.shutdown(socket.SHUT_WR)


def _body(length: int, *fields: bytes) -> bytes:
    return BEHIND + b"BEARER\r\n" + b"".join(fields) + b"Content-Length: %d\r\n\r\n{" % length


def _just_under(size: int) -> bytes:
    """A body whose length, with its head, comes just over `size`, while it alone stays under it."""
    return _body(size - 40)


KINDS = (
    Kind("idle", lambda _target, _one: None, None),
    Kind("slow head", _says(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")),
    Kind("urgent byte in a head", _urgent),
    Kind("half-closed head", _half_closes, None),
    Kind("second head by halves", _says(PING.replace(b"Connection: close\r\n", b"") + b"GET /healthz HTTP/1.1\r\nX: ")),
    Kind("slow small body", _says(_body(5_000))),
    Kind("body near the bound", _says(_just_under(64 * 1024))),
    Kind("slow large body", _says(_body(5_000_000))),
    Kind("asks before it sends", _says(_body(100, b"Expect: 100-continue\r\n"))),
    Kind("slow chunks of a stranger", _says(BEHIND + b"Transfer-Encoding: chunked\r\n\r\n"), b"1\r\na\r\n"),
    Kind("slow chunks", _says(BEHIND + b"BEARER\r\nTransfer-Encoding: chunked\r\n\r\n"), b"1\r\n \r\n"),
    Kind("never closes", _asks_and_stays, None),
    Kind("reads slowly", _reads_slowly, None),
    Kind("asks without reading", _asks_without_reading, None),
)
"""Every way to be slow that is known to have held a thread, an event loop or a connection somewhere."""


@contextmanager
def attack(kind: Kind, target: Target, clients: int) -> Iterator[None]:
    """Let `clients` connections be slow in this way, until the block ends."""
    opened: list[socket.socket] = []
    stop = threading.Event()
    thread = threading.Thread(target=_be_slow, args=(kind, target, clients, opened, stop), daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while thread.is_alive() and len(opened) < clients and time.monotonic() < deadline:
            time.sleep(0.02)
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)
        for one in opened:
            one.close()


def _be_slow(kind: Kind, target: Target, clients: int, opened: list[socket.socket], stop: threading.Event) -> None:
    for _ in range(clients):
        if stop.is_set():
            return
        with contextlib.suppress(OSError):  # the server may close it before all is said
            one = connect(target.url, 2)
            opened.append(one)
            kind.begin(target, one)
            one.setblocking(False)
    for one in itertools.cycle(opened) if kind.drip and opened else ():
        if stop.wait(1.0 / clients):
            return
        with contextlib.suppress(OSError):
            one.send(kind.drip or b"")
    stop.wait()


@dataclass
class Fate:
    """How somebody else fared: the seconds of each answer, and the statuses; 0 where none came."""

    seconds: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def ask(self, url: str, request: bytes, source: str = "127.0.0.1") -> None:
        began = time.perf_counter()
        answer = b""
        with contextlib.suppress(OSError), connect(url, PATIENCE_SECONDS, source) as one:
            one.sendall(request)
            answer = read_all(one)
        self.seconds.append(time.perf_counter() - began)
        self.statuses.append(status_of(answer))

    @property
    def was_served(self) -> bool:
        return set(self.statuses) == {200}

    def __str__(self) -> str:
        ordered = sorted(self.seconds)
        p99 = ordered[int(len(ordered) * 0.99)]
        bad = sum(status != 200 for status in self.statuses)
        return (
            f"{len(ordered):5} asked, {bad:3} not served, "
            f"median {statistics.median(ordered) * 1000:7.1f} ms, p99 {p99 * 1000:8.1f} ms"
        )


def download(target: Target) -> bytes:
    """The request for the weights, by one that closes."""
    return b"GET %s HTTP/1.1\r\nHost: x\r\n%sConnection: close\r\n\r\n" % (WEIGHTS.encode(), target.bearer)


def push_weights(server: RunningServer, folder: Path) -> None:
    """Publish the version that the slow readers read: some megabytes, more than sockets take at once."""
    targets = ("q_proj", "v_proj", "k_proj", "o_proj")
    server.cli("push", str(write_adapter(folder / "qa", rank=64, layers=8, hidden=1024, targets=targets)), "task/qa")


def _measure(target: Target, seconds: float) -> tuple[Fate, Fate]:
    pings, downloads = Fate(), Fate()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pings.ask(target.url, PING, NEIGHBOUR)
        if len(pings.seconds) % 50 == 1:
            downloads.ask(target.url, download(target), NEIGHBOUR)
    return pings, downloads


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="one of: " + ", ".join(kind.name for kind in KINDS))
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5)
    chosen = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    served = True
    with tempfile.TemporaryDirectory(prefix="lorahub-attack-") as place:
        folder = Path(place)
        with running_server(folder / "server", "--workers", "1") as server:
            push_weights(server, folder)
            target = Target.of(server)
            print(f"{'nobody is slow':26}", *_measure(target, chosen.seconds), sep="  ", flush=True)
            for kind in KINDS:
                if chosen.kinds and kind.name not in chosen.kinds:
                    continue
                with attack(kind, target, chosen.clients):
                    pings, downloads = _measure(target, chosen.seconds)
                print(f"{kind.name:26}", pings, downloads, sep="  ", flush=True)
                served = served and pings.was_served and downloads.was_served
    return 0 if served else 1


if __name__ == "__main__":
    sys.exit(main())
