"""Resolving a ref: what every pull and load begins with, so it is one small query when nothing changed.

Every mutation of an adapter, or of what hangs on it, raises the adapter's `revision` in its own transaction.  The query
asks for that number and for the caller's rights; a version seen before at the same revision is answered from memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from sqlalchemy import text

from hub.refs import AdapterName, AdapterRef
from hub.registry import versions
from hub.registry.access import Action, Actor, allows
from hub.registry.context import Context
from hub.registry.lookup import no_adapter
from hub.registry.permissions import to_role
from hub.registry.values import Version

_STATE = text(
    """
    SELECT adapters.id, adapters.revision, adapters.private OR namespaces.private AS private, members.role
    FROM adapters
    JOIN namespaces ON namespaces.id = adapters.namespace_id
    LEFT JOIN members ON members.namespace_id = namespaces.id AND members.user_id = :user
    WHERE namespaces.name = :namespace AND adapters.name = :name AND adapters.deleted_at IS NULL
    """
)

_Key = tuple[int, int, str]


class VersionCache:
    """The versions that were asked for last.  They are immutable values, so any number of threads may have one."""

    def __init__(self, most: int = 4_000) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, Version] = OrderedDict()

    def get(self, key: _Key) -> Version | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: _Key, version: Version) -> None:
        with self._lock:
            self._kept[key] = version
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _State:
    id: int
    revision: int


def resolve(context: Context, cache: VersionCache, actor: Actor, ref: AdapterRef) -> Version:
    state = _readable_state(context, actor, ref.adapter)
    key = (state.id, state.revision, ref.selector)
    found = cache.get(key)
    if found is None:
        # What is read now is at least as new as the revision that it is kept under, and that number never comes back.
        found = versions.resolve(context, actor, ref)
        cache.put(key, found)
    return found


def _readable_state(context: Context, actor: Actor, name: AdapterName) -> _State:
    """Return the adapter's id and revision.  Raises AdapterNotFound when it isn't there or may not be read."""
    asked = {"namespace": name.namespace, "name": name.name, "user": actor.user_id}
    row = context.database.fetch_one(_STATE, asked)
    if row is None:
        raise no_adapter(name)
    role = None if row.role is None else to_role(row.role)
    if row.private and not allows(actor, role, name.namespace, Action.READ):
        raise no_adapter(name)
    return _State(row.id, row.revision)
