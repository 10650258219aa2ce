"""Find rows for an actor; a row that it may not read is "not found"."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.errors import AdapterNotFound, Conflict, NamespaceNotFound, VersionNotFound
from hub.refs import AdapterName
from hub.registry.accounts import namespaces
from hub.registry.context import Context
from hub.registry.db.models import AdapterRow, NamespaceRow, UserRow, VersionRow
from hub.registry.rights import permissions
from hub.registry.rights.access import Action, Actor


def find_adapter(
    session: Session, actor: Actor, name: AdapterName, action: Action = Action.READ, *, lock: bool = False
) -> tuple[AdapterRow, NamespaceRow]:
    """Return an adapter with its namespace, with `lock` locked against other writers.

    Raises AdapterNotFound if it doesn't exist or the actor may not read it; Unauthenticated or Forbidden if the actor
    may read it but not do this.
    """
    query = select(AdapterRow, NamespaceRow).join(NamespaceRow)
    query = query.where(
        NamespaceRow.name == name.namespace, AdapterRow.name == name.name, AdapterRow.deleted_at.is_(None)
    )
    if lock:
        query = query.with_for_update(of=AdapterRow).execution_options(populate_existing=True)
    found = session.execute(query).first()
    if found is None:
        raise no_adapter(name)
    row, namespace = found
    if not permissions.may_read(session, actor, namespace, row.private):
        raise no_adapter(name)
    if action is not Action.READ:
        permissions.require_in(session, actor, namespace, action)
    return row, namespace


def find_version(session: Session, row: AdapterRow, name: AdapterName, number: int) -> VersionRow:
    """Return a version that isn't deleted.  Raises VersionNotFound, which names the newest one."""
    version = session.scalar(select(VersionRow).where(VersionRow.adapter_id == row.id, VersionRow.number == number))
    if version is None or version.deleted_at is not None:
        raise no_version(row, name, f"v{number}")
    return version


def find_namespace_to_publish(
    context: Context, session: Session, actor: Actor, name: AdapterName
) -> tuple[NamespaceRow, bool]:
    """Return the namespace that the actor may publish to, and whether this call created it.

    A server admin's first push creates the namespace.
    """
    try:
        return permissions.require(session, actor, name.namespace, Action.PUBLISH), False
    except NamespaceNotFound:
        if not _may_make(actor, name.namespace):
            raise
    try:
        return namespaces.add(context, session, name.namespace, "shared", actor.user_id), True
    except Conflict:  # a concurrent first push has created it
        return permissions.require(session, actor, name.namespace, Action.PUBLISH), False


def check_may_publish(session: Session, actor: Actor, name: AdapterName) -> None:
    """Raise unless the actor may publish `name`, or is an admin whose first push would create the namespace."""
    exists = session.scalar(select(NamespaceRow.id).where(NamespaceRow.name == name.namespace)) is not None
    if exists or not _may_make(actor, name.namespace):
        permissions.require(session, actor, name.namespace, Action.PUBLISH)


def _may_make(actor: Actor, namespace: str) -> bool:
    return actor.admin and actor.has_scope("publish") and actor.reaches(namespace)


def user_name(session: Session, user_id: int | None) -> str | None:
    return None if user_id is None else session.scalar(select(UserRow.name).where(UserRow.id == user_id))


def no_adapter(name: AdapterName) -> AdapterNotFound:
    return AdapterNotFound(f"There is no adapter {name}, or you may not read it. Look for it: lorahub search")


def no_version(row: AdapterRow, name: AdapterName, selector: str) -> VersionNotFound:
    if row.latest_number is None:
        return VersionNotFound(f"{name} has no version {selector}: nothing can be chosen from it yet.")
    return VersionNotFound(
        f"{name} has no version {selector}; the latest is v{row.latest_number}. See them all: lorahub show {name}"
    )
