"""Webhooks: events of a namespace, signed, posted to a URL, and retried.

The outbox (`deliveries`) is written in the event's transaction, so none is lost, and none is sent that did not happen.
A worker leases a due delivery by moving its due time ahead; if the worker dies, another takes it when the lease ends.

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
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import httpx2
from sqlalchemy import delete as sql_delete
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from hub.errors import HubError, InvalidRequest, WebhookNotFound
from hub.registry.context import Context
from hub.registry.db.models import DeliveryRow, NamespaceRow, WebhookRow
from hub.registry.events import audit
from hub.registry.events.outbox import DELIVERED, FAILED, WAITING
from hub.registry.events.outgoing import Deadline, open_client, parse_url
from hub.registry.rights import permissions
from hub.registry.rights.access import Action, Actor
from hub.registry.values import Webhook

MAX_PER_NAMESPACE = 20
MAX_ATTEMPTS = 12
_LEASE = timedelta(minutes=2)
_FIRST_WAIT = timedelta(seconds=30)
_LONGEST_WAIT = timedelta(hours=6)
_KEPT_FOR = timedelta(days=7)

KEPT_PER_WEBHOOK = 100
PRUNED_AT_ONCE = 500

DELIVERY_SECONDS = 10.0
"""Of one delivery as a whole: the name, the connection, and the receiver's answer."""

LANES = 8
"""To how many receivers a worker posts at once."""

PER_TURN = 20
"""After so many deliveries, other receivers get the thread."""

LOOK_AGAIN_SECONDS = 1.0
"""How soon what became due meanwhile is seen, while receivers take their time."""

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
    """Post the due deliveries; returns how many succeeded.  For a background thread of each worker.

    Receivers are served in parallel, each by one thread, so a slow one delays only its own deliveries.  After about
    `limit` deliveries no receiver's turn starts any more.
    """
    turns: dict[Future[tuple[int, int]], int] = {}
    tried = delivered = 0
    with ThreadPoolExecutor(LANES, "webhooks") as pool:
        while True:
            if tried < limit:
                for hook in _receivers_due(context, set(turns.values()), LANES - len(turns)):
                    turns[pool.submit(_deliver_to, context, hook)] = hook
            if not turns:
                return delivered
            for turn in wait(turns, LOOK_AGAIN_SECONDS, FIRST_COMPLETED).done:
                del turns[turn]
                tried, delivered = tried + turn.result()[0], delivered + turn.result()[1]


def _receivers_due(context: Context, busy: set[int], count: int) -> list[int]:
    """Return webhooks for which something is due, the longest waiting first, without those that have their turn."""
    query = (
        select(DeliveryRow.webhook_id)
        .where(DeliveryRow.state == WAITING, DeliveryRow.due_at <= context.now(), DeliveryRow.webhook_id.not_in(busy))
        .group_by(DeliveryRow.webhook_id)
        .order_by(func.min(DeliveryRow.due_at), DeliveryRow.webhook_id)
        .limit(count)
    )
    with context.database.read() as session:
        return list(session.scalars(query))


def _deliver_to(context: Context, webhook_id: int) -> tuple[int, int]:
    """Serve one receiver; returns how many deliveries were tried, and how many succeeded.

    Each is leased just before it is posted, so that its lease can't expire while it waits for others.
    """
    tried = delivered = 0
    deadline = Deadline(DELIVERY_SECONDS)
    with open_client(context.settings.trusted_hosts, deadline=deadline) as client:
        while tried < PER_TURN:
            due = context.database.transact(partial(_claim, context, webhook_id=webhook_id))
            if due is None:
                break
            deadline.restart(DELIVERY_SECONDS)
            error = _post(context, client, due)
            context.database.transact(partial(_note, context, delivery_id=due.id, error=error))
            tried, delivered = tried + 1, delivered + (error is None)
    return tried, delivered


def _claim(context: Context, session: Session, *, webhook_id: int) -> _Due | None:
    """Lease a webhook's due delivery; nobody else takes it until the lease ends."""
    now = context.now()
    query = (
        select(DeliveryRow, WebhookRow)
        .join(WebhookRow)
        .where(DeliveryRow.webhook_id == webhook_id, DeliveryRow.state == WAITING, DeliveryRow.due_at <= now)
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


def prune(context: Context) -> int:
    """Delete what was delivered or given up longer than a week ago, or is not among its webhook's newest hundred.

    Returns how many rows went.  What waits is kept, whatever its age.
    """
    removed = 0
    while True:
        gone = context.database.transact(partial(_prune_some, context))
        removed += gone
        if gone < PRUNED_AT_ONCE:
            return removed


def _prune_some(context: Context, session: Session) -> int:
    """Delete a bounded number of rows, because other writers wait meanwhile."""
    place = func.row_number().over(partition_by=DeliveryRow.webhook_id, order_by=DeliveryRow.id.desc())
    ended = (
        select(DeliveryRow.id, DeliveryRow.due_at, place.label("place"))
        .where(DeliveryRow.state.in_((DELIVERED, FAILED)))
        .subquery()
    )
    old = or_(ended.c.place > KEPT_PER_WEBHOOK, ended.c.due_at < context.now() - _KEPT_FOR)
    ids = session.scalars(select(ended.c.id).where(old).limit(PRUNED_AT_ONCE)).all()
    session.execute(sql_delete(DeliveryRow).where(DeliveryRow.id.in_(ids)))
    return len(ids)


def _post(context: Context, client: httpx2.Client, delivery: _Due) -> str | None:
    """Return None if the receiver answered 2xx, else what went wrong.  Reads a bounded part of the answer."""
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
    """Read the answer if it is short and quick, so that the connection can be reused."""
    until, count = time.monotonic() + _ANSWER_SECONDS, 0
    with suppress(httpx2.HTTPError):  # the status is what counts, and it is here
        for piece in answer.iter_raw():
            count += len(piece)
            if count > _ANSWER_BYTES or time.monotonic() > until:
                return


def sign(secret: str, timestamp: str, body: str) -> str:
    """Return the signature for the receiver to compare; it covers the time, which prevents replays."""
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.{body}".encode(), hashlib.sha256).hexdigest()


def _note(context: Context, session: Session, *, delivery_id: int, error: str | None) -> None:
    row = session.get(DeliveryRow, delivery_id)
    if row is None:  # the webhook was deleted meanwhile
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
