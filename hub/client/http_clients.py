"""Two HTTP clients, each made when it is first needed: one for this machine, one for everywhere else.

The one for this machine asks no proxy, reads in large pieces, and loads no certificates: that alone would take longer
than fetching a small adapter.  The other takes proxies and certificates from the environment, as every program does.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import httpcore2
import httpx2

READ_BYTES = 1024 * 1024


class HttpClients:
    """Threads may share one."""

    def __init__(self, timeout: httpx2.Timeout, headers: Mapping[str, str]) -> None:
        self._timeout, self._headers = timeout, dict(headers)
        self._near: httpx2.Client | None = None
        self._far: httpx2.Client | None = None
        self._lock = threading.Lock()

    def for_url(self, url: httpx2.URL) -> httpx2.Client:
        """Return the client that reaches `url`."""
        with self._lock:
            if url.scheme == "http" and is_this_machine(url.host):
                self._near = self._near or self._make_near()
                return self._near
            self._far = self._far or self._make_far()
            return self._far

    def close(self) -> None:
        for client in (self._near, self._far):
            if client is not None:
                client.close()

    def _make_near(self) -> httpx2.Client:
        return httpx2.Client(timeout=self._timeout, headers=self._headers, transport=_WideTransport(), trust_env=False)

    def _make_far(self) -> httpx2.Client:
        direct = ("localhost", "127.0.0.1", "[::1]")
        return httpx2.Client(
            timeout=self._timeout,
            headers=self._headers,
            verify=_tls_context(),
            mounts={f"all://{host}": None for host in direct},  # where no proxy leads
        )


def is_this_machine(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


class _WideTransport(httpx2.HTTPTransport):
    """HTTP without TLS, read in large pieces.

    With the usual 64 KB, most of a fast download's time goes into bookkeeping.
    """

    def __init__(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody: nothing encrypted comes this way
        super().__init__(verify=context)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=context, max_connections=16, keepalive_expiry=5.0, network_backend=_WideBackend()
        )


class _WideBackend(httpcore2.SyncBackend):
    def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore2.NetworkStream:
        return _WideStream(super().connect_tcp(*args, **kwargs))


class _WideStream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max(max_bytes, READ_BYTES), timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, *args: Any, **kwargs: Any) -> httpcore2.NetworkStream:
        return _WideStream(self._inner.start_tls(*args, **kwargs))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


@lru_cache(maxsize=1)
def _tls_context() -> ssl.SSLContext:
    return httpx2.create_ssl_context()
