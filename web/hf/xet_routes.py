"""Uploads through Xet: what current Hugging Face clients do with every large file, without asking.

    GET  …/xet-write-token/main       -> {accessToken, exp, casUrl}      casUrl = /api/xet/<period>/<space>
    POST <casUrl>/v1/xorbs/default/…  chunks, packed: unpacked, verified, kept for this adapter (store.py)
    POST <casUrl>/v1/shards           which chunks make up which file: put together, sha256 verified, stored as a blob

The files become ordinary blobs; a commit names them by their sha256, as after an LFS upload.  A client tries newer
routes first (xorb grants, /v2/shards) and falls back to these on a 404.
Source: the Xet protocol specification, "CAS API" and "Upload protocol".
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence

from flask import Response, jsonify, request

from hub.errors import DigestMismatch, Forbidden, InvalidRequest, NotFound, TooLarge, Unauthenticated
from hub.refs import AdapterName
from hub.registry.rights.access import Action

from ..http.addresses import public_root
from ..http.identity import bearer_token, current_actor, registry, settings
from ..xet.hash import Leaf, from_text, hash_file, hash_range, to_text
from ..xet.shard import MAX_SHARD_BYTES, Segment, ShardFile, parse_shard
from ..xet.store import XorbSpace, XorbStore
from . import signing
from .upload import writable_repo

TOKEN_SECONDS = signing.XET_TOKEN_SECONDS
_PURPOSE = signing.XET_WRITE
_SPACE_FORMAT = 3
"""Of what waits in a space.  A release that keeps chunks otherwise gives out new addresses: clients start afresh."""


def write_token(namespace: str, name: str, revision: str) -> Response:
    """Issue a token that lets its bearer upload chunks for one adapter for an hour, and the URL for them."""
    # A client that opens a pull request sends the revision "None"; the commit refuses it later.
    repo = writable_repo(namespace, name, "main" if revision == "None" else revision)
    actor = current_actor()
    store = _store()
    store.sweep()
    space = _space_key(repo, registry().adapters.get(actor, repo).id)
    url = f"{public_root()}/api/xet/{store.current_period()}/{space}"
    token = signing.sign(_PURPOSE, actor, repo, space=space)
    expires = int(time.time()) + TOKEN_SECONDS
    response = jsonify({"accessToken": token, "exp": expires, "casUrl": url})
    response.headers["X-Xet-Cas-Url"] = url
    response.headers["X-Xet-Access-Token"] = token
    response.headers["X-Xet-Token-Expiration"] = str(expires)
    response.headers["Cache-Control"] = "no-store"
    return response


def find_chunk(period: str, space: str, prefix: str, name: str) -> Response:
    """Answer that a chunk is unknown: deduplication across users would reveal what others have uploaded."""
    _grant(space)
    from_text(name)
    raise NotFound("This chunk is not known here. Send it.")


def put_xorb(period: str, space: str, prefix: str, name: str) -> Response:
    """Store a pack of chunks once its hash is verified."""
    inserted = _space(_grant(space), period, space).add(from_text(name), request.stream)
    return jsonify({"was_inserted": inserted})


def put_shard(period: str, space: str) -> Response:
    """Assemble the files that a shard describes, and store each one whose sha256 matches."""
    grant = _grant(space)
    files = parse_shard(_read_body())
    blobs = [(file.sha256, file.size) for file in files]
    _check_size(files)
    missing = set(registry().blobs.missing(grant.actor, grant.repo, blobs)) if blobs else set()
    xorbs = _space(grant, period, space)
    for file in files:
        if (file.sha256, file.size) in missing:
            check_hashes(xorbs, file)
            stream = _Joined(_pieces(xorbs, file.segments))
            registry().blobs.put(grant.actor, grant.repo, stream, file.sha256, file.size)
    return jsonify({"result": 1 if missing else 0})


def _check_size(files: Sequence[ShardFile]) -> None:
    """Refuse a shard, before assembling anything, if its files together exceed the size limit of one."""
    limit, total = settings().max_upload_bytes, sum(file.size for file in files)
    if total > limit:
        raise TooLarge(f"The files of a shard may have {limit:,} bytes here; these have {total:,}.")


def check_hashes(xorbs: XorbSpace, file: ShardFile) -> None:
    """Raise DigestMismatch unless a file's chunks hash to its name, and each segment's to its own proof."""
    found = hash_file(_checked_leaves(xorbs, file))
    if found != file.file_hash:
        raise DigestMismatch(f"The chunks of file {to_text(file.file_hash)} hash to {to_text(found)}.")


def _checked_leaves(xorbs: XorbSpace, file: ShardFile) -> Iterator[Leaf]:
    for segment in file.segments:
        run = xorbs.run(segment)
        if segment.range_hash is not None and hash_range(leaf.hash for leaf in run.leaves()) != segment.range_hash:
            raise DigestMismatch(f"A segment of xorb {to_text(segment.xorb)} has other chunks than the shard says.")
        yield from run.leaves()


def _pieces(xorbs: XorbSpace, segments: tuple[Segment, ...]) -> Iterator[bytes]:
    for segment in segments:
        yield from xorbs.run(segment).read()


class _Joined:
    """An iterator of bytes, to be read like a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes; empty only at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        data, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return data


def _grant(space: str) -> signing.Grant:
    """Return the grant of the bearer's Xet token.  Raises Unauthenticated; Forbidden for another adapter's."""
    token = bearer_token()
    refusal = Unauthenticated("This Xet token has expired or is none of ours. Ask for another one.")
    if token is None:
        raise refusal
    grant = signing.read(_PURPOSE, token, TOKEN_SECONDS, refusal)
    if grant.claims["space"] != space:
        raise Forbidden("This Xet token is for another adapter.")
    if not registry().namespaces.may(grant.actor, Action.PUBLISH, grant.repo.namespace):
        raise Forbidden(f"You may no longer publish to {grant.repo.namespace}. Ask one of its owners.")
    return grant


def _space(grant: signing.Grant, period: str, space: str) -> XorbSpace:
    """Return the store of an adapter's pending chunks.  All of a namespace's together are bounded by its quota."""
    quota = registry().namespaces.quota_bytes(grant.repo.namespace)
    owner = hashlib.sha256(grant.repo.namespace.encode()).hexdigest()[:32]
    return _store().space(period, space, owner, quota)


def _space_key(repo: AdapterName, adapter_id: int) -> str:
    """Return an adapter's own folder name; a deleted name that is created again gets a new one."""
    return hashlib.sha256(f"{adapter_id} {repo} {_SPACE_FORMAT}".encode()).hexdigest()[:32]


def _store() -> XorbStore:
    used = settings()
    return XorbStore(used.data / "xet", used.max_upload_bytes)


def _read_body() -> bytes:
    if (request.content_length or 0) > MAX_SHARD_BYTES:
        raise TooLarge(f"A shard may have {MAX_SHARD_BYTES:,} bytes.")
    data = b""
    while part := request.stream.read(MAX_SHARD_BYTES + 1 - len(data)):
        data += part
    if not data:
        raise InvalidRequest("The shard is empty.")
    return data
