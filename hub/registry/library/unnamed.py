"""Blobs that nothing names: no version, no draft.  Bytes without a row, and rows without bytes."""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from hub.registry.context import Context
from hub.registry.db.models import BlobRow, CommitFileRow, VersionFileRow


def is_unnamed() -> tuple[ColumnElement[bool], ...]:
    # A deleted version still counts as a name: its files are let go of first, after their own grace.
    named_by_version = exists().where(VersionFileRow.sha256 == BlobRow.sha256)
    named_by_draft = exists().where(CommitFileRow.sha256 == BlobRow.sha256)
    return (~named_by_version, ~named_by_draft)


def forget_lost(context: Context, sha256: str) -> bool:
    """Delete the row of a blob whose bytes are gone and that nothing names, so that it can be sent again.

    A collection that was killed between the two leaves such a row.  Returns whether it is so no more.
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
        # Holding a row of that name keeps uploads of the same bytes waiting until the file is gone.
        row = BlobRow(sha256=sha256, size=0, touched_at=context.now())
        session.add(row)
        session.flush()
        context.store.delete(sha256)
        session.delete(row)
        return True

    return context.database.transact(work)
