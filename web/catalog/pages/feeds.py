"""Atom feeds: the versions of an adapter, or of everything new in a namespace.  Source: RFC 4287."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree

from .formats import rfc3339

ATOM = "http://www.w3.org/2005/Atom"
_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
"""What XML 1.0 has no way to say; a message may hold it all the same."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry.  id: an address that never means anything else."""

    id: str
    title: str
    href: str
    updated: datetime
    author: str
    summary: str


def render_feed(*, title: str, page: str, self_href: str, entries: Sequence[Entry], updated: datetime) -> bytes:
    """Return the feed as UTF-8 XML; its own address is its id.  updated: what a feed without entries says."""
    ElementTree.register_namespace("", ATOM)
    feed = ElementTree.Element(_name("feed"))
    _text(feed, "id", self_href)
    _text(feed, "title", title)
    _text(feed, "updated", rfc3339(max((entry.updated for entry in entries), default=updated)))
    ElementTree.SubElement(feed, _name("link"), {"rel": "self", "href": self_href, "type": "application/atom+xml"})
    ElementTree.SubElement(feed, _name("link"), {"rel": "alternate", "href": page, "type": "text/html"})
    for entry in entries:
        _add(feed, entry)
    body: bytes = ElementTree.tostring(feed, encoding="utf-8", xml_declaration=True)
    return body


def _add(feed: ElementTree.Element, entry: Entry) -> None:
    item = ElementTree.SubElement(feed, _name("entry"))
    _text(item, "id", entry.id)
    _text(item, "title", entry.title)
    _text(item, "updated", rfc3339(entry.updated))
    ElementTree.SubElement(item, _name("link"), {"rel": "alternate", "href": entry.href, "type": "text/html"})
    _text(ElementTree.SubElement(item, _name("author")), "name", entry.author)
    _text(item, "summary", entry.summary)


def _text(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, _name(tag)).text = _NOT_XML.sub("\ufffd", text)


def _name(tag: str) -> str:
    return f"{{{ATOM}}}{tag}"
