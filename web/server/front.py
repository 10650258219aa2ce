"""A worker's event loop: it does all the waiting for clients, so that no thread has to.

    accept -> wait for the head, and for the body if it is short (15 s)
           -> a request that resolves a ref: answered here at once (quick.py)
           -> any other: a thread of the pool builds the answer and sends what the socket accepts (answers.py); the loop
              waits until it accepts more
           -> a long body: a thread of a second pool reads it as it arrives (pace.py sets the slowest pace)
           -> keep the connection for the next request, or close it once the client has closed its side (2 s)

shares.py limits the connections and threads of one address.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import socket
import time
from collections.abc import Callable

from ..http.file_parts import Wait
from . import refusals
from .answers import Answer, Ends, Site, Stream
from .heads import MAX_HEAD_BYTES, Head, find_head, forwarded_address
from .pace import HEAD_SECONDS, Pace, PacedSocket
from .quick import Quick
from .shares import Crowd, FairPool, Full, Turns, call_in_loop

KEEP_SECONDS = 15.0
"""How long a connection may ask nothing."""

LINGER_SECONDS = 2.0
"""How long a client may take to close a connection that we have closed, before what it still sends is an error."""

LINGER_BYTES = 64 * 1024 * 1024
"""What a client may still send meanwhile, which nobody reads."""

ACCEPTS_PER_TURN = 16
TURNS_PER_ROUND = 16
RECEIVE_BYTES = 64 * 1024
SWEEP_SECONDS = 0.5

_OUT_OF_HANDLES = {errno.EMFILE, errno.ENFILE}
_NOBODY_THERE = {errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK, errno.EINTR}


class Connection:
    """A client's connection, and the bytes of its next request so far.

    deadline: when it is closed, unless it makes progress first.  rests, waits: see `shares.Place`.
    """

    __slots__ = ("address", "deadline", "ends", "last_words", "rests", "seen", "socket", "task", "waits")

    def __init__(self, sock: socket.socket, ends: Ends) -> None:
        self.socket, self.ends = sock, ends
        self.address = str(ends.client[0]) if isinstance(ends.client, tuple) else ""
        self.seen = bytearray()
        self.deadline = math.inf
        self.rests = self.waits = False
        self.last_words = b""
        self.task: asyncio.Task[None] | None = None

    def wait_until(self, deadline: float, *, rests: bool = False) -> None:
        self.deadline, self.waits, self.rests = deadline, True, rests

    def work(self) -> None:
        """Hand it to a thread: until that is done, it can't be closed."""
        self.deadline, self.waits, self.rests = math.inf, False, False

    def end(self, last_words: bytes) -> None:
        """Close it from outside of its task."""
        self.deadline, self.last_words = math.inf, last_words
        self.waits = self.rests = False
        if self.task:
            self.task.cancel()


class Front:
    """The connections of a worker.

    listeners: the sockets that accept them.  hops: how many proxies are in front.  threads: how many run the
    application; as many again read long bodies.  places: the most connections at once.
    """

    def __init__(
        self, site: Site, quick: Quick | None, listeners: list[socket.socket], *, threads: int, places: int, hops: int
    ) -> None:
        self._site, self._quick, self._listeners, self._hops = site, quick, listeners, hops
        share = max(1, threads - max(1, threads // 4))
        self._pool = FairPool(threads, share, "request")
        self._readers = FairPool(threads, share, "body")
        self._crowd: Crowd[Connection] = Crowd(places)
        self._turns = Turns(TURNS_PER_ROUND)
        self._reserve = os.open(os.devnull, os.O_RDONLY)

    async def run(self, is_over: Callable[[], bool], grace_seconds: float) -> None:
        """Serve until `is_over`, polled twice a second; then finish requests, within the grace period."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            listener.setblocking(False)
            loop.add_reader(listener, self._accept, listener)
        while not is_over():
            await asyncio.sleep(SWEEP_SECONDS)
            self._sweep()
        for listener in self._listeners:
            loop.remove_reader(listener)
            listener.close()
        await self._drain(time.monotonic() + grace_seconds, is_over)
        self._pool.shutdown()
        self._readers.shutdown()

    async def _drain(self, until: float, tick: Callable[[], bool]) -> None:
        """Finish requests.  One that a client is sending on a kept connection is answered, with `Connection: close`."""
        soon = time.monotonic() + LINGER_SECONDS
        while len(self._crowd) and time.monotonic() < until:
            for one in self._crowd:
                if one.rests:
                    one.deadline = min(one.deadline, soon)
            self._sweep()
            tick()
            await asyncio.sleep(0.05)

    def _sweep(self) -> None:
        now = time.monotonic()
        for one in self._crowd:
            if one.deadline <= now:
                one.end(refusals.TOO_SLOW if one.seen else b"")

    # Accepting --------------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, client = listener.accept()
            except OSError as error:
                if error.errno in _OUT_OF_HANDLES:
                    self._refuse_one(listener)
                elif error.errno not in _NOBODY_THERE:
                    raise
                return
            self._welcome(Connection(sock, Ends(client, listener.getsockname())))

    def _welcome(self, one: Connection) -> None:
        one.socket.setblocking(False)
        if self._crowd.is_full:
            leaves = self._crowd.who_leaves(one.address)
            if leaves is None:
                _say(one.socket, refusals.OUT_OF_PLACES)
                one.socket.close()
                return
            self._crowd.remove(leaves)
            leaves.end(refusals.OUT_OF_PLACES)
        self._crowd.add(one)
        one.wait_until(time.monotonic() + HEAD_SECONDS, rests=True)
        one.task = asyncio.get_running_loop().create_task(self._serve(one))

    def _refuse_one(self, listener: socket.socket) -> None:
        """Accept one connection with the reserve descriptor, tell the client to retry later, and close it."""
        self._site.log.warning("out of file descriptors: a connection is refused")
        os.close(self._reserve)
        try:
            client, _ = listener.accept()
            with client:
                client.setblocking(False)
                with contextlib.suppress(OSError):
                    # Read the request: closing with unread bytes would reset the connection, and lose our answer.
                    client.recv(RECEIVE_BYTES)
                _say(client, refusals.OUT_OF_PLACES)
        except OSError:
            pass  # another thread took the descriptor
        self._reserve = -1
        self._listen_again_later(listener)

    def _listen_again_later(self, listener: socket.socket) -> None:
        """Stop accepting until there is a reserve descriptor: the listener stays readable, so the loop would spin."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY)
        except OSError:
            loop.call_later(0.05, self._listen_again_later, listener)
        else:
            if listener.fileno() >= 0:
                loop.add_reader(listener, self._accept, listener)

    # One connection ---------------------------------------------------------------------------------------------

    async def _serve(self, one: Connection) -> None:
        try:
            while await self._answer_next(one):
                # Take turns, so that clients with many requests in a row can't monopolise the event loop.
                await self._turns.next(one.address)
            await self._part(one)
        except asyncio.CancelledError:
            if one.last_words:
                _say(one.socket, one.last_words)
        except OSError:
            pass  # the client is gone
        except Exception:
            self._site.log.exception("a connection failed")
        finally:
            self._crowd.remove(one)
            one.socket.close()

    async def _answer_next(self, one: Connection) -> bool:
        """Answer one request.  Returns whether the connection can serve another."""
        head = await self._receive(one)
        if head is None:
            return False
        request = bytes(one.seen[: head.size])
        if self._quick and head.length == 0:
            one.work()
            answer = await self._quick.answer(request, one.address)
            if answer:
                del one.seen[: head.size]
                await self._send(one, answer)
                return not self._site.is_stopping()
        address = forwarded_address(request, one.address, self._hops)
        if head.is_short:
            size = head.size + (head.length or 0)
            source: bytes | Stream = bytes(one.seen[:size])
            del one.seen[:size]
        else:
            source = Stream(PacedSocket(one.socket, expects=head.expects), bytes(one.seen))
            one.seen.clear()
        return await self._let_answer(one, address, source)

    async def _let_answer(self, one: Connection, address: str, source: bytes | Stream) -> bool:
        """Have threads build and send the answer."""
        one.work()

        def begin() -> tuple[Answer, bool]:
            answer = Answer(self._site, one.socket, one.ends, source)
            return answer, answer.turn()

        try:
            if isinstance(source, Stream):
                answer, is_sent = await self._readers.run_now(address, begin)
            else:
                answer, is_sent = await self._pool.run(address, begin)
        except Full:
            await self._send(one, refusals.OUT_OF_THREADS)
            return False
        try:
            while not is_sent:
                if answer.wait:
                    await self._until_done(one, answer.wait)
                else:
                    await self._until_writable(one, answer.pace.deadline())
                one.work()
                is_sent = await self._pool.run(address, answer.turn)
        except BaseException:
            with contextlib.suppress(RuntimeError):  # the worker is shutting down
                self._pool.submit(address, answer.close)
            raise
        one.seen[:0] = answer.left
        return answer.keeps

    async def _receive(self, one: Connection) -> Head | None:
        """Wait for a head, and for its body if that is short.  None if there is nothing left to answer."""
        loop = asyncio.get_running_loop()
        head, scanned = None, 0
        while True:
            while head is None and one.seen.startswith(b"\r\n"):
                del one.seen[:2]  # between requests (RFC 9112, section 2.2)
            if head is None:
                head = find_head(one.seen, scanned)
                scanned = len(one.seen)
                if head and head.expects and head.is_short and len(one.seen) < head.size + (head.length or 0):
                    await self._send(one, b"HTTP/1.1 100 Continue\r\n\r\n")
            if head and (not head.is_short or len(one.seen) >= head.size + (head.length or 0)):
                return head
            if head is None and len(one.seen) > MAX_HEAD_BYTES:
                await self._send(one, refusals.HEAD_TOO_LARGE)
                return None
            self._wait_for_request(one)
            piece = await loop.sock_recv(one.socket, RECEIVE_BYTES)
            if not piece:
                if one.seen:
                    await self._send(one, refusals.CUT_OFF)
                return None
            one.seen += piece

    @staticmethod
    def _wait_for_request(one: Connection) -> None:
        """Set the deadline: for an idle connection, or for a whole request from its first byte."""
        now = time.monotonic()
        if not one.seen:
            one.wait_until(now + KEEP_SECONDS if not one.waits else one.deadline, rests=True)
        elif one.rests or not one.waits:
            one.wait_until(now + HEAD_SECONDS)

    async def _send(self, one: Connection, words: bytes) -> None:
        """Send what fits in memory."""
        try:
            sent = one.socket.send(words)
        except BlockingIOError:
            sent = 0
        if sent < len(words):
            one.wait_until(Pace().deadline())
            await asyncio.get_running_loop().sock_sendall(one.socket, words[sent:])
        one.work()

    @staticmethod
    async def _until_writable(one: Connection, deadline: float) -> None:
        one.wait_until(deadline)
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        descriptor = one.socket.fileno()

        def tell() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_writer(descriptor, tell)
        try:
            await ready
        finally:
            loop.remove_writer(descriptor)

    async def _until_done(self, one: Connection, wait: Wait) -> None:
        """Wait for the application.  Raises ConnectionAbortedError if the client disconnects meanwhile."""
        loop = asyncio.get_running_loop()
        is_done: asyncio.Future[bool] = loop.create_future()

        def tell(done: bool) -> None:
            if not is_done.done():
                is_done.set_result(done)

        def look() -> None:
            try:
                has_ended = not one.socket.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return
            except OSError:
                has_ended = True
            loop.remove_reader(descriptor)  # else its next request, for later
            if has_ended:
                tell(False)

        descriptor = one.socket.fileno()
        loop.add_reader(descriptor, look)
        wait.until.add_done_callback(lambda _: call_in_loop(loop, tell, True))
        try:
            if not await is_done:
                raise ConnectionAbortedError("the client is gone")
        finally:
            loop.remove_reader(descriptor)

    async def _part(self, one: Connection) -> None:
        """Close our side, and give the client a moment to read the end of our answer and to close its own.

        Closing with unread bytes would reset the connection, and the client might lose that answer.
        """
        one.seen.clear()
        one.socket.shutdown(socket.SHUT_WR)
        one.wait_until(time.monotonic() + LINGER_SECONDS, rests=True)
        count = 0
        while count < LINGER_BYTES:
            piece = await asyncio.get_running_loop().sock_recv(one.socket, RECEIVE_BYTES)
            if not piece:
                return
            count += len(piece)


def _say(sock: socket.socket, words: bytes) -> None:
    """Send a short answer, if the socket accepts it at once."""
    with contextlib.suppress(OSError):
        sock.send(words)
