"""Send a blob in parts, each to a signed address: past the registry, straight into its object store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from hub.client.connection import Connection
from hub.client.parallel import Job, run_all
from hub.client.patience import ATTEMPTS, MAX_WAIT_SECONDS, read_range
from hub.client.progress import Observer
from hub.client.records import UploadPart, UploadPlan
from hub.errors import NetworkError, UploadNotFound

_EXPIRED = frozenset({403, 404})
"""What a store says of a signed address that is too old, or of an upload that it has dropped."""


def send_parts(connection: Connection, plan: UploadPlan, path: Path, observer: Observer, stop: threading.Event) -> None:
    """PUT every part, a few at once, then have the registry verify the whole."""
    etags: dict[int, str] = {}
    earlier = plan.size - sum(_size(plan, part) for part in plan.parts)  # parts that an earlier push has sent
    observer.advance(earlier)

    def job(part: UploadPart) -> Job:
        def run(stop: threading.Event) -> None:
            etags[part.number] = _put_patiently(connection, plan, part, path, observer, stop)

        return run

    try:
        run_all([job(part) for part in plan.parts], stop)
        parts = [{"number": number, "etag": etags[number]} for number in sorted(etags)]
        connection.call("POST", f"/api/v1/uploads/{plan.id}/complete", json={"parts": parts}, again=True)
    except BaseException:
        # Whoever takes the upload up again says once more what it has.
        observer.advance(-earlier - sum(_size(plan, part) for part in plan.parts if part.number in etags))
        raise


def _put_patiently(
    connection: Connection,
    plan: UploadPlan,
    part: UploadPart,
    path: Path,
    observer: Observer,
    stop: threading.Event,
) -> str:
    for attempt in connection.patience(ATTEMPTS, MAX_WAIT_SECONDS):
        with attempt:
            body = _CountedBody(path, _start(plan, part), _end(plan, part), observer, stop)
            try:
                return _put(connection, part.href, body)
            except BaseException:
                observer.advance(-body.sent)
                raise
    raise AssertionError("the last attempt returns or raises")


def _size(plan: UploadPlan, part: UploadPart) -> int:
    return _end(plan, part) - _start(plan, part)


def _start(plan: UploadPlan, part: UploadPart) -> int:
    return (part.number - 1) * plan.part_size


def _end(plan: UploadPlan, part: UploadPart) -> int:
    return min(part.number * plan.part_size, plan.size)


def _put(connection: Connection, href: str, body: _CountedBody) -> str:
    """Return the store's ETag of the part."""
    headers = {"Content-Length": str(body.end - body.start)}
    with connection.stream("PUT", href, headers=headers, content=iter(body)) as response:
        if response.status_code in _EXPIRED and connection.is_elsewhere(response):
            raise UploadNotFound("The address of a part has expired. Push again.")
        connection.check(response)
        etag = str(response.headers.get("etag", ""))
    if not etag:
        raise NetworkError("The store did not confirm a part of the upload. Push again.")
    return etag


class _CountedBody:
    """A range of a file that counts what has been sent of it."""

    def __init__(self, path: Path, start: int, end: int, observer: Observer, stop: threading.Event) -> None:
        self.start, self.end, self.sent = start, end, 0
        self._path, self._observer, self._stop = path, observer, stop

    def __iter__(self) -> Iterator[bytes]:
        for chunk in read_range(self._path, self.start, self.end, self._stop):
            yield chunk
            self.sent += len(chunk)
            self._observer.advance(len(chunk))
