"""Blobs: which exist, who may use them, and how verified bytes become one.

A blob counts as present only for those who may read something that holds it, or who uploaded it to the same adapter:
knowing a hash gives nobody the content.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.errors import HubError, InvalidRequest, QuotaExceeded, TooLarge
from hub.formats.readable import SHA256_HEX
from hub.refs import AdapterName
from hub.registry.accounts import quotas
from hub.registry.context import UPLOAD_LIFETIME, Context
from hub.registry.db.models import (
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
from hub.registry.library.lookup import check_may_publish, find_namespace_to_publish
from hub.registry.rights import permissions
from hub.registry.rights.access import Actor
from hub.registry.storage.store import Staged
from hub.registry.storage.streams import ByteStream, StreamBroken

MAX_BLOBS_ASKED = 1_000


def missing_blobs(
    context: Context, actor: Actor, name: AdapterName, blobs: Sequence[tuple[str, int]]
) -> tuple[tuple[str, int], ...]:
    """Return which of these (sha256, size) must be uploaded before a publish to `name`.  PUBLISH.

    A blob counts as present only if a version that the actor may read holds it, or it was uploaded to this
    adapter: knowing a hash gives nobody the content.
    """
    if len(blobs) > MAX_BLOBS_ASKED:
        raise InvalidRequest(f"Ask for at most {MAX_BLOBS_ASKED:,} blobs at once.")
    for sha256, size in blobs:
        check_announced(sha256, size)

    def work(session: Session) -> tuple[tuple[str, int], ...]:
        find_namespace_to_publish(context, session, actor, name)
        sizes = present_sizes(session, actor, name, [sha256 for sha256, _ in blobs])
        seen = {sha256 for sha256, size in blobs if sizes.get(sha256) == size}
        # A publish will name them soon: extend their grace period, unless garbage collection has just deleted them.
        present = {sha256 for sha256 in sorted(seen) if _grant(context, session, name, sha256)}
        return tuple(dict.fromkeys(blob for blob in blobs if blob[0] not in present))

    return context.database.transact(work)


def present_sizes(session: Session, actor: Actor, name: AdapterName, hashes: Sequence[str]) -> dict[str, int]:
    """Return sha256 -> size of those blobs that the actor may use for `name`.

    These are blobs uploaded to this adapter, and blobs of versions and drafts that the actor may read.
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
    """Return which of these blobs belong to a version or draft that the actor may read."""
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
    for query, is_for_members in ((of_versions, False), (of_drafts, True)):
        query = query.join(NamespaceRow, AdapterRow.namespace_id == NamespaceRow.id)
        query = query.where(AdapterRow.deleted_at.is_(None))
        if readable is not None:
            public = AdapterRow.private.is_(False) & NamespaceRow.private.is_(False) & AdapterRow.gated.is_(False)
            inside = NamespaceRow.id.in_(readable)
            query = query.where(inside if is_for_members else public | inside)
        found.update(session.scalars(query.distinct()))
    return found


def put_blob(
    context: Context,
    actor: Actor,
    name: AdapterName,
    stream: ByteStream,
    sha256: str | None = None,
    size: int | None = None,
) -> tuple[str, int]:
    """Store a whole blob at once and return its (sha256, size).  PUBLISH.

    An announced digest or size is verified: if it differs, DigestMismatch, and nothing is kept.
    """
    limit = context.settings.max_upload_bytes
    if size is not None and size > limit:
        raise TooLarge(f"A file may have {limit:,} bytes here; this one has {size:,}.")
    with _reserved(context, actor, name, sha256, size) as (reservation, room):
        try:
            staged = context.store.stage(stream, sha256, size, min(limit, limit if room is None else room) + 1)
        except StreamBroken as error:
            raise InvalidRequest(
                "The sender went away before the end. Nothing was kept; send the file again."
            ) from error
        try:
            if staged.size > limit:
                raise TooLarge(f"A file may have {limit:,} bytes here.")
            if room is not None and staged.size > room:
                raise QuotaExceeded(f"There was room for {room:,} bytes, and more came. Nothing was kept.", limit=room)

            def settle(session: Session) -> None:
                namespace, _ = find_namespace_to_publish(context, session, actor, name)
                _end_reservation(session, reservation)
                quotas.check_room(session, namespace, staged.size, context.now(), sent_before=staged.sha256)

            keep_staged(context, name, staged, settle)
        except BaseException:
            _drop(context, staged)
            raise
    return staged.sha256, staged.size


@contextmanager
def _reserved(
    context: Context, actor: Actor, name: AdapterName, sha256: str | None, size: int | None
) -> Iterator[tuple[str | None, int | None]]:
    """Reserve quota for an upload until the block ends.  Raises QuotaExceeded.

    Yields the reservation and the most bytes accepted: the announced size, else all that fit; None: no limit.
    """
    with context.database.read() as session:
        check_may_publish(session, actor, name)
        limited = session.scalar(select(NamespaceRow.quota_bytes).where(NamespaceRow.name == name.namespace))
    if limited is None:
        yield None, None
        return
    reservation, room = context.database.transact(
        lambda session: _reserve(context, session, actor, name, sha256 or "", size)
    )
    try:
        yield reservation, room
    finally:
        context.database.transact(lambda session: _end_reservation(session, reservation))


def _reserve(
    context: Context, session: Session, actor: Actor, name: AdapterName, sha256: str, size: int | None
) -> tuple[str, int]:
    namespace, _ = find_namespace_to_publish(context, session, actor, name)
    now = context.now()
    announced = size if size is not None else quotas.room(session, namespace, now) or 0
    quotas.check_room(session, namespace, announced, now, sent_before=sha256)
    row = UploadRow(
        id=secrets.token_hex(16),
        adapter=str(name),
        namespace_id=namespace.id,
        user_id=actor.user_id,
        sha256=sha256,
        size=announced,
        store_key="",
        created_at=now,
        expires_at=now + UPLOAD_LIFETIME,
    )
    session.add(row)
    session.flush()
    return row.id, announced


def _end_reservation(session: Session, reservation: str | None) -> None:
    if reservation is not None:
        session.execute(delete(UploadRow).where(UploadRow.id == reservation))


def keep_staged(context: Context, name: AdapterName, staged: Staged, also: Callable[[Session], None]) -> None:
    """Turn verified bytes into a blob that a publish to `name` may use.

    The transaction locks the row, moves the bytes into place, then commits.  Garbage collection deletes under the same
    lock, so it can't run in between.  Slow work happens before the lock.  After a failure, bytes in place without a
    row are an orphan, which garbage collection deletes too.
    """
    copied = context.store.precopy(staged)

    def work(session: Session) -> None:
        also(session)
        _touch(context, session, staged)
        context.store.keep(copied)
        _grant(context, session, name, staged.sha256, staged.size)

    context.database.transact(work)
    _drop(context, staged)


def _drop(context: Context, staged: Staged) -> None:
    """Drop staged bytes that are no longer needed.  If the store fails to, garbage collection will."""
    with suppress(HubError):
        context.store.drop(staged.key)


def _touch(context: Context, session: Session, staged: Staged) -> None:
    """Insert or refresh a blob's row, which locks it."""
    insert = sqlite.insert if context.database.is_sqlite else postgresql.insert
    values = {"size": staged.size, "git_sha1": staged.git_sha1, "touched_at": context.now()}
    statement = insert(BlobRow).values(sha256=staged.sha256, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["sha256"], set_={"touched_at": context.now()}))


def _grant(context: Context, session: Session, name: AdapterName, sha256: str, sent_bytes: int = 0) -> bool:
    """Let publishes to `name` use this blob, and restart its grace period.

    sent_bytes: how many were uploaded for it; they count against the quota until a version or draft names the blob.
    Returns False if garbage collection held the lock first, and so deleted the blob.
    """
    row = session.get(BlobRow, sha256, with_for_update=True, populate_existing=True)
    if row is None:
        return False
    row.touched_at = context.now()
    insert = sqlite.insert if context.database.is_sqlite else postgresql.insert
    session.flush()
    now = context.now()
    namespace_id = session.scalar(select(NamespaceRow.id).where(NamespaceRow.name == name.namespace))
    values = {"namespace_id": namespace_id, "counted_bytes": sent_bytes, "touched_at": now}
    again = {"touched_at": now} | ({"counted_bytes": sent_bytes} if sent_bytes else {})  # new bytes count anew
    added = insert(BlobGrantRow).values(adapter=str(name), sha256=sha256, **values)
    session.execute(added.on_conflict_do_update(index_elements=["adapter", "sha256"], set_=again))
    return True


def check_announced(sha256: str, size: int) -> None:
    if not isinstance(sha256, str) or not SHA256_HEX.match(sha256) or not 0 <= size < 1 << 53:
        raise InvalidRequest("A blob is announced by its sha256 (64 lower-case hex digits) and its size in bytes.")
