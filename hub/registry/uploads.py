"""Blobs on their way in: what is missing, appending with an offset, parts to signed URLs, one shot.

What an upload has received is known by the store alone (the file's length, S3's list of parts).  A finished upload
puts the blob in place inside the transaction that writes its row; gc.py deletes inside one that holds the same row.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.errors import (
    DigestMismatch,
    HubError,
    InvalidRequest,
    TooLarge,
    Unavailable,
    UploadNotFound,
    UploadOffsetMismatch,
)
from hub.refs import AdapterName
from hub.registry import permissions, quotas
from hub.registry.access import Action, Actor
from hub.registry.context import UPLOAD_LIFETIME, Context
from hub.registry.lookup import find_namespace_to_publish
from hub.registry.models import (
    AdapterRow,
    BlobGrantRow,
    BlobRow,
    CommitFileRow,
    CommitRow,
    NamespaceRow,
    UploadRow,
    VersionFileRow,
    VersionRow,
)
from hub.registry.store import Staged
from hub.registry.streams import ByteStream, StreamBroken, chunks
from hub.registry.values import Upload

MAX_BLOBS_ASKED = 1_000
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def missing_blobs(
    context: Context, actor: Actor, name: AdapterName, blobs: Sequence[tuple[str, int]]
) -> tuple[tuple[str, int], ...]:
    if len(blobs) > MAX_BLOBS_ASKED:
        raise InvalidRequest(f"Ask for at most {MAX_BLOBS_ASKED:,} blobs at once.")
    for sha256, size in blobs:
        check_announced(sha256, size)

    def work(session: Session) -> tuple[tuple[str, int], ...]:
        require_publish(context, session, actor, name)
        sizes = present_sizes(session, actor, name, [sha256 for sha256, _ in blobs])
        present = [sha256 for sha256, size in blobs if sizes.get(sha256) == size]
        # A publish will name them soon: garbage collection must wait for it.
        for sha256 in sorted(set(present)):
            grant(context, session, name, sha256)
        return tuple(dict.fromkeys(blob for blob in blobs if blob[0] not in set(present)))

    return context.database.transact(work)


def require_publish(context: Context, session: Session, actor: Actor, name: AdapterName) -> NamespaceRow:
    """Return the namespace, which may be made for an admin, unless the actor may not publish `name`."""
    namespace, _ = find_namespace_to_publish(context, session, actor, name)
    return namespace


def present_sizes(session: Session, actor: Actor, name: AdapterName, hashes: Sequence[str]) -> dict[str, int]:
    """Return sha256 -> size of those blobs that the actor may use for `name`.

    It may use what was sent to this adapter, and what stands in a version or draft that it may read.
    """
    if not hashes:
        return {}
    sizes = dict(session.execute(select(BlobRow.sha256, BlobRow.size).where(BlobRow.sha256.in_(hashes))).all())
    granted = set(
        session.scalars(
            select(BlobGrantRow.sha256).where(BlobGrantRow.adapter == str(name), BlobGrantRow.sha256.in_(sizes))
        )
    )
    rest = [sha256 for sha256 in sizes if sha256 not in granted]
    usable = granted | (_readable(session, actor, rest) if rest else set())
    return {sha256: size for sha256, size in sizes.items() if sha256 in usable}


def _readable(session: Session, actor: Actor, hashes: Sequence[str]) -> set[str]:
    """Return which of these blobs stand in something that the actor may read."""
    of_versions = (
        select(VersionFileRow.sha256)
        .join(VersionRow, VersionFileRow.version_id == VersionRow.id)
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(VersionFileRow.sha256.in_(hashes), VersionRow.deleted_at.is_(None))
    )
    of_drafts = (
        select(CommitFileRow.sha256)
        .join(CommitRow, CommitFileRow.commit_id == CommitRow.id)
        .join(AdapterRow, CommitRow.adapter_id == AdapterRow.id)
        .where(CommitFileRow.sha256.in_(hashes))
    )
    readable = permissions.readable_ids(session, actor)
    found: set[str] = set()
    for query in (of_versions, of_drafts):
        query = query.join(NamespaceRow, AdapterRow.namespace_id == NamespaceRow.id)
        query = query.where(AdapterRow.deleted_at.is_(None))
        if readable is not None:
            public = AdapterRow.private.is_(False) & NamespaceRow.private.is_(False) & AdapterRow.gated.is_(False)
            query = query.where(public | NamespaceRow.id.in_(readable))
        found.update(session.scalars(query.distinct()))
    return found


def start(context: Context, actor: Actor, name: AdapterName, sha256: str, size: int) -> Upload:
    check_announced(sha256, size)
    if size > context.settings.max_upload_bytes:
        raise TooLarge(f"A file may have {context.settings.max_upload_bytes:,} bytes here; this one has {size:,}.")
    with context.database.read() as session:
        found = _find_unfinished(session, context, actor, name, sha256, size)
    # One that has nothing yet, or that somebody is sending right now, may be another push of the same user.
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
        # Ask before the store is touched; the transaction below asks again.
        find_namespace_or_may_create(session, actor, name)
    key = context.store.begin(size)

    def work(session: Session) -> UploadRow:
        namespace = require_publish(context, session, actor, name)
        quotas.check_upload(session, namespace, size)
        now = context.now()
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
    return _describe(context, row, name)


def find_namespace_or_may_create(session: Session, actor: Actor, name: AdapterName) -> None:
    """Raise unless the actor may publish `name`, or is an admin whose first push makes the namespace."""
    exists = session.scalar(select(NamespaceRow.id).where(NamespaceRow.name == name.namespace)) is not None
    if exists or not (actor.admin and actor.has_scope("publish") and actor.reaches(name.namespace)):
        permissions.require(session, actor, name.namespace, Action.PUBLISH)


def get(context: Context, actor: Actor, upload_id: str) -> Upload:
    row = _own(context, actor, upload_id)
    return _describe(context, row, AdapterName.parse(row.adapter))


def append(context: Context, actor: Actor, upload_id: str, offset: int, stream: ByteStream) -> Upload:
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
    except Unavailable:
        # A disk that is full or failing must not keep the half that it took.
        _forget(context, row.id, row.store_key)
        raise
    if surplus:
        _forget(context, row.id, row.store_key)
        raise TooLarge(f"More than the announced {row.size:,} bytes came. Nothing was kept; send the file again.")
    if end < row.size:
        return _describe(context, row, name)
    return _finish(context, row, name)


def complete(context: Context, actor: Actor, upload_id: str, parts: Sequence[tuple[int, str]]) -> Upload:
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
        if not _is_done(context, row.id):  # else another sender of the same bytes came first
            raise
        return _to_upload(row, name, row.size, done=True)
    except (DigestMismatch, Unavailable):
        _forget(context, row.id, row.store_key)
        raise
    keep_staged(context, name, staged, lambda session: _mark_done(session, row.id))
    return _to_upload(row, name, row.size, done=True)


def _is_done(context: Context, upload_id: str) -> bool:
    with context.database.read() as session:
        row = session.get(UploadRow, upload_id)
        return row is not None and row.done


def abort(context: Context, actor: Actor, upload_id: str) -> None:
    row = _own(context, actor, upload_id)
    _forget(context, row.id, row.store_key)


def put_blob(
    context: Context, actor: Actor, name: AdapterName, stream: ByteStream, sha256: str | None, size: int | None
) -> tuple[str, int]:
    limit = context.settings.max_upload_bytes
    if size is not None and size > limit:
        raise TooLarge(f"A file may have {limit:,} bytes here; this one has {size:,}.")
    with context.database.read() as session:
        find_namespace_or_may_create(session, actor, name)
    try:
        staged = context.store.stage(stream, sha256, size, limit + 1)
    except StreamBroken as error:
        raise InvalidRequest("The sender went away before the end. Nothing was kept; send the file again.") from error
    try:
        if staged.size > limit:
            raise TooLarge(f"A file may have {limit:,} bytes here.")

        def check(session: Session) -> None:
            quotas.check_upload(session, require_publish(context, session, actor, name), staged.size)

        keep_staged(context, name, staged, check)
    except BaseException:
        context.store.drop(staged.key)
        raise
    return staged.sha256, staged.size


def keep_staged(context: Context, name: AdapterName, staged: Staged, also: Callable[[Session], None]) -> None:
    """Make verified bytes a blob that a publish to `name` may name.

    The row is locked first, then the bytes are put in place, then the transaction ends: garbage collection, which
    deletes under the same lock, comes before or after, never between.
    """

    def work(session: Session) -> None:
        also(session)
        touch(context, session, staged)
        context.store.keep(staged)
        grant(context, session, name, staged.sha256)

    context.database.transact(work)
    context.store.drop(staged.key)


def touch(context: Context, session: Session, staged: Staged) -> None:
    """Write or refresh a blob's row, which locks it."""
    insert = sqlite.insert if context.database.is_sqlite else postgresql.insert
    values = {"size": staged.size, "git_sha1": staged.git_sha1, "touched_at": context.now()}
    statement = insert(BlobRow).values(sha256=staged.sha256, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["sha256"], set_={"touched_at": context.now()}))


def grant(context: Context, session: Session, name: AdapterName, sha256: str) -> None:
    """Note that publishes to `name` may use this blob, and keep garbage collection off it for its grace."""
    row = session.get(BlobRow, sha256, with_for_update=True, populate_existing=True)
    if row is None:
        return
    row.touched_at = context.now()
    insert = sqlite.insert if context.database.is_sqlite else postgresql.insert
    session.flush()
    session.execute(insert(BlobGrantRow).values(adapter=str(name), sha256=sha256).on_conflict_do_nothing())


def check_announced(sha256: str, size: int) -> None:
    if not isinstance(sha256, str) or not _SHA256.match(sha256) or not 0 <= size < 1 << 53:
        raise InvalidRequest("A blob is announced by its sha256 (64 lower-case hex digits) and its size in bytes.")


def _own(context: Context, actor: Actor, upload_id: str) -> UploadRow:
    with context.database.read() as session:
        row = session.get(UploadRow, upload_id)
        if row is None or row.user_id != actor.user_id or context.now() >= row.expires_at:
            raise UploadNotFound("There is no such upload of yours: it was finished, or it expired. Start a new one.")
        # A role or a token that was taken away in between ends the upload too.
        permissions.require(session, actor, AdapterName.parse(row.adapter).namespace, Action.PUBLISH)
        return row


def _forget(context: Context, upload_id: str, key: str | None = None) -> None:
    try:
        context.database.transact(lambda session: _remove_row(session, upload_id))
    except HubError:
        # The error that brought us here says more; a row without bytes ends with the upload's lifetime.
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
