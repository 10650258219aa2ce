"""Send blobs: ask which are missing, append from the server's offset, or PUT parts to signed URLs.

A PATCH is read as it arrives and never held in memory.  When a client dies in the middle, what came stays; the next
push asks for the offset and goes on from there.
"""

from __future__ import annotations

from typing import Any

from flask import Response, request

from hub.errors import InvalidRequest
from hub.registry.values import Upload

from ..http.bodies import upload_body
from ..http.identity import current_actor, registry, settings
from . import answers, represent, schemas
from .fields import Blueprint
from .parsing import adapter_name, no_content, reply

uploads = Blueprint("uploads", __name__, url_prefix="/api/v1", description="Uploads: resumable, verified.")

CONTENT_TYPE = "application/offset+octet-stream"
OFFSET = {"type": "integer", "minimum": 0}


@uploads.post("/adapters/<ns>/<name>/uploads")
@uploads.arguments(schemas.UploadsIn)
@uploads.response(200, answers.BlobStates)
def request_uploads(args: dict[str, Any], ns: str, name: str) -> Response:
    """Say which blobs a push needs; the answer says for each that it is there, or how to send it."""
    actor, adapter = current_actor(), adapter_name(ns, name)
    asked = [(blob["sha256"], blob["size"]) for blob in args["blobs"]]
    missing = set(registry().blobs.missing(actor, adapter, asked))
    states = []
    for sha256, size in dict.fromkeys(asked):
        state: dict[str, Any] = {"sha256": sha256, "size": size, "state": "present"}
        if (sha256, size) in missing:
            started = registry().uploads.start(actor, adapter, sha256, size)
            state |= {"state": "upload", "upload": represent.upload(started)}
        states.append(state)
    return reply({"blobs": states})


@uploads.get("/uploads/<upload_id>")
@uploads.response(200, answers.Upload)
def show(upload_id: str) -> Response:
    """Describe an upload; HEAD is enough for its offset."""
    found = registry().uploads.get(current_actor(), upload_id)
    return _with_offset(reply(represent.upload(found)), found)


@uploads.patch("/uploads/<upload_id>")
@uploads.doc(
    parameters=[{"in": "header", "name": "Upload-Offset", "required": True, "schema": OFFSET}],
    requestBody={"required": True, "content": {CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}}},
)
@uploads.response(204, headers={"Upload-Offset": {"schema": {"type": "integer"}}})
def append(upload_id: str) -> Response:
    """Append bytes at the offset.  The last one makes the server verify the sha256 and store the blob."""
    if request.mimetype != CONTENT_TYPE:
        raise InvalidRequest(f"Send the bytes with Content-Type: {CONTENT_TYPE}.")
    body = upload_body(settings().max_upload_bytes)
    done = registry().uploads.append(current_actor(), upload_id, _offset_header(), body)
    if body.broken:
        body.broken.headers.append(("Upload-Offset", str(done.offset)))
        raise body.broken
    return _with_offset(no_content(), done)


@uploads.post("/uploads/<upload_id>/complete")
@uploads.arguments(schemas.PartsIn)
@uploads.response(200, answers.Upload)
def complete(args: dict[str, Any], upload_id: str) -> Response:
    """Finish an upload whose parts were PUT to their signed URLs."""
    parts = [(part["number"], part["etag"]) for part in args["parts"]]
    done = registry().uploads.complete(current_actor(), upload_id, parts)
    return _with_offset(reply(represent.upload(done)), done)


@uploads.delete("/uploads/<upload_id>")
@uploads.response(204)
def abort(upload_id: str) -> Response:
    """Forget an unfinished upload."""
    registry().uploads.abort(current_actor(), upload_id)
    return no_content()


def _offset_header() -> int:
    text = request.headers.get("Upload-Offset", "")
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise InvalidRequest("Say where the bytes belong: an Upload-Offset header with a whole number is needed.")
    return int(text)


def _with_offset(answer: Response, upload: Upload) -> Response:
    answer.headers["Upload-Offset"] = str(upload.offset)
    return answer
