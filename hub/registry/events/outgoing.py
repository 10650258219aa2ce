"""Requests that the server makes because a user said so: imports and webhooks.  They reach public addresses only.

A host is resolved when the connection is made, and the connection goes to the very address that was checked, so neither
redirects nor DNS rebinding reach another one.  Proxies from the environment are not used: they would resolve the name
themselves.
"""

from __future__ import annotations

import ipaddress
import math
import socket
import ssl
import time
from collections.abc import Iterable
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore2
import httpx2

from hub.errors import InvalidRequest, NetworkError

TIMEOUT_SECONDS = 30.0
MAX_REDIRECTS = 5
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# A gateway of the network that the server stands in may translate these to anything: NAT64 with a prefix of its own,
# "IPv4-compatible" and stateless-translation addresses, and the site-local ones of old.
_NEVER_PUBLIC = tuple(
    ipaddress.IPv6Network(text) for text in ("64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96", "fec0::/10")
)

SLICE_SECONDS = 0.5
"""How long a read may go on after its deadline was brought forward."""

WRITE_BYTES = 64 * 1024


class Deadline:
    """The time by which a task must end, however much data arrives; another thread may shorten it."""

    def __init__(self, seconds: float) -> None:
        self.restart(seconds)

    def restart(self, seconds: float) -> None:
        """Start the next task."""
        self._until = time.monotonic() + seconds

    def end_now(self) -> None:
        self._until = 0.0

    def left(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(0.0, self._until - time.monotonic())


class TimedStream(httpcore2.NetworkStream):
    """A connection that ends at its deadline, even if the peer keeps sending a byte at a time."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        until = time.monotonic() + (TIMEOUT_SECONDS if timeout is None else timeout)
        while True:
            seconds = min(until - time.monotonic(), self._deadline.left())
            if seconds <= 0:
                raise httpcore2.ReadTimeout("it took too long")
            try:
                return self._stream.read(max_bytes, min(seconds, SLICE_SECONDS))
            except httpcore2.ReadTimeout:
                continue  # check whether the deadline was shortened

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), WRITE_BYTES):
            seconds = min(TIMEOUT_SECONDS if timeout is None else timeout, self._deadline.left())
            if seconds <= 0:
                raise httpcore2.WriteTimeout("it took too long")
            self._stream.write(buffer[start : start + WRITE_BYTES], seconds)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        seconds = min(TIMEOUT_SECONDS if timeout is None else timeout, self._deadline.left())
        if seconds <= 0:
            raise httpcore2.ConnectTimeout("it took too long")
        return TimedStream(self._stream.start_tls(ssl_context, server_hostname, seconds), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class GuardedBackend(httpcore2.NetworkBackend):
    """Connects to public addresses, and to those hosts that the operator trusts, until a deadline."""

    def __init__(self, trusted_hosts: Iterable[str], deadline: Deadline) -> None:
        self._trusted = frozenset(host.lower() for host in trusted_hosts)
        self._deadline = deadline
        self._backend = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.NetworkStream:
        address = self._checked_address(host, port)
        seconds = min(TIMEOUT_SECONDS if timeout is None else timeout, self._deadline.left())
        if seconds <= 0:
            raise httpcore2.ConnectTimeout("it took too long")
        stream = self._backend.connect_tcp(address, port, seconds, local_address, socket_options)
        return TimedStream(stream, self._deadline)

    def _checked_address(self, host: str, port: int) -> str:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise NetworkError(f"{host} can't be found: {error.strerror or error}. Check the address.") from error
        addresses = [str(entry[4][0]) for entry in found]
        if host.lower() not in self._trusted and f"{host}:{port}".lower() not in self._trusted:
            for address in addresses:
                if not is_public(address):
                    # Don't reveal how a name resolves inside the operator's network.
                    raise InvalidRequest(
                        f"{host} is at no public address: the server does not go there. "
                        "An operator can allow it: LORAHUB_TRUSTED_HOSTS."
                    )
        return addresses[0]


def is_public(address: str) -> bool:
    """Whether an address is reachable from the whole internet, also when an IPv6 one wraps an IPv4 one."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if any(parsed in network for network in _NEVER_PUBLIC):
            return False
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo[1] if parsed.teredo else None)
        if inner is not None:
            return is_public(str(inner))
        if parsed in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)))
    return parsed.is_global and not parsed.is_multicast


@cache
def _ssl_context() -> ssl.SSLContext:
    """Cached: loading the CA certificates takes a third of a second."""
    return httpx2.create_ssl_context(trust_env=False)


class _GuardedTransport(httpx2.HTTPTransport):
    def __init__(self, trusted_hosts: Iterable[str], deadline: Deadline, max_connections: int) -> None:
        super().__init__(verify=_ssl_context(), trust_env=False)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=_ssl_context(),
            max_connections=max_connections,
            network_backend=GuardedBackend(trusted_hosts, deadline),
        )


def open_client(
    trusted_hosts: Iterable[str], max_connections: int = 8, deadline: Deadline | None = None
) -> httpx2.Client:
    """Return a client that reaches public addresses only and follows no redirect by itself.

    deadline: of everything that it is used for; without one, only `TIMEOUT_SECONDS` of silence end a request.
    """
    return httpx2.Client(
        transport=_GuardedTransport(trusted_hosts, deadline or Deadline(math.inf), max_connections),
        timeout=TIMEOUT_SECONDS,
        follow_redirects=False,
        trust_env=False,
        headers={"User-Agent": "lorahub"},
        # Cookies set for one user's request must not be sent with the next one's.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )


def parse_url(url: str) -> str:
    """Return `url` if it is plain http(s) without a user or password.  Raises InvalidRequest."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise InvalidRequest(f"This is not an address: {error}.") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None or port == 0:
        raise InvalidRequest("An address begins with http:// or https:// and has no user or password in it.")
    try:
        httpx2.URL(url.strip()).host.encode("idna")
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise InvalidRequest(f"{parts.hostname[:120]!r} is no name of a host: {error}.") from error
    return url.strip()


def send_following(client: httpx2.Client, url: str, headers: dict[str, str]) -> httpx2.Response:
    """GET `url`, streaming, through at most five redirects.  The caller closes the answer.

    `Authorization` goes to the first origin only.
    """
    origin = _origin(url)
    for _ in range(MAX_REDIRECTS + 1):
        sent = headers if _origin(url) == origin else {k: v for k, v in headers.items() if k != "Authorization"}
        try:
            response = client.send(client.build_request("GET", url, headers=sent), stream=True)
        except httpx2.HTTPError as error:
            raise NetworkError(f"{urlsplit(url).netloc} did not answer: {error}. Try again later.") from error
        if response.status_code not in {301, 302, 303, 307, 308}:
            return response
        response.close()
        url = parse_url(urljoin(url, response.headers.get("Location", "")))
    raise NetworkError(f"{urlsplit(url).netloc} redirects in circles.")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
