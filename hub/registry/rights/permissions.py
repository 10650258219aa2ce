"""Permission checks.  Every module calls them inside the transaction that they protect."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.errors import Forbidden, Gated, NamespaceNotFound, Unauthenticated
from hub.refs import parse_namespace
from hub.registry.db.models import AccessRequestRow, AdapterRow, MemberRow, NamespaceRow
from hub.registry.rights.access import Action, Actor, allows
from hub.registry.values import Role

CARD_FILE = "README.md"


def role_in(session: Session, actor: Actor, namespace_id: int) -> Role | None:
    if actor.user_id is None:
        return None
    query = select(MemberRow.role).where(MemberRow.namespace_id == namespace_id, MemberRow.user_id == actor.user_id)
    found = session.scalar(query)
    return None if found is None else to_role(found)


def to_role(text: str) -> Role:
    """Return the role of that name; the lowest for an unknown name."""
    return "owner" if text == "owner" else "publisher" if text == "publisher" else "reader"


def is_allowed(session: Session, actor: Actor, namespace: NamespaceRow, action: Action) -> bool:
    return allows(actor, role_in(session, actor, namespace.id), namespace.name, action)


def may_read(session: Session, actor: Actor, namespace: NamespaceRow, private: bool = False) -> bool:
    """Whether the actor may read this namespace, or a thing in it that is `private`."""
    if not namespace.private and not private:
        return True
    return is_allowed(session, actor, namespace, Action.READ)


def check_gate(session: Session, actor: Actor, adapter: AdapterRow, path: str) -> None:
    """Raise Gated if the actor, who may see the adapter, may not read this file of it.

    A gated adapter's files are for members of its namespace, and users to whom its owners have granted access.
    """
    namespace = session.get(NamespaceRow, adapter.namespace_id)
    if not adapter.gated or path == CARD_FILE or namespace is None:
        return
    if not is_allowed(session, actor, namespace, Action.READ) and not _is_let_in(session, actor, adapter):
        raise gated(adapter.full_name, namespace.name)


def gated(adapter: str, namespace: str) -> Gated:
    return Gated(
        f"{adapter} is gated: its files are for members of {namespace} and whom they let in. "
        f"Ask for access: POST /api/models/{adapter}/ask-access"
    )


def _is_let_in(session: Session, actor: Actor, adapter: AdapterRow) -> bool:
    found = session.get(AccessRequestRow, (adapter.id, actor.user_id)) if actor.user_id is not None else None
    return opens_gate(actor, adapter.full_name.partition("/")[0], found.status if found is not None else None)


def opens_gate(actor: Actor, namespace: str, status: str | None) -> bool:
    """Whether the actor was granted access, and its token reaches the namespace.  status: of its access request."""
    return status == "accepted" and actor.has_scope("read") and actor.reaches(namespace)


def require(session: Session, actor: Actor, name: str, action: Action) -> NamespaceRow:
    """Return the namespace if the actor may do this in it.

    Raises NamespaceNotFound if it is missing or unreadable, Unauthenticated for anonymous callers, and Forbidden, which
    says what is missing, for all others.
    """
    row = session.scalar(select(NamespaceRow).where(NamespaceRow.name == parse_namespace(name)))
    if row is None or not may_read(session, actor, row):
        if actor.is_anonymous and action is not Action.READ:
            raise _not_logged_in()
        raise NamespaceNotFound(
            f"There is no namespace {name!r}, or you may not read it. Ask an admin: lorahub namespace create {name}"
        )
    require_in(session, actor, row, action)
    return row


def require_in(session: Session, actor: Actor, namespace: NamespaceRow, action: Action) -> None:
    """Raise Unauthenticated or Forbidden unless the actor may do this in a namespace that it may read."""
    if action is Action.READ and may_read(session, actor, namespace):
        return
    if not is_allowed(session, actor, namespace, action):
        raise refusal(actor, namespace.name, action)


def require_site(actor: Actor) -> None:
    """Raise unless the actor is an admin of the server, with a token that says so and isn't limited."""
    if actor.is_anonymous:
        raise _not_logged_in()
    if not (actor.admin and actor.has_scope("admin") and actor.namespace is None):
        raise Forbidden("Only an admin of the server may do this, with a token of scope admin.")


def refusal(actor: Actor, namespace: str, action: Action) -> Unauthenticated | Forbidden:
    """Return the error that tells the actor what it lacks."""
    if actor.is_anonymous:
        return _not_logged_in()
    if not actor.reaches(namespace):
        return Forbidden(f"This token may only act in the namespace {actor.namespace!r}, not in {namespace!r}.")
    if not actor.has_scope(action.scope):
        return Forbidden(f"This token's scope is too narrow: it takes {action.scope!r}. Make one: lorahub token create")
    return Forbidden(f"This takes the role {action.role} in the namespace {namespace!r}. Ask one of its owners.")


def _not_logged_in() -> Unauthenticated:
    return Unauthenticated("This takes a token. Log in: lorahub login")


def readable_ids(session: Session, actor: Actor) -> frozenset[int] | None:
    """Return the ids of the namespaces whose private things the actor may read; None means all of them."""
    if actor.is_anonymous or not actor.has_scope("read"):
        return frozenset()
    if actor.admin and actor.namespace is None:
        return None
    if actor.admin:
        query = select(NamespaceRow.id)
    else:
        query = select(NamespaceRow.id).join(MemberRow).where(MemberRow.user_id == actor.user_id)
    if actor.namespace is not None:
        query = query.where(NamespaceRow.name == actor.namespace)
    return frozenset(session.scalars(query))
