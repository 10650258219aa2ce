"""The URLs in answers: below the service's public URL, whatever Host a request names."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from flask import request, url_for

from .identity import settings


def public_root() -> str:
    """Return the address of the service, without a slash at its end.

    It is the one that the operator gave.  Where none was given, or one of this machine alone, it is as the request has
    it: a server without a name is reached by several.
    """
    given = settings().public_url
    if given is not None and not _is_this_machine(urlsplit(given).hostname or ""):
        return given.rstrip("/")
    return request.host_url.rstrip("/")


def public_url_for(endpoint: str, **values: Any) -> str:
    return public_root() + url_for(endpoint, **values)


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
