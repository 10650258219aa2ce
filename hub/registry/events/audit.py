"""The audit log: one event per mutation, in the mutation's own transaction, readable by the namespace's owners.

A mutation changes what others can see or do.  Uploading bytes, counting a download and recording a token's last use
are none.  The same event goes into the outbox of the namespace's webhooks.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hub.registry.context import Context
from hub.registry.db.models import AdapterRow, AuditRow
from hub.registry.events import outbox
from hub.registry.rights import permissions
from hub.registry.rights.access import Action, Actor
from hub.registry.values import AuditEvent


def record(
    context: Context,
    session: Session,
    actor: Actor,
    action: str,
    target: str,
    namespace: str | None = None,
    **details: Any,
) -> None:
    """Write the event of this transaction.  `details` are JSON values and never secrets."""
    kept = {key: value for key, value in details.items() if value is not None}
    row = AuditRow(
        at=context.now(),
        user=actor.user,
        action=action,
        target=target,
        namespace=namespace,
        source=actor.source,
        token_id=actor.token_id,
        details=kept,
    )
    session.add(row)
    session.flush()
    _note_change(session, target)
    if namespace is not None:
        outbox.enqueue(context, session, namespace, to_event(row))


def _note_change(session: Session, target: str) -> None:
    """Increment the revision of the event's adapter, which invalidates its cache entries."""
    name = target.partition("@")[0]
    if "/" in name:
        session.execute(
            update(AdapterRow)
            .where(AdapterRow.full_name == name, AdapterRow.deleted_at.is_(None))
            .values(revision=AdapterRow.revision + 1)
            .execution_options(synchronize_session=False)
        )


def listing(
    context: Context, actor: Actor, namespace: str | None = None, *, limit: int = 100, before: int | None = None
) -> tuple[AuditEvent, ...]:
    """Return events, newest first.  MANAGE of the namespace, or SITE without one."""
    with context.database.read() as session:
        if namespace is None:
            permissions.require_site(actor)
        else:
            permissions.require(session, actor, namespace, Action.MANAGE)
        query = select(AuditRow).order_by(AuditRow.id.desc()).limit(max(1, min(limit, 1000)))
        if namespace is not None:
            query = query.where(AuditRow.namespace == namespace)
        if before is not None:
            query = query.where(AuditRow.id < before)
        return tuple(to_event(row) for row in session.scalars(query))


def to_event(row: AuditRow) -> AuditEvent:
    return AuditEvent(row.id, row.at, row.user, row.action, row.target, row.namespace, row.details)
