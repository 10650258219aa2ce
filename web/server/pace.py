"""How slow a client may be: pauses are allowed, but each body or answer must keep a minimum rate."""

from __future__ import annotations

import socket
import time

HEAD_SECONDS = 15.0
"""How long a request's head, with a short body, may take to arrive."""

STALL_SECONDS = 60.0
"""How long a body may stop arriving, or a client stop reading."""

MIN_BYTES_PER_SECOND = 1024
"""What a long body or answer moves at least, after its first minute: its deadline as a whole."""


class Pace:
    """The clock of one body or one answer."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.moved = 0

    def deadline(self) -> float:
        """Return the time by which the next byte must move."""
        return min(time.monotonic() + STALL_SECONDS, self._began + STALL_SECONDS + self.moved / MIN_BYTES_PER_SECOND)


class PacedSocket:
    """The client's socket, for a thread that reads one body from it.

    expects: the client waits for `100 Continue`, which is sent at the first read of the body.
    """

    def __init__(self, sock: socket.socket, *, expects: bool) -> None:
        self._socket = sock
        self._expects = expects
        self._pace = Pace()

    def recv(self, size: int) -> bytes:
        """Raises what a socket's `recv` raises, TimeoutError included."""
        seconds = self._pace.deadline() - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the body comes too slowly")
        self._socket.settimeout(seconds)
        try:
            if self._expects:
                self._expects = False
                self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            piece = self._socket.recv(size)
        finally:
            self._socket.settimeout(0)
        self._pace.moved += len(piece)
        return piece
