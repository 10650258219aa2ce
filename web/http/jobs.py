"""Slow requests: a job computes the answer in its own thread, and the request waits without one.

    view, first time     -> `run_job` starts the job, and raises JobBegan
    WaitsForJobs         -> hands the server a Wait: it calls for more once the job has ended, and cancels it when the
                            client is gone
    view, second time    -> `run_job` returns what the job returned, or raises what it raised

So the answer, with its status, headers and log line, is that of any other request.
"""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flask import Response, request

from hub.errors import TooManyRequests, Unavailable

from .file_parts import Wait, sends_file_parts

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

T = TypeVar("T")
_JOB = "lorahub.job"
RETRY_SECONDS = 5


@dataclass(frozen=True)
class Job:
    """cancel: asks it to end soon.  body: of its request."""

    outcome: Future[Any]
    cancel: Callable[[], None]
    body: bytes


class Jobs:
    """The jobs of one kind that this worker runs: at most `most`, of each user at most `each`."""

    def __init__(self, name: str, most: int, each: int) -> None:
        self._most, self._each = most, each
        self._threads = ThreadPoolExecutor(most, thread_name_prefix=name)
        self._running: Counter[object] = Counter()
        self._lock = threading.Lock()

    def start(self, user: object, work: Callable[[], T]) -> Future[T]:
        """Raises TooManyRequests, Unavailable."""
        again = RETRY_SECONDS
        with self._lock:
            if self._running[user] >= self._each:
                raise TooManyRequests(
                    f"You have {self._each} of these running. Wait until one has ended.", retry_after_seconds=again
                )
            if self._running.total() >= self._most:
                raise Unavailable(
                    "The server runs as many of these as it can. Try again in a moment.", retry_after_seconds=again
                )
            self._running[user] += 1
        outcome = self._threads.submit(work)
        outcome.add_done_callback(lambda _: self._ended(user))
        return outcome

    def _ended(self, user: object) -> None:
        with self._lock:
            self._running[user] -= 1
            if not self._running[user]:
                del self._running[user]


def run_job(jobs: Jobs, user: object, work: Callable[[], T], cancel: Callable[[], None]) -> T:
    """Return what `work` returns, in the request that asks for it; the thread of the request doesn't wait.

    On a server that has no other way, it does.  Raises what `work` raises, and what `Jobs.start` raises.
    """
    job: Job | None = request.environ.get(_JOB)
    if job is not None:
        return cast("T", job.outcome.result())
    outcome = jobs.start(user, work)
    if not sends_file_parts(request.environ):
        return outcome.result()
    request.environ[_JOB] = Job(outcome, cancel, request.get_data())
    raise JobBegan


class JobBegan(Exception):
    """There is no answer yet."""


def answer_later(_: JobBegan) -> Response:
    return Response(status=202)


class WaitsForJobs:
    """WSGI middleware right around the application, whose answer to JobBegan is not sent."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def begin(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return None if _JOB in environ else start_response(status, headers, *error)

        answer = self._app(environ, begin)
        if _JOB not in environ:
            return answer
        getattr(answer, "close", lambda: None)()
        return cast("Iterable[bytes]", self._later(environ, start_response, environ[_JOB]))

    def _later(self, environ: WSGIEnvironment, start_response: StartResponse, job: Job) -> Iterator[bytes | Wait]:
        try:
            while not job.outcome.done():
                yield Wait(job.outcome)
        finally:
            job.cancel()
        environ["wsgi.input"] = io.BytesIO(job.body)
        answer = self._app(environ, start_response)
        try:
            yield from answer
        finally:
            getattr(answer, "close", lambda: None)()
