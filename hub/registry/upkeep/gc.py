"""Garbage collection: delete bytes that nothing names any more, while the service goes on.

A blob is collected after it was unnamed for a whole grace period (a day by default).  The period restarts whenever
somebody uploads the blob, or is told that an upload isn't needed.  Deleting a blob, and moving one into place, each
happen in a transaction that locks its row; a version or draft refers to the row by foreign key.  So none of the three
can interleave with another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import ColumnElement, delete, exists, select, update
from sqlalchemy.orm import Session

from hub.errors import HubError, Unavailable
from hub.registry.accounts import limits
from hub.registry.context import DRAFT_LIFETIME, UPLOAD_LIFETIME, Context
from hub.registry.db.models import (
    AdapterRow,
    BlobGrantRow,
    BlobRow,
    CommitFileRow,
    CommitRow,
    UploadRow,
    VersionFileRow,
    VersionRow,
    WebSessionRow,
)
from hub.registry.derived import queue
from hub.registry.library import lanes
from hub.registry.library.unnamed import is_unnamed, remove_orphan

_BATCH = 100
_FAILURES_IN_A_ROW = 3


@dataclass(frozen=True, slots=True)
class GcReport:
    """What was (or, on a dry run, would be) removed."""

    blobs: int
    bytes: int
    uploads: int
    orphans: int
    dry_run: bool

    def line(self) -> str:
        verb = "would remove" if self.dry_run else "removed"
        return (
            f"{verb} {self.blobs:,} blobs ({self.bytes:,} bytes), {self.orphans:,} files without a row, "
            f"{self.uploads:,} unfinished uploads"
        )


def collect(
    context: Context, *, grace: timedelta = timedelta(hours=24), dry_run: bool = False, now: datetime | None = None
) -> GcReport:
    """Delete blobs that nothing has named for `grace`, and uploads that expired.  Safe while serving.

    Raises Unavailable, after all the rest is done, when some blobs could not be removed.
    """
    now = now or context.now()
    before = now - grace
    uploads = _expire_uploads(context, now, dry_run)
    if not dry_run:
        context.database.transact(lambda session: _release_deleted(session, before))
        context.database.transact(lambda session: lanes.expire(session, now - DRAFT_LIFETIME))
        context.database.transact(lambda session: _forget_sessions(session, now))
        context.database.transact(queue.forget_unneeded)
        limits.forget_idle(context)
    blobs, size, errors = _collect_blobs(context, before, dry_run)
    if not dry_run:
        context.database.transact(lambda session: _forget_grants(session, before))
    orphans = _collect_orphans(context, before, dry_run)
    report = GcReport(blobs, size, uploads, orphans, dry_run)
    if errors:
        raise Unavailable(f"{len(errors):,} blobs could not be removed: {errors[0].message} Else: {report.line()}.")
    return report


def _expire_uploads(context: Context, now: datetime, dry_run: bool) -> int:
    with context.database.read() as session:
        expired = session.execute(select(UploadRow.id, UploadRow.store_key).where(UploadRow.expires_at <= now)).all()
        alive = set(session.scalars(select(UploadRow.store_key).where(UploadRow.expires_at > now)))
    keys = {key for _, key in expired if key}
    # Bytes whose row is gone, e.g. because the server was killed between the two.
    keys |= {key for key in context.store.stale_uploads(now - UPLOAD_LIFETIME) if key not in alive}
    if dry_run:
        return len(keys)
    for key in keys:
        context.store.drop(key)
    context.database.transact(lambda session: session.execute(delete(UploadRow).where(UploadRow.expires_at <= now)))
    return len(keys)


def _release_deleted(session: Session, before: datetime) -> None:
    """Let go of the files of versions, and of drafts of adapters, that were deleted long enough ago."""
    versions = select(VersionRow.id).where(VersionRow.deleted_at < before)
    session.execute(
        delete(VersionFileRow)
        .where(VersionFileRow.version_id.in_(versions))
        .execution_options(synchronize_session=False)
    )
    commits = (
        select(CommitRow.id)
        .join(AdapterRow, CommitRow.adapter_id == AdapterRow.id)
        .where(AdapterRow.deleted_at < before)
    )
    session.execute(
        delete(CommitFileRow).where(CommitFileRow.commit_id.in_(commits)).execution_options(synchronize_session=False)
    )


def _forget_grants(session: Session, before: datetime) -> None:
    """Stop counting bytes that were uploaded and never named."""
    old = delete(BlobGrantRow).where(BlobGrantRow.touched_at < before)
    session.execute(old.execution_options(synchronize_session=False))


def _forget_sessions(session: Session, now: datetime) -> None:
    session.execute(delete(WebSessionRow).where(WebSessionRow.expires_at <= now))


def _collect_blobs(context: Context, before: datetime, dry_run: bool) -> tuple[int, int, list[HubError]]:
    """Remove each blob in a transaction of its own: a store that fails can't leave more than that one's row behind.

    Stops after repeated failures of the store in a row: other writers wait during each.
    """
    count, size, errors, failed_in_a_row = 0, 0, list[HubError](), 0
    for sha256, length in _candidates(context, before):
        try:
            remove = partial(_remove, context, sha256=sha256, before=before)
            is_removed = dry_run or context.database.transact(remove)
        except HubError as error:
            errors.append(error)
            failed_in_a_row += 1
            if failed_in_a_row == _FAILURES_IN_A_ROW:
                break
            continue
        failed_in_a_row = 0
        count += is_removed
        size += length * is_removed
    return count, size, errors


def _candidates(context: Context, before: datetime) -> Iterator[tuple[str, int]]:
    """Yield blobs that look like garbage; `_remove` looks again under their locks."""
    last = ""
    while True:
        query = select(BlobRow.sha256, BlobRow.size).where(*_is_garbage(before), BlobRow.sha256 > last)
        with context.database.read() as session:
            batch = session.execute(query.order_by(BlobRow.sha256).limit(_BATCH)).all()
        if not batch:
            return
        yield from ((sha256, size) for sha256, size in batch)
        last = batch[-1][0]


def renew_grace(session: Session, *, now: datetime) -> None:
    """Give everything that could be collected soon another grace period."""
    by_version = exists().where(
        VersionFileRow.sha256 == BlobRow.sha256,
        VersionRow.id == VersionFileRow.version_id,
        VersionRow.deleted_at.is_(None),
    )
    by_draft = exists().where(
        CommitFileRow.sha256 == BlobRow.sha256,
        CommitRow.id == CommitFileRow.commit_id,
        AdapterRow.id == CommitRow.adapter_id,
        AdapterRow.deleted_at.is_(None),
    )
    loose = update(BlobRow).where(~by_version, ~by_draft).values(touched_at=now)
    session.execute(loose.execution_options(synchronize_session=False))


def _is_garbage(before: datetime) -> tuple[ColumnElement[bool], ...]:
    return (BlobRow.touched_at < before, *is_unnamed())


def _remove(context: Context, session: Session, *, sha256: str, before: datetime) -> bool:
    # A row that somebody has locked is in use, so not garbage: skip it.
    query = select(BlobRow).where(BlobRow.sha256 == sha256, *_is_garbage(before)).with_for_update(skip_locked=True)
    row = session.scalar(query)
    if row is None:
        return False
    session.delete(row)
    session.flush()  # check the foreign keys before deleting any bytes
    context.store.delete(sha256)
    return True


def _collect_orphans(context: Context, before: datetime, dry_run: bool) -> int:
    """Remove stored files that no row names: what a crash between file and row leaves."""
    found = 0
    for blob in context.store.blobs():
        if blob.stored_at >= before:
            continue
        if dry_run:
            with context.database.read() as session:
                found += session.get(BlobRow, blob.sha256) is None
        else:
            found += remove_orphan(context, blob.sha256)
    return found
