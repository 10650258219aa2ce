"""How much a namespace may hold: bytes of versions and drafts, and adapters."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hub.errors import InvalidRequest, NamespaceNotFound, QuotaExceeded
from hub.registry.accounts import namespaces
from hub.registry.context import Context
from hub.registry.db.models import AdapterRow, NamespaceRow, UploadRow
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


def check_upload(session: Session, namespace: NamespaceRow, sha256: str, size: int, now: datetime) -> None:
    """Raise QuotaExceeded if `size` more bytes, with what is on its way already, would be too many.

    The same bytes count once, however often somebody has begun to send them.
    """
    if namespace.quota_bytes is None:
        return
    others = select(UploadRow.sha256, UploadRow.size).distinct()
    others = others.where(
        UploadRow.namespace_id == namespace.id,
        UploadRow.done.is_(False),
        UploadRow.expires_at > now,
        UploadRow.sha256 != sha256,
    )
    coming = session.scalar(select(func.coalesce(func.sum(others.subquery().c.size), 0)))
    _check(namespace, namespace.used_bytes + int(coming or 0), size)


def take(session: Session, namespace: NamespaceRow, size: int) -> None:
    """Count `size` more bytes.  Raises QuotaExceeded.  One statement, so that two publishers can't both fit."""
    counted = update(NamespaceRow).where(NamespaceRow.id == namespace.id)
    used = session.scalar(
        counted.values(used_bytes=NamespaceRow.used_bytes + size)
        .returning(NamespaceRow.used_bytes)
        .execution_options(synchronize_session=False)
    )
    _check(namespace, (used or 0) - size, size)


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
            "Delete what is not needed, or ask an admin for more room.",
            limit=limit,
            used=used,
        )
