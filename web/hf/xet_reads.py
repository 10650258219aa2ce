"""Downloads through Xet: several times faster for large files with stock clients than one plain connection.

    GET …/xet-read-token/<commit>                  -> {accessToken, exp, casUrl}
    GET <casUrl>/v1/reconstructions/<sha256>       which packs make up a file, and where they are
    GET <casUrl>/v1/packs?ticket=…                 a range of a pack: headers of chunks between slices of the file

Files are stored as they are, not as packs (packs.py).  Xet isn't offered for files in an object store:
clients fetch them from there, by a signed URL.
Source: the Xet protocol specification, "Download protocol" and "CAS API".
"""

from __future__ import annotations

import hashlib
import time
from typing import Any, cast

from flask import Response, current_app, jsonify, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from hub.errors import FileNotFound, Forbidden, Unauthenticated
from hub.refs import AdapterName
from hub.registry.values import StoredFile

from ..http.addresses import public_root, public_url_for
from ..http.counting import record_download
from ..http.file_parts import OpenParts, sends_file_parts
from ..http.files import open_blob
from ..http.identity import bearer_token, current_actor, registry
from ..xet.packs import PACK_BYTES, chunk_count, held_bytes, pack_bytes, pack_parts, packed_size, pieces
from . import signing
from .names import has_object_store, repo_name, tree_at

MIN_FILE_BYTES = 16 * 1024 * 1024
"""Below this, the further requests cost more than they save."""

TOKEN_SECONDS = signing.XET_TOKEN_SECONDS
_TOKEN, _PACK = signing.XET_READ, "xet-pack"
_HELD = "lorahub.xet_packs"

HELD_SECONDS = 2.0
"""How long a worker goes on with what an address was found to stand for.  A client asks for a pack every few
milliseconds, and looking its rights up costs more than the pack: a right that is taken away ends this much later."""

_MAX_HELD = 1000


def is_offered(size: int) -> bool:
    """Whether to offer Xet for a file of this size."""
    return size >= MIN_FILE_BYTES and not has_object_store()


def headers_of(repo: AdapterName, commit: str, sha256: str, size: int) -> dict[str, str]:
    """Return the headers that offer Xet, for the answer to a HEAD."""
    if not is_offered(size):
        return {}
    route = f"{public_root()}/api/models/{repo}/xet-read-token/{commit}"
    return {"X-Xet-Hash": sha256, "X-Xet-Refresh-Route": route, "Link": f'<{route}>; rel="xet-auth"'}


def read_token(namespace: str, name: str, revision: str) -> Response:
    """Issue a token that lets its bearer read the files of one commit for an hour."""
    actor = current_actor()
    tree = tree_at(actor, repo_name(namespace, name), revision)
    token = signing.sign(_TOKEN, actor, tree.adapter.name, commit=tree.commit.id)
    expires = int(time.time()) + TOKEN_SECONDS
    url = f"{public_root()}/api/xet/read"
    response = jsonify({"accessToken": token, "exp": expires, "casUrl": url})
    response.headers["X-Xet-Cas-Url"] = url
    response.headers["X-Xet-Access-Token"] = token
    response.headers["X-Xet-Token-Expiration"] = str(expires)
    response.headers["Cache-Control"] = "no-store"
    return response


def reconstruct(sha256: str) -> Response:
    """Return which packs hold a file, or the requested part of it."""
    grant = _grant()
    commit = str(grant.claims["commit"])
    tree = registry().commits.tree(grant.actor, grant.repo, commit)
    file = next((file for file in tree.files if file.sha256 == sha256), None)
    if file is None:
        raise FileNotFound(f"{grant.repo} has no file with this hash at {commit}.")
    stored = registry().commits.open_file(grant.actor, grant.repo, commit, file.path)
    start, stop = _asked_range(file.size)
    if start == 0:
        record_download(grant.actor, stored)
    ticket = signing.sign(_PACK, grant.actor, grant.repo, commit=commit, path=file.path)
    _hold(ticket, stored)
    numbers = range(start // PACK_BYTES, -(-stop // PACK_BYTES))
    terms = [_describe(sha256, file.size, number, ticket) for number in numbers]
    return jsonify(
        {
            "offset_into_first_range": start - numbers.start * PACK_BYTES,
            "terms": [term for term, _ in terms],
            "fetch_info": {term["hash"]: [place] for term, place in terms},
        }
    )


def send_pack() -> Response:
    """Send a range of one pack, from a URL that `reconstruct` signed."""
    stored = _opened(request.args.get("ticket", ""))
    number = request.args.get("number", 0, int)
    size = packed_size(stored.entry.size, number) if number >= 0 else 0
    asked = request.range.range_for_length(size) if request.range else (0, size)
    if not size or asked is None:
        raise RequestedRangeNotSatisfiable(size, "bytes")
    start, stop = asked
    response = _respond(stored, number, start, stop)
    response.content_length = stop - start
    response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return response


def _respond(stored: StoredFile, number: int, start: int, stop: int) -> Response:
    if stored.local_path is None or not sends_file_parts(request.environ):
        return _bytes(pack_bytes(stored, number, start, stop))
    file = open_blob(stored.local_path)
    return _bytes(OpenParts(file, pack_parts(file, pieces(stored.entry.size, number, start, stop))))


def _bytes(content: Any) -> Response:
    return Response(content, 206, mimetype="application/octet-stream", direct_passthrough=True)


def _opened(ticket: str) -> StoredFile:
    """Return the file of a signed URL, if the user it was signed for may still read it.  Raises Forbidden."""
    until, stored = _held().get(ticket, (0.0, None))
    if stored is not None and time.monotonic() < until:
        return stored
    refusal = Forbidden("This address has expired or was never given out. Ask for the file again.")
    grant = signing.read(_PACK, ticket, TOKEN_SECONDS, refusal)
    stored = registry().commits.open_file(grant.actor, grant.repo, grant.claims["commit"], grant.claims["path"])
    _hold(ticket, stored)
    return stored


def _hold(ticket: str, stored: StoredFile) -> None:
    held = _held()
    if len(held) >= _MAX_HELD:
        held.clear()
    held[ticket] = time.monotonic() + HELD_SECONDS, stored


def _held() -> dict[str, tuple[float, StoredFile]]:
    """Return this worker's cache: signed URL -> (expiry, file)."""
    return cast("dict[str, tuple[float, StoredFile]]", current_app.extensions.setdefault(_HELD, {}))


def _describe(sha256: str, size: int, number: int, ticket: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the term and the URL of one pack."""
    chunks = {"start": 0, "end": chunk_count(size, number)}
    name = hashlib.sha256(f"{sha256} {number}".encode()).hexdigest()
    url = public_url_for("hf.send_pack", ticket=ticket, number=number)
    place = {"range": chunks, "url": url, "url_range": {"start": 0, "end": packed_size(size, number) - 1}}
    return {"hash": name, "unpacked_length": held_bytes(size, number), "range": chunks}, place


def _asked_range(size: int) -> tuple[int, int]:
    if request.range is None:
        return 0, size
    found = request.range.range_for_length(size)
    if found is None:
        raise RequestedRangeNotSatisfiable(size, "bytes")
    return found


def _grant() -> signing.Grant:
    refusal = Unauthenticated("This Xet token has expired or is none of ours. Ask for another one.")
    return signing.read(_TOKEN, bearer_token() or "", TOKEN_SECONDS, refusal)
