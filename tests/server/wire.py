"""HTTP by hand: the bytes that no well-behaved client sends."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psutil


def connect(url: str, timeout: float = 30, source: str = "") -> socket.socket:
    """source: the loopback address to come from; any when empty."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), timeout, (source, 0) if source else None)


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes, or has nothing more to say within the socket's timeout."""
    found = bytearray()
    try:
        while piece := connection.recv(65536):
            found += piece
    except (TimeoutError, ConnectionResetError):
        pass
    return bytes(found)


def status_of(answer: bytes) -> int:
    """The status of an answer's first line; 0 when the server closed without a word."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


def ask(url: str, request: bytes, timeout: float = 30) -> int:
    with connect(url, timeout) as connection:
        connection.sendall(request)
        connection.settimeout(timeout)
        return status_of(connection.recv(65536))


@contextmanager
def open_sockets(url: str, count: int) -> Iterator[list[socket.socket]]:
    sockets = [connect(url) for _ in range(count)]
    try:
        yield sockets
    finally:
        for one in sockets:
            one.close()


def workers_of(pid: int) -> list[psutil.Process]:
    """The worker processes of a server."""
    return psutil.Process(pid).children()
