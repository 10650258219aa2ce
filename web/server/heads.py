"""Where a request ends: the event loop must know before it hands the request to a thread.

This only decides how long to wait.  gunicorn's parser reads the request, and refuses malformed ones.  It gets a short
request as bytes in memory, so a disagreement about its end can't make the thread wait for a client.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_HEAD_BYTES = 64 * 1024
"""A longer head is refused."""

MAX_SHORT_BODY_BYTES = 64 * 1024
"""A body up to this is waited for without a thread; a longer one, or one without a length, is read as it comes."""

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_CODING = re.compile(rb"\r\ntransfer-encoding[ \t]*:", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
_FORWARDED = re.compile(rb"\r\nx-forwarded-for[ \t]*:[ \t]*([^\r]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Head:
    """size: with the empty line.  length: of the body; None if its transfer coding marks the end."""

    size: int
    length: int | None
    expects: bool

    @property
    def is_short(self) -> bool:
        """Whether the event loop waits for the body, without a thread."""
        return self.length is not None and self.length <= MAX_SHORT_BODY_BYTES


def find_head(seen: bytearray, scanned: int) -> Head | None:
    """Return the head at the start of `seen`.  The first `scanned` bytes are known to hold no end of it."""
    end = seen.find(_END, max(0, scanned - len(_END) + 1))
    if end < 0:
        return None
    text = bytes(seen[: end + 2])
    lengths = _LENGTH.findall(text)
    length = None if _CODING.search(text) else max(map(int, lengths), default=0)
    return Head(end + len(_END), length, _EXPECTS.search(text) is not None)


def forwarded_address(head: bytes, peer: str, hops: int) -> str:
    """Return the client's address, as `hops` trusted proxies report it; `peer` if there are none, or too few."""
    if not hops:
        return peer
    named = [part.strip() for line in _FORWARDED.findall(head) for part in line.split(b",")]
    return named[-hops].decode("latin-1") if len(named) >= hops else peer
