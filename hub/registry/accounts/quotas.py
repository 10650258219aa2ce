"""How much a namespace may hold: adapters, and bytes of versions, drafts, and what is on its way to be one.

    held (used_bytes)   versions that aren't deleted, drafts         taken when they are written, given back with them
    reserved            uploads that are open, one by one            from their opening to their end
                        blobs that were sent and aren't named yet    until a version or draft names them, or a day

Uploaded bytes move from one state to the next and count in exactly one, so the sum never exceeds the limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hub.errors import InvalidRequest, NamespaceNotFound, QuotaExceeded
from hub.registry.accounts import namespaces
from hub.registry.context import Context
from hub.registry.db.models import AdapterRow, BlobGrantRow, CommitRow, NamespaceRow, UploadRow, VersionRow
from hub.registry.db.row_locks import lock_namespace
from hub.registry.events import audit
from hub.registry.rights import permissions
from hub.registry.rights.access import Actor
from hub.registry.values import Namespace


def set_quota(
    context: Context, actor: Actor, namespace: str, *, max_bytes: int | None = None, max_adapters: int | None = None
) -> Namespace:
    """Limit what a namespace may hold; None is unlimited.  SITE."""
    permissions.require_site(actor)
    if any(limit is not None and not 0 <= limit < 1 << 62 for limit in (max_bytes, max_adapters)):
        raise InvalidRequest("A quota is a whole number from 0 up, or nothing for no limit.")

    def work(session: Session) -> Namespace:
        row = session.scalar(select(NamespaceRow).where(NamespaceRow.name == namespace))
        if row is None:
            raise NamespaceNotFound(f"There is no namespace {namespace!r}.")
        row.quota_bytes, row.quota_adapters = max_bytes, max_adapters
        audit.record(
            context,
            session,
            actor,
            "namespace.quota",
            namespace,
            namespace,
            max_bytes=max_bytes,
            max_adapters=max_adapters,
        )
        return namespaces.describe(session, actor, row)

    return context.database.transact(work)


def check_adapters(session: Session, namespace: NamespaceRow) -> None:
    """Raise QuotaExceeded if one more adapter is one too many."""
    if namespace.quota_adapters is None:
        return
    lock_namespace(session, namespace.id)  # or two that both see room for one come in together
    count = select(func.count()).select_from(AdapterRow)
    held = session.scalar(count.where(AdapterRow.namespace_id == namespace.id, AdapterRow.deleted_at.is_(None))) or 0
    if namespace.quota_adapters is not None and held >= namespace.quota_adapters:
        raise QuotaExceeded(
            f"The namespace {namespace.name!r} may have {namespace.quota_adapters:,} adapters and has {held:,}. "
            "Ask an admin for more room.",
            limit=namespace.quota_adapters,
        )


def check_room(session: Session, namespace: NamespaceRow, size: int, now: datetime, *, sent_before: str = "") -> None:
    """Raise QuotaExceeded unless `size` more bytes fit beside what is held and what is on its way.

    sent_before: the sha256 of these bytes, which are not counted again where they wait to be published.
    """
    if namespace.quota_bytes is None:
        return
    namespace = lock_namespace(session, namespace.id)  # or two that both see room for one come in together
    _check(namespace, namespace.used_bytes + reserved(session, namespace, now, except_for=sent_before), size)


def reserved(session: Session, namespace: NamespaceRow, now: datetime, *, except_for: str = "") -> int:
    """Return the bytes of uploads that are open, and of blobs that were sent and that nothing names yet."""
    coming = select(func.coalesce(func.sum(UploadRow.size), 0)).where(
        UploadRow.namespace_id == namespace.id, UploadRow.done.is_(False), UploadRow.expires_at > now
    )
    waiting = select(func.coalesce(func.sum(BlobGrantRow.counted_bytes), 0)).where(
        BlobGrantRow.namespace_id == namespace.id, BlobGrantRow.sha256 != except_for
    )
    return int(session.scalar(coming) or 0) + int(session.scalar(waiting) or 0)


def room(session: Session, namespace: NamespaceRow, now: datetime) -> int | None:
    """Return how many more bytes fit; None is without limit."""
    if namespace.quota_bytes is None:
        return None
    return max(0, namespace.quota_bytes - namespace.used_bytes - reserved(session, namespace, now))


def take(
    session: Session, namespace: NamespaceRow, size: int, now: datetime, adapter: str, named: Iterable[str]
) -> None:
    """Count `size` bytes of a version or draft of `adapter`, whose blobs `named` wait no longer.  Raises QuotaExceeded.

    The namespace's row is written first, which locks it, so that two publishers can't both use the same room.
    """
    counted = update(NamespaceRow).where(NamespaceRow.id == namespace.id)
    used = session.scalar(
        counted.values(used_bytes=NamespaceRow.used_bytes + size)
        .returning(NamespaceRow.used_bytes)
        .execution_options(synchronize_session=False)
    )
    settle(session, adapter, named)
    if namespace.quota_bytes is not None:
        _check(namespace, (used or 0) - size + reserved(session, namespace, now), size)


def settle(session: Session, adapter: str, named: Iterable[str]) -> None:
    """Stop counting as waiting the blobs that a version or draft of `adapter` names now."""
    waiting = update(BlobGrantRow).where(BlobGrantRow.adapter == adapter, BlobGrantRow.sha256.in_(list(named)))
    session.execute(waiting.values(counted_bytes=0).execution_options(synchronize_session=False))


def held(session: Session, namespace: NamespaceRow) -> int:
    """Add up, row by row, what `used_bytes` says."""
    versions = (
        select(func.coalesce(func.sum(VersionRow.size_bytes), 0))
        .join(AdapterRow, VersionRow.adapter_id == AdapterRow.id)
        .where(AdapterRow.namespace_id == namespace.id, VersionRow.deleted_at.is_(None))
    )
    drafts = (
        select(func.coalesce(func.sum(CommitRow.counted_bytes), 0))
        .join(AdapterRow, CommitRow.adapter_id == AdapterRow.id)
        .where(AdapterRow.namespace_id == namespace.id)
    )
    return int(session.scalar(versions) or 0) + int(session.scalar(drafts) or 0)


def give_back(session: Session, namespace: NamespaceRow, size: int) -> None:
    session.execute(
        update(NamespaceRow)
        .where(NamespaceRow.id == namespace.id)
        .values(used_bytes=NamespaceRow.used_bytes - size)
        .execution_options(synchronize_session=False)
    )


def _check(namespace: NamespaceRow, used: int, size: int) -> None:
    limit = namespace.quota_bytes
    if limit is not None and used + size > limit:
        raise QuotaExceeded(
            f"The namespace {namespace.name!r} may hold {limit:,} bytes; {used:,} are taken and {size:,} would come. "
            "Delete what is not needed, or ask an admin for more; what was sent and not published ends after a day.",
            limit=limit,
            used=used,
        )
