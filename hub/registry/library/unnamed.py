"""Blobs that no version and no draft names: bytes without a row, and rows without bytes."""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from hub.registry.context import Context
from hub.registry.db.models import BlobRow, CommitFileRow, VersionFileRow


def is_unnamed() -> tuple[ColumnElement[bool], ...]:
    # A deleted version still names its files, until gc releases them after their own grace period.
    named_by_version = exists().where(VersionFileRow.sha256 == BlobRow.sha256)
    named_by_draft = exists().where(CommitFileRow.sha256 == BlobRow.sha256)
    return (~named_by_version, ~named_by_draft)


def forget_lost(context: Context, sha256: str) -> bool:
    """Delete the row of an unnamed blob whose bytes are gone, so that it can be uploaded again.

    A collection killed between deleting the bytes and the row leaves one.  Returns False if something names it.
    """

    def work(session: Session) -> bool:
        row = session.scalar(select(BlobRow).where(BlobRow.sha256 == sha256).with_for_update())
        if row is None or context.store.size(sha256) is not None:
            return True
        if session.scalar(select(BlobRow.sha256).where(BlobRow.sha256 == sha256, *is_unnamed())) is None:
            return False
        session.delete(row)
        return True

    return context.database.transact(work)


def remove_orphan(context: Context, sha256: str) -> bool:
    """Delete a stored file unless a row names it; returns whether it was deleted."""
    with context.database.read() as session:
        if session.get(BlobRow, sha256) is not None:
            return False

    def work(session: Session) -> bool:
        if session.get(BlobRow, sha256) is not None:
            return False
        # Inserting a row of that name makes uploads of the same bytes wait until the file is gone.
        row = BlobRow(sha256=sha256, size=0, touched_at=context.now())
        session.add(row)
        session.flush()
        context.store.delete(sha256)
        session.delete(row)
        return True

    return context.database.transact(work)
