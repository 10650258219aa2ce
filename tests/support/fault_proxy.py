"""A TCP proxy on loopback that breaks connections on purpose.

    with FaultProxy(server_port) as proxy:
        proxy.script = [Fault(cut_at=1000), Fault(flip_at=5, toward="server")]
        …  # talk to http://127.0.0.1:{proxy.port}

Connection number n suffers the n-th fault of the script; later ones pass unharmed, or suffer `always`.
`flips_left` bounds how many bits are flipped in all.
Offsets count the bytes of one direction of one connection, HTTP headers included.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from socket import SO_LINGER, SOL_SOCKET
from types import TracebackType

PIECE = 64 * 1024


@dataclass(frozen=True)
class Fault:
    """What happens to one connection.  `toward` is the direction that suffers: `client` or `server`."""

    toward: str = "client"
    cut_at: int | None = None  # a clean end (FIN)
    reset_at: int | None = None  # a broken one (RST)
    stall_at: int | None = None  # silence, with the connection left open
    flip_at: int | None = None  # one bit of one byte
    bytes_per_second: int | None = None


class _Broken(Exception):
    pass


class FaultProxy:
    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.script: list[Fault] = []
        self.always: Fault | None = None
        self.flips_left = 1_000_000
        self.connections = 0
        self.bytes_toward = {"client": 0, "server": 0}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        assert self._ready.wait(10), "the fault proxy did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        fault = self.script[number] if number < len(self.script) else self.always
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        both = (
            self._pump(reader, up_writer, "server", fault),
            self._pump(up_reader, writer, "client", fault),
        )
        tasks = [asyncio.ensure_future(one) for one in both]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # the proxy ends: what it holds open would keep the server waiting
            for end in (writer, up_writer):
                end.transport.abort()
            raise
        finally:
            for task in tasks:
                task.cancel()
        reset = any(task.done() and not task.cancelled() and task.exception() for task in tasks)
        for end in (writer, up_writer):
            if reset:
                end.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                end.transport.abort()
            with suppress(OSError):
                end.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, toward: str, fault: Fault | None
    ) -> None:
        mine = fault if fault is not None and fault.toward == toward else Fault()
        passed = 0
        while data := await reader.read(PIECE):
            data, end = self._harm(mine, passed, data)
            writer.write(data)
            await writer.drain()
            passed += len(data)
            self.bytes_toward[toward] += len(data)
            if end == "cut":
                return
            if end == "reset":
                raise _Broken
            if end == "stall":
                await asyncio.Event().wait()
            if mine.bytes_per_second:
                await asyncio.sleep(len(data) / mine.bytes_per_second)

    def _harm(self, fault: Fault, passed: int, data: bytes) -> tuple[bytes, str]:
        flip = fault.flip_at
        if flip is not None and passed <= flip < passed + len(data) and self.flips_left > 0:
            self.flips_left -= 1
            data = data[: flip - passed] + bytes([data[flip - passed] ^ 1]) + data[flip - passed + 1 :]
        for name, at in (("cut", fault.cut_at), ("reset", fault.reset_at), ("stall", fault.stall_at)):
            if at is not None and passed + len(data) >= at:
                return data[: at - passed], name
        return data, ""
