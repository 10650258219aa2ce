"""How long a transfer goes on against a line or a server that fails, and how it reads what it sends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from hub.client.cache import CHUNK_BYTES
from hub.client.parallel import Stopped
from hub.errors import DigestMismatch

ATTEMPTS = 8
"""Without getting anywhere; an attempt that moved bytes starts the count again."""

MAX_WAIT_SECONDS = 5.0


def read_range(path: Path, start: int, end: int, stop: threading.Event) -> Iterator[bytes]:
    """Yield the bytes of `path` from `start` to `end`.  Raises DigestMismatch if the file has become shorter."""
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        while start < end:
            if stop.is_set():
                raise Stopped("The upload was stopped.")
            chunk = file.read(min(CHUNK_BYTES, end - start))
            if not chunk:
                raise DigestMismatch(f"{path} changed while it was being pushed. Push again.")
            start += len(chunk)
            yield chunk
