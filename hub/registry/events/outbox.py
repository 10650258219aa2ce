"""The outbox of webhooks: events, written in the transaction that they report.  webhooks.py sends them."""

from __future__ import annotations

import json

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.registry.context import Context
from hub.registry.db.models import DeliveryRow, NamespaceRow, WebhookRow
from hub.registry.values import AuditEvent

WAITING, DELIVERED, FAILED = "waiting", "delivered", "failed"


def enqueue(context: Context, session: Session, namespace: str, event: AuditEvent) -> None:
    """Put an event into the outbox of every webhook of its namespace that asked for it."""
    query = select(WebhookRow).join(NamespaceRow).where(NamespaceRow.name == namespace, WebhookRow.active)
    for hook in session.scalars(query):
        if "*" in hook.events or event.action in hook.events:
            session.add(DeliveryRow(webhook_id=hook.id, body=_body(event), state=WAITING, due_at=context.now()))
    session.flush()


def _body(event: AuditEvent) -> str:
    return json.dumps(
        {
            "id": event.id,
            "event": event.action,
            "at": event.at.isoformat(),
            "user": event.user,
            "namespace": event.namespace,
            "target": event.target,
            "details": dict(event.details),
        },
        sort_keys=True,
    )
