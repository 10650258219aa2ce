"""The order in which rows are locked, so that no two writers wait for each other:

    adapter, namespace, base, terms of the catalog's index (by field and value)

Only an admin's change of a base begins with the base; where it meets a push, PostgreSQL ends one of the two, and it is
tried again (`Database.transact`).
What is read before its row is locked may be old by the time that the lock is held, so both functions read it again.
On SQLite, which has one writer at a time, they only read.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from hub.registry.db.models import BaseRow, NamespaceRow


def lock_namespace(session: Session, namespace_id: int) -> NamespaceRow:
    """Hold a namespace against all who change it or count on what it says; adding rows to it goes on."""
    return session.get_one(NamespaceRow, namespace_id, with_for_update={"key_share": True}, populate_existing=True)


def hold_base(session: Session, base_id: int) -> BaseRow:
    """Keep a base's name as it is until the end of the transaction; many may do so at once."""
    return session.get_one(BaseRow, base_id, with_for_update={"read": True, "key_share": True}, populate_existing=True)
