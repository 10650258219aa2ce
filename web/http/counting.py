"""Which answers count as a download: the beginning of the weights, once per user, version and day."""

from __future__ import annotations

import logging

from flask import Response, request

from hub.errors import Unavailable
from hub.registry.rights.access import Actor
from hub.registry.values import StoredFile

from .identity import registry

log = logging.getLogger(__name__)


def count_download(actor: Actor, stored: StoredFile, answer: Response) -> None:
    """Count `answer` if it begins to send a version's weights."""
    if request.method != "GET" or not stored.entry.path.endswith(".safetensors"):
        return
    if answer.status_code == 206 and not answer.headers["Content-Range"].startswith("bytes 0-"):
        return
    if answer.status_code in {200, 206, 302}:
        record_download(actor, stored)


def record_download(actor: Actor, stored: StoredFile) -> None:
    """Count one download of the version that `stored` is a file of; a draft has no count."""
    if stored.version_id is None:
        return
    try:
        registry().versions.count_download(actor, stored.version_id, request.remote_addr)
    except Unavailable as error:
        # A busy database must not block a download: log it, and lose one count.
        log.warning("a download was not counted: %s", error.message)
