"""A locked adapter, with the actor and the transaction that change it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from hub.registry.context import Context
from hub.registry.db.models import AdapterRow, NamespaceRow
from hub.registry.rights.access import Actor


@dataclass(frozen=True, slots=True)
class Locked:
    """Until the transaction ends, nobody else changes the adapter."""

    context: Context
    session: Session
    actor: Actor
    namespace: NamespaceRow
    row: AdapterRow
