"""The process in which recipes run: `python -m hub.registry.derived.child`, driven by sandbox.py.

Each job runs in a fork, which first sets its own limits: the kernel ends it if it exceeds them.  It opens no database.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, cast

from hub.errors import HubError
from hub.formats.readable import Readable
from hub.registry.storage.opening import open_store
from hub.registry.storage.store import BlobStore

READ_AHEAD_BYTES = 8 * 1024 * 1024
Files = Mapping[str, Readable]


class StoredFile:
    """A blob as the core reads files.  Reads ahead: each read of an object store is a request."""

    def __init__(self, store: BlobStore, sha256: str, size: int) -> None:
        self._store, self._sha256 = store, sha256
        self.size = size
        self._start, self._ahead = 0, b""

    def read(self, offset: int, size: int) -> bytes:
        stop = min(offset + size, self.size)
        if offset < self._start or stop > self._start + len(self._ahead):
            end = min(max(stop, offset + READ_AHEAD_BYTES), self.size)
            self._start, self._ahead = offset, self._store.read(self._sha256, offset, max(0, end - offset))
        return self._ahead[offset - self._start : max(0, stop - self._start)]


def main() -> None:
    """Answer one job per line until there are no more."""
    for line in sys.stdin.buffer:
        request = json.loads(line)
        for module in (request["function"].partition(":")[0], *request["imports"]):
            import_module(module)
        answer = _in_a_fork(request) if hasattr(os, "fork") else _answer(request)
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()


def _in_a_fork(request: Mapping[str, Any]) -> bytes:
    """Run the job in a fork: the imports are done already, and its memory is released at its exit."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        try:
            bound(request["cpu_seconds"], request["memory_bytes"], request["deadline_seconds"])
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(_answer(request))
        except BaseException:  # noqa: BLE001 - a fork must never go on as if it were its parent
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return b'{"killed": true}'
    return answer if status == 0 else b'{"again": true}'


def _answer(request: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps({"value": make(request)}, allow_nan=False).encode()
    except MemoryError:
        return _refusal(f"It needs more than {request['memory_bytes'] // 10**6:,} MB of memory.")
    except HubError as error:
        if error.status >= 500 and type(error) is not HubError:  # the store, not the version
            print(error.message, file=sys.stderr)
            return b'{"again": true}'
        return _refusal(error.message)
    if len(text) > request["max_bytes"]:
        return _refusal("The result is too large to be kept.")
    return text


def make(request: Mapping[str, Any]) -> Any:
    store = open_store(request["store"])
    versions = [
        {path: StoredFile(store, sha256, size) for path, size, sha256 in listed} for listed in request["versions"]
    ]
    module, _, name = request["function"].partition(":")
    function = cast("Callable[..., Any]", getattr(import_module(module), name))
    return function(*versions)


def bound(cpu_seconds: int, memory_bytes: int, deadline_seconds: int) -> None:
    """Make the kernel end this process if it exceeds its limits.  On Windows, only the deadline holds."""
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.nice(10)  # requests have priority
        signal.alarm(deadline_seconds)  # even if the parent is gone


def _refusal(reason: str) -> bytes:
    return json.dumps({"refused": reason}).encode()


if __name__ == "__main__":
    main()
