"""Garbage collection: bytes that nothing names any more, while the service goes on.

What is collected was unnamed for a whole grace period (a day, unless said otherwise), which begins anew whenever
somebody sends a blob, or is told that it need not be sent.  Each blob is deleted inside a transaction that holds its
row; uploads put blobs in place inside one that holds the same row; a version or draft refers to it by foreign key.
So none of the three can happen between the steps of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import ColumnElement, delete, exists, select
from sqlalchemy.orm import Session

from hub.registry import limits
from hub.registry.context import UPLOAD_LIFETIME, Context
from hub.registry.models import (
    AdapterRow,
    BlobRow,
    CommitFileRow,
    CommitRow,
    UploadRow,
    VersionFileRow,
    VersionRow,
    WebSessionRow,
)

_BATCH = 100


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


def collect(context: Context, *, grace: timedelta, dry_run: bool, now: datetime | None = None) -> GcReport:
    now = now or context.now()
    before = now - grace
    uploads = _expire_uploads(context, now, dry_run)
    if not dry_run:
        context.database.transact(lambda session: _release_deleted(session, before))
        context.database.transact(lambda session: _forget_sessions(session, now))
        limits.forget_idle(context)
    blobs, size = _collect_blobs(context, before, dry_run)
    orphans = _collect_orphans(context, before, dry_run)
    return GcReport(blobs, size, uploads, orphans, dry_run)


def _expire_uploads(context: Context, now: datetime, dry_run: bool) -> int:
    with context.database.read() as session:
        expired = session.execute(select(UploadRow.id, UploadRow.store_key).where(UploadRow.expires_at <= now)).all()
        alive = set(session.scalars(select(UploadRow.store_key).where(UploadRow.expires_at > now)))
    keys = {key for _, key in expired}
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


def _forget_sessions(session: Session, now: datetime) -> None:
    session.execute(delete(WebSessionRow).where(WebSessionRow.expires_at <= now))


def _collect_blobs(context: Context, before: datetime, dry_run: bool) -> tuple[int, int]:
    count = size = 0
    for batch in _candidates(context, before):
        remove = partial(_remove, context, batch=batch, before=before)
        removed = batch if dry_run else context.database.transact(remove)
        count += len(removed)
        size += sum(length for _, length in removed)
    return count, size


def _candidates(context: Context, before: datetime) -> Iterator[Sequence[tuple[str, int]]]:
    """Yield batches of blobs that look like garbage; `_remove` looks again under their locks."""
    last = ""
    while True:
        query = select(BlobRow.sha256, BlobRow.size).where(*_is_garbage(before), BlobRow.sha256 > last)
        with context.database.read() as session:
            batch = session.execute(query.order_by(BlobRow.sha256).limit(_BATCH)).all()
        if not batch:
            return
        yield [(sha256, size) for sha256, size in batch]
        last = batch[-1][0]


def _is_garbage(before: datetime) -> tuple[ColumnElement[bool], ...]:
    # A deleted version still counts as a name: its files are let go of first, after their own grace.
    named_by_version = exists().where(VersionFileRow.sha256 == BlobRow.sha256)
    named_by_draft = exists().where(CommitFileRow.sha256 == BlobRow.sha256)
    return (BlobRow.touched_at < before, ~named_by_version, ~named_by_draft)


def _remove(
    context: Context, session: Session, *, batch: Sequence[tuple[str, int]], before: datetime
) -> list[tuple[str, int]]:
    names = [sha256 for sha256, _ in batch]
    query = select(BlobRow).where(BlobRow.sha256.in_(names), *_is_garbage(before)).order_by(BlobRow.sha256)
    # A row that somebody is touching right now is no garbage: skip it.
    rows = session.scalars(query.with_for_update(skip_locked=True)).all()
    removed = [(row.sha256, row.size) for row in rows]
    for row in rows:
        session.delete(row)
    session.flush()  # the foreign keys have their say before a byte goes
    for sha256, _ in removed:
        context.store.delete(sha256)
    return removed


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


def remove_orphan(context: Context, sha256: str) -> bool:
    """Delete a stored file unless a row names it; returns whether it was deleted."""
    with context.database.read() as session:
        if session.get(BlobRow, sha256) is not None:
            return False

    def work(session: Session) -> bool:
        if session.get(BlobRow, sha256) is not None:
            return False
        # Holding a row of that name keeps uploads of the same bytes waiting until the file is gone.
        row = BlobRow(sha256=sha256, size=0, touched_at=context.now())
        session.add(row)
        session.flush()
        context.store.delete(sha256)
        session.delete(row)
        return True

    return context.database.transact(work)
