"""Webhooks: events of a namespace, posted to an address, signed, and tried again until they get through.

The outbox (`deliveries`) is written in the transaction of the event, so no event is lost and none is told that did
not happen.  A worker takes one that is due by moving its time ahead; if it dies, another takes it when that time comes.

    X-Lorahub-Event: version.publish
    X-Lorahub-Delivery: 17
    X-Lorahub-Timestamp: 1764000000
    X-Lorahub-Signature: sha256=<hex HMAC of "timestamp.body" with the webhook's secret>
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import httpx2
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.errors import HubError, InvalidRequest, WebhookNotFound
from hub.registry.context import Context
from hub.registry.db.models import DeliveryRow, NamespaceRow, WebhookRow
from hub.registry.events import audit
from hub.registry.events.outbox import DELIVERED, FAILED, WAITING
from hub.registry.events.outgoing import open_client, parse_url
from hub.registry.rights import permissions
from hub.registry.rights.access import Action, Actor
from hub.registry.values import Webhook

MAX_PER_NAMESPACE = 20
MAX_ATTEMPTS = 12
_LEASE = timedelta(minutes=2)
_FIRST_WAIT = timedelta(seconds=30)
_LONGEST_WAIT = timedelta(hours=6)
_ANSWER_BYTES = 64 * 1024
_ANSWER_SECONDS = 5.0


def create(
    context: Context, actor: Actor, namespace: str, url: str, events: Sequence[str] = ("*",)
) -> tuple[Webhook, str]:
    """Post a namespace's events to `url`; returns the webhook and the secret that signs the bodies.  MANAGE."""
    parse_url(url)
    if len(url) > 2_000 or not 1 <= len(events) <= 50 or not all(1 <= len(event) <= 48 for event in events):
        raise InvalidRequest("A webhook has an address and a list of events, e.g. version.publish, or * for all.")
    secret = secrets.token_hex(32)

    def work(session: Session) -> Webhook:
        row = permissions.require(session, actor, namespace, Action.MANAGE)
        count = select(func.count()).select_from(WebhookRow).where(WebhookRow.namespace_id == row.id)
        if (session.scalar(count) or 0) >= MAX_PER_NAMESPACE:
            raise InvalidRequest(f"A namespace has at most {MAX_PER_NAMESPACE} webhooks. Delete one first.")
        hook = WebhookRow(
            namespace_id=row.id, url=url, secret=secret, events=list(events), active=True, created_at=context.now()
        )
        session.add(hook)
        session.flush()
        audit.record(context, session, actor, "webhook.create", f"{namespace}#{hook.id}", namespace, url=url)
        return _to_webhook(session, hook, namespace)

    return context.database.transact(work), secret


def listing(context: Context, actor: Actor, namespace: str) -> tuple[Webhook, ...]:
    """MANAGE."""
    with context.database.read() as session:
        row = permissions.require(session, actor, namespace, Action.MANAGE)
        query = select(WebhookRow).where(WebhookRow.namespace_id == row.id, WebhookRow.active).order_by(WebhookRow.id)
        return tuple(_to_webhook(session, hook, namespace) for hook in session.scalars(query))


def delete(context: Context, actor: Actor, webhook_id: int) -> None:
    """MANAGE.  Raises WebhookNotFound."""

    def work(session: Session) -> None:
        hook = session.get(WebhookRow, webhook_id)
        space = session.get_one(NamespaceRow, hook.namespace_id) if hook is not None else None
        if hook is None or space is None or not permissions.is_allowed(session, actor, space, Action.MANAGE):
            raise WebhookNotFound(f"There is no webhook {webhook_id} that you may manage.")
        session.delete(hook)
        session.flush()
        audit.record(context, session, actor, "webhook.delete", f"{space.name}#{webhook_id}", space.name)

    context.database.transact(work)


# Sending ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Due:
    id: int
    url: str
    secret: str
    body: str


def deliver(context: Context, limit: int = 100) -> int:
    """Post what is due in the outbox; returns how many got through.  For a background thread of each worker.

    Post up to `limit` deliveries, each taken just before: one that waits for others must not outlast its lease.
    """
    delivered = 0
    with open_client(context.settings.trusted_hosts) as client:
        for _ in range(limit):
            due = context.database.transact(partial(_claim, context))
            if due is None:
                break
            error = _post(context, client, due)
            context.database.transact(partial(_note, context, delivery_id=due.id, error=error))
            delivered += error is None
    return delivered


def _claim(context: Context, session: Session) -> _Due | None:
    """Take one that is due; nobody else will until the lease is over."""
    now = context.now()
    query = (
        select(DeliveryRow, WebhookRow)
        .join(WebhookRow)
        .where(DeliveryRow.state == WAITING, DeliveryRow.due_at <= now)
        .order_by(DeliveryRow.id)
        .limit(1)
        .with_for_update(of=DeliveryRow, skip_locked=True)
    )
    found = session.execute(query).first()
    if found is None:
        return None
    row, hook = found
    row.due_at = now + _LEASE
    row.attempts += 1
    return _Due(row.id, hook.url, hook.secret, row.body)


def _post(context: Context, client: httpx2.Client, delivery: _Due) -> str | None:
    """Return None if the receiver said 2xx, else what went wrong.  Of what else it says, no more is read than fits."""
    timestamp = str(int(context.now().timestamp()))
    headers = {
        "Content-Type": "application/json",
        "X-Lorahub-Event": json.loads(delivery.body)["event"],
        "X-Lorahub-Delivery": str(delivery.id),
        "X-Lorahub-Timestamp": timestamp,
        "X-Lorahub-Signature": sign(delivery.secret, timestamp, delivery.body),
    }
    try:
        with client.stream("POST", delivery.url, content=delivery.body.encode(), headers=headers) as answer:
            _read_to_the_end(answer)
            return None if answer.is_success else f"the receiver answered {answer.status_code}"
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, HubError) as error:
        # InvalidURL, UnicodeError: a host that no resolver can be asked for.
        return str(error)[:300]


def _read_to_the_end(answer: httpx2.Response) -> None:
    """Read an answer that is short and quick, so that its connection can serve the next delivery."""
    until, count = time.monotonic() + _ANSWER_SECONDS, 0
    with suppress(httpx2.HTTPError):  # the status is what counts, and it is here
        for piece in answer.iter_raw():
            count += len(piece)
            if count > _ANSWER_BYTES or time.monotonic() > until:
                return


def sign(secret: str, timestamp: str, body: str) -> str:
    """Return the signature that a receiver compares: the time is in it, so that an old body can't be sent again."""
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.{body}".encode(), hashlib.sha256).hexdigest()


def _note(context: Context, session: Session, *, delivery_id: int, error: str | None) -> None:
    row = session.get(DeliveryRow, delivery_id)
    if row is None:  # its webhook was deleted in between
        return
    row.last_error = error
    if error is None:
        row.state = DELIVERED
    elif row.attempts >= MAX_ATTEMPTS:
        row.state = FAILED
    else:
        row.due_at = context.now() + min(_FIRST_WAIT * 2 ** (row.attempts - 1), _LONGEST_WAIT)


def _to_webhook(session: Session, row: WebhookRow, namespace: str) -> Webhook:
    newest = session.scalar(
        select(DeliveryRow).where(DeliveryRow.webhook_id == row.id).order_by(DeliveryRow.id.desc()).limit(1)
    )
    failed = select(func.count()).select_from(DeliveryRow)
    failures = session.scalar(failed.where(DeliveryRow.webhook_id == row.id, DeliveryRow.last_error.is_not(None))) or 0
    last_error = newest.last_error if newest is not None else None
    return Webhook(row.id, namespace, row.url, tuple(row.events), row.active, row.created_at, failures, last_error)
