"""Access requests for gated adapters: who may read the files without being a member of the namespace.

Anybody who is logged in and sees the adapter may ask.  Its owners decide, and may change a decision.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.errors import Conflict, InvalidRequest, NotFound, Unauthenticated, UserNotFound
from hub.refs import AdapterName
from hub.registry.context import Context
from hub.registry.db.models import AccessRequestRow, AdapterRow, UserRow
from hub.registry.events import audit
from hub.registry.library.lookup import find_adapter
from hub.registry.rights.access import Action, Actor
from hub.registry.values import AccessRequest, AccessStatus

MAX_REASON_LENGTH = 200


def ask(context: Context, actor: Actor, name: AdapterName) -> AccessRequest:
    """Request access to a gated adapter's files.  A repeated request returns the state of the first one."""

    def work(session: Session) -> AccessRequest:
        row, _ = find_adapter(session, actor, name, lock=True)
        if actor.user_id is None:
            raise Unauthenticated("Log in first: owners decide on users, not on strangers.")
        if not row.gated:
            raise InvalidRequest(f"{name} is not gated: everybody who sees it may read it.")
        found = session.get(AccessRequestRow, (row.id, actor.user_id))
        if found is None:
            found = _set(context, session, row, actor.user_id, "pending")
            audit.record(context, session, actor, "access.ask", str(name), name.namespace)
        return _to_request(found, actor.user or "")

    return context.database.transact(work)


def listing(context: Context, actor: Actor, name: AdapterName, status: AccessStatus) -> tuple[AccessRequest, ...]:
    """List the requests in this state, oldest first.  OWN."""
    with context.database.read() as session:
        row, _ = find_adapter(session, actor, name, Action.OWN)
        query = select(AccessRequestRow, UserRow.name).join(UserRow, AccessRequestRow.user_id == UserRow.id)
        query = query.where(AccessRequestRow.adapter_id == row.id, AccessRequestRow.status == status)
        found = session.execute(query.order_by(AccessRequestRow.at, AccessRequestRow.user_id)).all()
        return tuple(_to_request(request, user) for request, user in found)


def grant(context: Context, actor: Actor, name: AdapterName, user: str) -> AccessRequest:
    """Grant a user access, requested or not.  OWN.  Conflict if they have it already."""
    return _change(context, actor, name, user, "accepted", None, must_exist=False)


def decide(
    context: Context, actor: Actor, name: AdapterName, user: str, status: AccessStatus, reason: str | None = None
) -> AccessRequest:
    """Accept or reject a user's request, or reset it to pending.  OWN.  Conflict if it is in that state already."""
    return _change(context, actor, name, user, status, reason, must_exist=True)


def _change(
    context: Context,
    actor: Actor,
    name: AdapterName,
    user: str,
    status: AccessStatus,
    reason: str | None,
    *,
    must_exist: bool,
) -> AccessRequest:
    if reason is not None and len(reason) > MAX_REASON_LENGTH:
        raise InvalidRequest(f"A reason has at most {MAX_REASON_LENGTH} characters.")

    def work(session: Session) -> AccessRequest:
        row, _ = find_adapter(session, actor, name, Action.OWN, lock=True)
        user_id = session.scalar(select(UserRow.id).where(UserRow.name == user))
        if user_id is None:
            raise UserNotFound(f"There is no user {user[:96]!r}.")
        found = session.get(AccessRequestRow, (row.id, user_id))
        if found is None and must_exist:
            raise NotFound(f"{user} has not asked for access to {name}.")
        if found is not None and found.status == status:
            raise Conflict(f"The request of {user} for {name} is {status} already.")
        changed = _set(context, session, row, user_id, status, reason)
        audit.record(context, session, actor, f"access.{status}", str(name), name.namespace, user=user, reason=reason)
        return _to_request(changed, user)

    return context.database.transact(work)


def _set(
    context: Context,
    session: Session,
    row: AdapterRow,
    user_id: int,
    status: AccessStatus,
    reason: str | None = None,
) -> AccessRequestRow:
    values = {"status": status, "reason": reason, "at": context.now()}
    changed: AccessRequestRow = session.merge(AccessRequestRow(adapter_id=row.id, user_id=user_id, **values))
    session.flush()
    return changed


def _to_request(row: AccessRequestRow, user: str) -> AccessRequest:
    return AccessRequest(f"{row.adapter_id:012x}{row.user_id:012x}", user, _status(row.status), row.at, row.reason)


def _status(text: str) -> AccessStatus:
    return "accepted" if text == "accepted" else "rejected" if text == "rejected" else "pending"
