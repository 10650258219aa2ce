"""Uploads in progress: find the missing blobs, append at an offset, or upload parts to signed URLs.

Only the store knows what an upload has received: the file's length, or S3's list of parts.  Finishing an upload moves
the blob into place, or finds it there, inside the transaction that writes its row.  gc.py deletes under the same row
lock, so the two can't interleave.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.errors import (
    DigestMismatch,
    HubError,
    InvalidRequest,
    QuotaExceeded,
    StorageFull,
    TooLarge,
    UploadNotFound,
    UploadOffsetMismatch,
)
from hub.refs import AdapterName
from hub.registry.accounts import quotas
from hub.registry.context import UPLOAD_LIFETIME, Context
from hub.registry.db.models import NamespaceRow, UploadRow
from hub.registry.library import blobs
from hub.registry.library.lookup import check_may_publish, find_namespace_to_publish
from hub.registry.rights import permissions
from hub.registry.rights.access import Action, Actor
from hub.registry.storage.store import DiskFailed
from hub.registry.storage.streams import ByteStream, StreamBroken, chunks
from hub.registry.values import Upload

MAX_OPEN_UPLOADS = 1_000
"""Of one user: as many as a push may ask for at once."""


def start(
    context: Context, actor: Actor, name: AdapterName, sha256: str, size: int, *, may_resume: bool = True
) -> Upload:
    """Start an upload, or find the actor's unfinished one of the same blob, with its offset.  PUBLISH.

    may_resume: False for a client that can't resume; it gets a separate upload.
    Raises TooLarge, QuotaExceeded.  On S3 the upload has signed URLs for its parts; elsewhere the client appends to it.
    """
    blobs.check_announced(sha256, size)
    if size > context.settings.max_upload_bytes:
        raise TooLarge(f"A file may have {context.settings.max_upload_bytes:,} bytes here; this one has {size:,}.")
    if not may_resume:
        return _open_upload(context, actor, name, sha256, size)
    with context.database.read() as session:
        found = _find_unfinished(session, context, actor, name, sha256, size)
    # An upload that is empty, or receiving bytes right now, may belong to another push of the same user.
    if found is not None and context.store.can_resume(found.store_key, size):
        return _describe(context, found, name)
    return _open_upload(context, actor, name, sha256, size)


def _find_unfinished(
    session: Session, context: Context, actor: Actor, name: AdapterName, sha256: str, size: int
) -> UploadRow | None:
    return session.scalar(
        select(UploadRow)
        .where(
            UploadRow.adapter == str(name),
            UploadRow.sha256 == sha256,
            UploadRow.size == size,
            UploadRow.user_id == actor.user_id,
            UploadRow.done.is_(False),
            UploadRow.expires_at > context.now(),
        )
        .order_by(UploadRow.created_at.desc())
        .limit(1)
    )


def _open_upload(context: Context, actor: Actor, name: AdapterName, sha256: str, size: int) -> Upload:
    with context.database.read() as session:
        # Check before touching the store; the transaction below checks again.
        check_may_publish(session, actor, name)
    key = context.store.begin(size)
    given_way: list[str] = []

    def work(session: Session) -> UploadRow:
        namespace, _ = find_namespace_to_publish(context, session, actor, name)
        now = context.now()
        _check_open_uploads(session, actor, now)
        given_way.extend(_make_way(session, actor, name, sha256, size, namespace, now))
        row = UploadRow(
            id=secrets.token_hex(16),
            adapter=str(name),
            namespace_id=namespace.id,
            user_id=actor.user_id,
            sha256=sha256,
            size=size,
            store_key=key,
            created_at=now,
            expires_at=now + UPLOAD_LIFETIME,
        )
        session.add(row)
        session.flush()
        return row

    try:
        row = context.database.transact(work)
    except BaseException:
        context.store.drop(key)
        raise
    for other in given_way:
        context.store.drop(other)
    return _describe(context, row, name)


def _check_open_uploads(session: Session, actor: Actor, now: datetime) -> None:
    count = select(func.count()).select_from(UploadRow)
    mine = (UploadRow.user_id == actor.user_id, UploadRow.done.is_(False), UploadRow.expires_at > now)
    if (session.scalar(count.where(*mine)) or 0) >= MAX_OPEN_UPLOADS:
        raise QuotaExceeded(
            f"You have {MAX_OPEN_UPLOADS:,} unfinished uploads, and may have no more. Finish or abort them, or wait: "
            "they end after a day.",
            limit=MAX_OPEN_UPLOADS,
        )


def _make_way(
    session: Session, actor: Actor, name: AdapterName, sha256: str, size: int, namespace: NamespaceRow, now: datetime
) -> list[str]:
    """Raise QuotaExceeded unless there is room; to make room, end the actor's earlier upload of the same blob.

    Returns what the store may drop.
    """
    try:
        quotas.check_room(session, namespace, size, now, sent_before=sha256)
    except QuotaExceeded:
        mine = (UploadRow.adapter == str(name), UploadRow.sha256 == sha256, UploadRow.user_id == actor.user_id)
        earlier = session.scalars(select(UploadRow).where(*mine, UploadRow.done.is_(False))).all()
        if not earlier:
            raise
        for row in earlier:
            session.delete(row)
        session.flush()
        quotas.check_room(session, namespace, size, now, sent_before=sha256)
        return [row.store_key for row in earlier if row.store_key]
    return []


def get(context: Context, actor: Actor, upload_id: str) -> Upload:
    """Raises UploadNotFound, also for an upload that expired or that somebody else started."""
    row = _own(context, actor, upload_id)
    return _describe(context, row, AdapterName.parse(row.adapter))


def append(context: Context, actor: Actor, upload_id: str, offset: int, stream: ByteStream) -> Upload:
    """Append `stream`.  After the last byte, verify the sha256 and store the blob (`done`).

    If the stream ends early, what arrived is kept.  Raises UploadOffsetMismatch (details.offset), DigestMismatch (the
    upload is dropped), TooLarge (more bytes than announced: the surplus is dropped), StorageFull.
    """
    row = _own(context, actor, upload_id)
    name = AdapterName.parse(row.adapter)
    if row.done:
        return _describe(context, row, name)
    if offset > row.size:
        raise UploadOffsetMismatch(
            f"The upload has {row.size:,} bytes in all.", offset=context.store.offset(row.store_key)
        )
    try:
        end = context.store.append(row.store_key, offset, stream, row.size - offset)
        surplus = end == row.size and any(chunks(stream, 1))
    except StreamBroken:
        return _describe(context, row, name)
    except (StorageFull, DiskFailed):
        # A full or failing disk must not keep the half that it wrote.
        _forget(context, row.id, row.store_key)
        raise
    if surplus:
        _forget(context, row.id, row.store_key)
        raise TooLarge(f"More than the announced {row.size:,} bytes came. Nothing was kept; send the file again.")
    if end < row.size:
        return _describe(context, row, name)
    return _finish(context, row, name)


def complete(context: Context, actor: Actor, upload_id: str, parts: Sequence[tuple[int, str]]) -> Upload:
    """Finish a multipart upload of (number, etag): read it back, verify, store.  Raises DigestMismatch."""
    row = _own(context, actor, upload_id)
    if row.done:
        return _describe(context, row, AdapterName.parse(row.adapter))
    if not context.store.takes_parts:
        raise InvalidRequest("This upload is appended to, not sent in parts.")
    context.store.join(row.store_key, parts)
    return _finish(context, row, AdapterName.parse(row.adapter))


def _finish(context: Context, row: UploadRow, name: AdapterName) -> Upload:
    try:
        staged = context.store.verify(row.store_key, row.sha256, row.size)
    except UploadNotFound:
        if not _is_done(context, row.id):  # else another upload of the same bytes finished first
            raise
        return _to_upload(row, name, row.size, done=True)
    except (DigestMismatch, StorageFull, DiskFailed):
        # Keep it if the store just can't be read right now: all parts are there, and the client may retry.
        _forget(context, row.id, row.store_key)
        raise
    blobs.keep_staged(context, name, staged, lambda session: _mark_done(session, row.id))
    return _to_upload(row, name, row.size, done=True)


def _is_done(context: Context, upload_id: str) -> bool:
    with context.database.read() as session:
        row = session.get(UploadRow, upload_id)
        return row is not None and row.done


def abort(context: Context, actor: Actor, upload_id: str) -> None:
    """Drop an unfinished upload and its bytes.  A finished one's bytes stay, and count, until something names them."""
    row = _own(context, actor, upload_id)
    _forget(context, row.id, row.store_key)


def _own(context: Context, actor: Actor, upload_id: str) -> UploadRow:
    with context.database.read() as session:
        row = session.get(UploadRow, upload_id)
        if row is None or row.user_id != actor.user_id or context.now() >= row.expires_at:
            raise UploadNotFound("There is no such upload of yours: it was finished, or it expired. Start a new one.")
        # Losing the role or the token in the meantime ends the upload too.
        permissions.require(session, actor, AdapterName.parse(row.adapter).namespace, Action.PUBLISH)
        return row


def _forget(context: Context, upload_id: str, key: str | None = None) -> None:
    try:
        context.database.transact(lambda session: _remove_row(session, upload_id))
    except HubError:
        # Keep the original error, which says more; a row without bytes expires with the upload.
        pass
    finally:
        if key is not None:
            context.store.drop(key)


def _remove_row(session: Session, upload_id: str) -> None:
    row = session.get(UploadRow, upload_id)
    if row is not None:
        session.delete(row)
        session.flush()


def _mark_done(session: Session, upload_id: str) -> None:
    row = session.get(UploadRow, upload_id)
    if row is not None:
        row.done = True
        session.flush()


def _describe(context: Context, row: UploadRow, name: AdapterName) -> Upload:
    if row.done:
        return _to_upload(row, name, row.size, done=True)
    if not context.store.takes_parts:
        return _to_upload(row, name, context.store.offset(row.store_key))
    part_size, parts = context.store.parts(row.store_key, row.size)
    return Upload(row.id, name, row.sha256, row.size, 0, row.expires_at, "parts", part_size, parts)


def _to_upload(row: UploadRow, name: AdapterName, offset: int, *, done: bool = False) -> Upload:
    return Upload(row.id, name, row.sha256, row.size, offset, row.expires_at, done=done)
