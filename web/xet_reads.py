"""Downloads through Xet: stock clients fetch large files so several times faster than over one plain connection.

    GET …/xet-read-token/<commit>                  -> {accessToken, exp, casUrl}
    GET <casUrl>/v1/reconstructions/<sha256>       which packs make up a file, and where they are
    GET <casUrl>/v1/packs?ticket=…                 a range of a pack: headers of chunks between slices of the file

Files are stored as they are, not as packs: a pack is a view.  It cuts the file into slices of 128 KiB and puts the
8 bytes of a chunk's header before each, which a reader undoes by skipping them.  Where a file is in an object store,
nothing here is offered: its bytes come from there, by a signed URL.
Source: the Xet protocol specification, "Download protocol" and "CAS API".
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import Any

from flask import Response, jsonify, request, url_for
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from hub.errors import FileNotFound, Forbidden, Unauthenticated
from hub.refs import AdapterName
from hub.registry.values import StoredFile

from . import hf_signing
from .hf_names import has_object_store, repo_name, tree_at
from .identity import bearer_token, current_actor, registry
from .xet_xorb import MAX_CHUNK_BYTES

MIN_FILE_BYTES = 16 * 1024 * 1024
"""Below this, the further requests cost more than they save."""

TOKEN_SECONDS = 3600
_TOKEN, _PACK = "xet-read", "xet-pack"
_HEADER_BYTES = 8
_PACKED_CHUNK = MAX_CHUNK_BYTES + _HEADER_BYTES
_CHUNKS = 512
_PACK_BYTES = _CHUNKS * MAX_CHUNK_BYTES
_BLOCK_CHUNKS = 8


def is_offered(size: int) -> bool:
    """Whether clients are told that they may read a file of this size through Xet."""
    return size >= MIN_FILE_BYTES and not has_object_store()


def headers_of(repo: AdapterName, commit: str, sha256: str, size: int) -> dict[str, str]:
    """Return what tells a client, on the answer to a HEAD, that it may."""
    if not is_offered(size):
        return {}
    route = f"{request.host_url.rstrip('/')}/api/models/{repo}/xet-read-token/{commit}"
    return {"X-Xet-Hash": sha256, "X-Xet-Refresh-Route": route, "Link": f'<{route}>; rel="xet-auth"'}


def read_token(namespace: str, name: str, revision: str) -> Response:
    """Give a token that lets its bearer read the files of one commit for an hour."""
    actor = current_actor()
    tree = tree_at(actor, repo_name(namespace, name), revision)
    token = hf_signing.sign(_TOKEN, actor, tree.adapter.name, commit=tree.commit.id)
    expires = int(time.time()) + TOKEN_SECONDS
    url = f"{request.host_url.rstrip('/')}/api/xet/read"
    response = jsonify({"accessToken": token, "exp": expires, "casUrl": url})
    response.headers["X-Xet-Cas-Url"] = url
    response.headers["X-Xet-Access-Token"] = token
    response.headers["X-Xet-Token-Expiration"] = str(expires)
    response.headers["Cache-Control"] = "no-store"
    return response


def reconstruct(sha256: str) -> Response:
    """Say which packs hold a file, or the part of it that is asked for."""
    grant = _grant()
    commit = str(grant.claims["commit"])
    tree = registry().tree(grant.actor, grant.repo, commit)
    file = next((file for file in tree.files if file.sha256 == sha256), None)
    if file is None:
        raise FileNotFound(f"{grant.repo} has no file with this hash at {commit}.")
    stored = registry().open_at(grant.actor, grant.repo, commit, file.path)
    start, stop = _asked_range(file.size)
    if start == 0 and stored.version_id is not None:
        registry().count_download(grant.actor, stored.version_id, request.remote_addr)
    ticket = hf_signing.sign(_PACK, grant.actor, grant.repo, commit=commit, path=file.path)
    numbers = range(start // _PACK_BYTES, -(-stop // _PACK_BYTES))
    terms = [_describe(sha256, file.size, number, ticket) for number in numbers]
    return jsonify(
        {
            "offset_into_first_range": start - numbers.start * _PACK_BYTES,
            "terms": [term for term, _ in terms],
            "fetch_info": {term["hash"]: [place] for term, place in terms},
        }
    )


def send_pack() -> Response:
    """Send a range of one pack, at an address that `reconstruct` signed."""
    refusal = Forbidden("This address has expired or was never given out. Ask for the file again.")
    grant = hf_signing.read(_PACK, request.args.get("ticket", ""), TOKEN_SECONDS, refusal)
    stored = registry().open_at(grant.actor, grant.repo, grant.claims["commit"], grant.claims["path"])
    number = request.args.get("number", 0, int)
    chunks = _chunk_count(stored.entry.size, number)
    size = packed_size(stored.entry.size, number)
    asked = request.range.range_for_length(size) if request.range else (0, size)
    if not chunks or asked is None:
        raise RequestedRangeNotSatisfiable(size, "bytes")
    start, stop = asked
    response = Response(pack_bytes(stored, number, start, stop), 206, mimetype="application/octet-stream")
    response.content_length = stop - start
    response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return response


def pack_bytes(stored: StoredFile, number: int, start: int, stop: int) -> Iterator[bytes]:
    """Yield bytes `[start, stop)` of a pack of a file."""
    size = stored.entry.size
    first = start // _PACKED_CHUNK
    skip = start - first * _PACKED_CHUNK
    left = stop - start
    for chunk in range(first, _chunk_count(size, number), _BLOCK_CHUNKS):
        block = _block(stored, number, chunk)[skip:]
        skip = 0
        yield block[:left]
        left -= len(block)
        if left <= 0:
            return


def packed_size(size: int, number: int) -> int:
    """Return how long one pack of a file of `size` bytes is, with its headers."""
    held = min(size, (number + 1) * _PACK_BYTES) - number * _PACK_BYTES
    return max(0, held) + _chunk_count(size, number) * _HEADER_BYTES


def _block(stored: StoredFile, number: int, chunk: int) -> bytes:
    """Return up to eight chunks with their headers."""
    begin = number * _PACK_BYTES + chunk * MAX_CHUNK_BYTES
    end = min(stored.entry.size, begin + _BLOCK_CHUNKS * MAX_CHUNK_BYTES, (number + 1) * _PACK_BYTES)
    data = memoryview(b"".join(stored.open(begin, end)))
    parts: list[bytes | memoryview] = []
    for at in range(0, len(data), MAX_CHUNK_BYTES):
        piece = data[at : at + MAX_CHUNK_BYTES]
        length = len(piece).to_bytes(3, "little")
        parts += [b"\0" + length + b"\0" + length, piece]
    return b"".join(parts)


def _chunk_count(size: int, number: int) -> int:
    held = min(size, (number + 1) * _PACK_BYTES) - number * _PACK_BYTES
    return max(0, -(-held // MAX_CHUNK_BYTES))


def _describe(sha256: str, size: int, number: int, ticket: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the term and the address of one pack."""
    chunks = {"start": 0, "end": _chunk_count(size, number)}
    name = hashlib.sha256(f"{sha256} {number}".encode()).hexdigest()
    held = min(size, (number + 1) * _PACK_BYTES) - number * _PACK_BYTES
    url = url_for("hf.send_pack", ticket=ticket, number=number, _external=True)
    place = {"range": chunks, "url": url, "url_range": {"start": 0, "end": packed_size(size, number) - 1}}
    return {"hash": name, "unpacked_length": held, "range": chunks}, place


def _asked_range(size: int) -> tuple[int, int]:
    if request.range is None:
        return 0, size
    found = request.range.range_for_length(size)
    if found is None:
        raise RequestedRangeNotSatisfiable(size, "bytes")
    return found


def _grant() -> hf_signing.Grant:
    refusal = Unauthenticated("This Xet token has expired or is none of ours. Ask for another one.")
    return hf_signing.read(_TOKEN, bearer_token() or "", TOKEN_SECONDS, refusal)
