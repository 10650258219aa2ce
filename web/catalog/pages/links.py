"""Addresses of pages."""

from __future__ import annotations

import re
from urllib.parse import quote

from flask import url_for
from markupsafe import Markup

from hub.errors import InvalidRef
from hub.refs import AdapterName, AdapterRef

_PLAIN_BASE = re.compile(r"[\w.-]+(/[\w.-]+)*\Z", re.ASCII)


def adapter_url(name: AdapterName) -> str:
    return url_for("catalog.adapter", namespace=name.namespace, name=name.name)


def version_url(name: AdapterName, number: int) -> str:
    return url_for("catalog.version", namespace=name.namespace, name=name.name, number=number)


def file_url(name: AdapterName, number: int, path: str) -> str:
    """The page that shows a file."""
    return url_for("catalog.file", namespace=name.namespace, name=name.name, number=number, path=path)


def raw_url(name: AdapterName, number: int, path: str) -> str:
    """The file's bytes, as an attachment."""
    return url_for("catalog.raw", namespace=name.namespace, name=name.name, number=number, path=path)


def base_url(base: str) -> str:
    """The page of a base.  An id like `org/name` keeps its slash; a local path is quoted whole."""
    plain = _PLAIN_BASE.match(base) and not any(part in {".", ".."} for part in base.split("/"))
    return url_for("catalog.bases") + "/" + quote(base, safe="/" if plain else "")


def compare_url(name: AdapterName, before: int, after: int) -> str:
    address = url_for("catalog.compare", namespace=name.namespace, name=name.name)
    return f"{address}?from={before}&to={after}"


def ref_link(text: str) -> Markup:
    """Return a link to the adapter or version that a ref names; the bare text if it is no ref of ours."""
    try:
        ref = AdapterRef.parse(text)
    except InvalidRef:
        return Markup('<span class="break">{}</span>').format(text)
    href = version_url(ref.adapter, ref.version) if ref.version else adapter_url(ref.adapter)
    return Markup('<a class="break" href="{}">{}</a>').format(href, text)
