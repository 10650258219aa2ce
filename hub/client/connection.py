"""One registry's HTTP, with its rules in one place: who gets the token, what is tried again, what an error means.

- The token goes to the registry's own origin and nowhere else; a redirect or a signed URL elsewhere never carries it.
- Only calls that may be made twice are tried again, and never sooner than the server's Retry-After says.
- Whatever goes wrong below comes out as a HubError with a next step.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2
import tenacity

from hub import __version__
from hub.client.http_clients import HttpClients
from hub.errors import HubError, InvalidRequest, NetworkError, Offline, StorageFull, TooLarge, Unavailable, from_json
from hub.settings import ClientSettings

MAX_JSON_BYTES = 64 * 1024 * 1024
MAX_WAIT_SECONDS = 60.0
MAX_REDIRECTS = 5
TIMEOUT = httpx2.Timeout(60.0, connect=10.0, pool=None)

PATIENT = httpx2.Timeout(1900.0, connect=10.0, pool=None)
"""For a call that the server works on: a little longer than the longest that it does."""


_log = logging.getLogger(__name__)


class Connection:
    """HTTP with the registry at `settings.endpoint`.  Threads may share one."""

    def __init__(self, settings: ClientSettings, timeout: httpx2.Timeout = TIMEOUT, attempts: int = 4) -> None:
        self.settings = settings
        self._attempts = attempts
        self._root = httpx2.URL(settings.endpoint)
        self._token = _checked_token(settings.token)
        self._clients = HttpClients(timeout, {"User-Agent": f"lorahub/{__version__}", "Accept-Encoding": "identity"})

    def close(self) -> None:
        self._clients.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, Any] | None = None,
        again: bool,
        patient: bool = False,
    ) -> httpx2.Response:
        """Return the answer to one API call, read whole.

        again: making the call twice does no harm.  patient: the server works until it answers, and has its own limits.
        """
        if not again:
            return self._call_once(method, path, json, params, patient=patient)
        for attempt in self.patience(self._attempts, wait_max=2.0):
            with attempt:
                return self._call_once(method, path, json, params)
        raise AssertionError("the last attempt returns or raises")

    def get_json(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        return self.decode(self.call("GET", path, params=params, again=True))

    def decode(self, response: httpx2.Response) -> Any:
        try:
            return response.json()
        except (ValueError, RecursionError) as error:
            raise NetworkError(
                f"{self.settings.endpoint} does not answer as a lorahub registry does. Check LORAHUB_ENDPOINT."
            ) from error

    def patience(self, attempts: int, wait_max: float) -> Iterator[tenacity.AttemptManager]:
        """Yield attempts, waiting longer each time, for as long as the error is one that may pass."""
        backoff = tenacity.wait_exponential(multiplier=0.1, max=wait_max) + tenacity.wait_random(0, 0.1)
        return iter(
            tenacity.Retrying(
                retry=tenacity.retry_if_exception(_may_pass),
                stop=tenacity.stop_after_attempt(attempts),
                wait=lambda state: _asked_wait(state) or backoff(state),
                before_sleep=_log_wait,
                reraise=True,
            )
        )

    @contextmanager
    def stream(
        self,
        method: str,
        href: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Iterator[bytes] | bytes | None = None,
        follow: bool = False,
    ) -> Iterator[httpx2.Response]:
        """Yield an answer whose body has not been read.  `href` may be another origin, which gets no token.

        follow: go where a redirect leads; only for requests without a body.
        """
        self._refuse_offline()
        url = httpx2.URL(href) if href.startswith(("http://", "https://")) else self._url(href)
        with self._explained():
            response = self._send(method, url, headers, content)
            for _ in range(MAX_REDIRECTS if follow else 0):
                if not response.has_redirect_location:
                    break
                url = url.join(response.headers["location"])
                response.close()
                response = self._send(method, url, headers, content)
            try:
                yield response
            finally:
                response.close()

    def _send(
        self, method: str, url: httpx2.URL, headers: Mapping[str, str] | None, content: Iterator[bytes] | bytes | None
    ) -> httpx2.Response:
        client = self._clients.for_url(url)
        request = client.build_request(method, url, headers=self._headers(url, headers), content=content)
        return client.send(request, stream=True)

    def check(self, response: httpx2.Response) -> None:
        """Raise the error that an answer carries, if it carries one."""
        if response.is_success:
            return
        with self._explained():
            body = _read_bounded(response, 1024 * 1024)
        if response.has_redirect_location:
            raise NetworkError(
                f"{self.settings.endpoint} sends us on to {_origin(response.headers['location'])}. "
                "Set LORAHUB_ENDPOINT to that address if you trust it."
            )
        if self.is_elsewhere(response):
            raise NetworkError(f"The store at {_origin(str(response.url))} answered {response.status_code}. Try again.")
        raise self._error(response, body)

    def is_elsewhere(self, response: httpx2.Response) -> bool:
        """Whether an answer came from another origin than the registry's: from its object store."""
        return response.url.origin != self._root.origin

    def _call_once(
        self, method: str, path: str, json: object, params: Mapping[str, Any] | None, *, patient: bool = False
    ) -> httpx2.Response:
        self._refuse_offline()
        url = self._url(path)
        kept = {key: value for key, value in (params or {}).items() if value not in (None, "", ())}
        client = self._clients.for_url(url)
        request = client.build_request(method, url, params=kept or None, json=json, headers=self._headers(url))
        if patient:
            request.extensions["timeout"] = PATIENT.as_dict()
        with self._explained():
            response = client.send(request, stream=True)
            try:
                self.check(response)
                body = _read_bounded(response, MAX_JSON_BYTES)
            finally:
                response.close()
        kept = {name: value for name, value in response.headers.items() if name != "content-encoding"}
        return httpx2.Response(response.status_code, headers=kept, content=body)

    def _url(self, path: str) -> httpx2.URL:
        return httpx2.URL(self.settings.endpoint + path)

    def _headers(self, url: httpx2.URL, more: Mapping[str, str] | None = None) -> dict[str, str]:
        headers = dict(more or {})
        if self._token and url.origin == self._root.origin:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _refuse_offline(self) -> None:
        if self.settings.offline:
            raise Offline(
                "LORAHUB_OFFLINE is set, so the registry is not asked. Unset it, or use what the cache has: "
                "lorahub cache list"
            )

    def _error(self, response: httpx2.Response, body: bytes) -> HubError:
        try:
            payload = httpx2.Response(200, content=body).json()
        except (ValueError, RecursionError):
            payload = None
        error = from_json(response.status_code, payload)
        retry_after = response.headers.get("retry-after", "")
        if retry_after.isdigit():
            error.details.setdefault("retry_after_seconds", int(retry_after))
        if error.exit_code == 4 and not self.settings.token:
            error.message += self._how_to_log_in()
            error.args = (error.message,)
        return error

    def _how_to_log_in(self) -> str:
        endpoint, owner = self.settings.endpoint, self.settings.token_is_for
        if owner is None:
            return " You are not logged in here: lorahub login"
        return (
            f" LORAHUB_TOKEN is for {owner}, so it was not sent to {endpoint}. "
            f"Log in there: lorahub login {endpoint}. Or, if it is that one's: LORAHUB_TOKEN_FOR={endpoint}"
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the HTTP client raises into a NetworkError with a next step."""
        endpoint = self.settings.endpoint
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise NetworkError(
                f"No registry answers at {endpoint} ({_reason(error)}). Start one with: lorahub serve. Or name another "
                "with LORAHUB_ENDPOINT; LORAHUB_OFFLINE=1 uses what the cache has."
            ) from error
        except httpx2.TimeoutException as error:
            raise NetworkError(f"{endpoint} went silent. Try again; what was sent or fetched is kept.") from error
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError) as error:
            # No text of the client's: it may quote a header.
            raise InvalidRequest(
                f"{endpoint} can't be asked ({type(error).__name__}). Check LORAHUB_ENDPOINT."
            ) from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise NetworkError(
                f"The connection to {endpoint} broke ({_reason(error)}). Try again; what was sent or fetched is kept."
            ) from error


def _checked_token(token: str | None) -> str | None:
    """Refuse a token that no header can carry, without showing it: the HTTP client would quote it in its error."""
    stripped = (token or "").strip()
    if stripped and not (stripped.isascii() and stripped.isprintable() and " " not in stripped):
        raise InvalidRequest(
            "The token has characters that no token has. Check LORAHUB_TOKEN, or store it again: lorahub login"
        )
    return stripped or None


def _read_bounded(response: httpx2.Response, limit: int) -> bytes:
    parts, size = [], 0
    for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > limit:
            raise NetworkError(f"{_origin(str(response.url))} answered with more than {limit:,} bytes of JSON.")
    return b"".join(parts)


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed a little later."""
    if isinstance(error, (Offline, StorageFull, TooLarge)) or not isinstance(error, (NetworkError, Unavailable)):
        return False
    wait = error.details.get("retry_after_seconds")
    return not isinstance(wait, (int, float)) or wait <= MAX_WAIT_SECONDS


def _asked_wait(state: tenacity.RetryCallState) -> float | None:
    """The seconds that the server asked us to wait, if it did."""
    error = state.outcome.exception() if state.outcome else None
    wait = error.details.get("retry_after_seconds") if isinstance(error, HubError) else None
    return float(wait) if isinstance(wait, (int, float)) else None


def _log_wait(state: tenacity.RetryCallState) -> None:
    wait = state.upcoming_sleep
    error = state.outcome.exception() if state.outcome else None
    _log.log(logging.WARNING if wait >= 1.0 else logging.INFO, "Waiting %.1f s before the next try: %s", wait, error)


def _origin(url: str) -> str:
    """The part of an address that is safe to print: a signed URL's query is a secret."""
    parts = httpx2.URL(url)
    return f"{parts.scheme}://{parts.netloc.decode('ascii')}"


def _reason(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
