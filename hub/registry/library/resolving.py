"""Resolving a ref.  Every pull and load starts here, so it is one small query when nothing has changed.

Every mutation of an adapter, or of its related rows, increments the adapter's `revision` in the same transaction.  The
query reads that number and the caller's rights; a version cached at the same revision is answered from memory.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import CompoundSelect, Integer, Row, bindparam, literal, null, select, text, union_all
from sqlalchemy.orm import aliased

from hub.refs import LATEST, AdapterName, AdapterRef
from hub.registry.context import Context
from hub.registry.db.models import AliasRow, BaseRow, LineageRow, ManifestRow, MetricRow, UserRow, VersionRow
from hub.registry.library import version_values, versions
from hub.registry.library.lookup import no_adapter
from hub.registry.rights.access import Action, Actor, allows
from hub.registry.rights.permissions import gated, opens_gate, to_role
from hub.registry.values import Lineage, Metric, Version

_STATE = text(
    """
    SELECT adapters.id, adapters.revision, adapters.latest_number, adapters.gated,
           adapters.private OR namespaces.private AS private, members.role, access_requests.status AS access
    FROM adapters
    JOIN namespaces ON namespaces.id = adapters.namespace_id
    LEFT JOIN members ON members.namespace_id = namespaces.id AND members.user_id = :user
    LEFT JOIN access_requests ON access_requests.adapter_id = adapters.id AND access_requests.user_id = :user
    WHERE namespaces.name = :namespace AND adapters.name = :name AND adapters.deleted_at IS NULL
    """
)

# The statements that read an uncached version, built once: building them takes longer than running them.
_creator, _yanker = aliased(UserRow), aliased(UserRow)
_FOUND = (
    select(
        *VersionRow.__table__.columns,
        BaseRow.name.label("base"),
        _creator.name.label("creator"),
        _yanker.name.label("yanker"),
        ManifestRow.body,
    )
    .select_from(VersionRow)
    .join(ManifestRow, ManifestRow.version_id == VersionRow.id)
    .outerjoin(BaseRow, VersionRow.base_id == BaseRow.id)
    .outerjoin(_creator, VersionRow.created_by == _creator.id)
    .outerjoin(_yanker, VersionRow.yanked_by == _yanker.id)
    .where(VersionRow.adapter_id == bindparam("adapter"), VersionRow.deleted_at.is_(None))
)
_BY_NUMBER = _FOUND.where(VersionRow.number == bindparam("wanted"))
_BY_DIGEST = _FOUND.where(VersionRow.digest == bindparam("wanted")).order_by(VersionRow.number.desc())
_BY_ALIAS = _FOUND.join(AliasRow, AliasRow.version_id == VersionRow.id).where(
    AliasRow.adapter_id == bindparam("adapter"), AliasRow.name == bindparam("wanted")
)
_parent = aliased(VersionRow)
# A version's related rows, in one statement.  Metrics come first: their columns type the NULLs of the others.
_HANGING: CompoundSelect[Any] = union_all(
    select(
        literal("metric").label("what"),
        MetricRow.name,
        MetricRow.dataset,
        MetricRow.value,
        UserRow.name.label("user"),
        MetricRow.at,
        null().cast(Integer).label("parent"),
    )
    .outerjoin(UserRow, MetricRow.user_id == UserRow.id)
    .where(MetricRow.version_id == bindparam("version")),
    select(literal("alias"), AliasRow.name, null(), null(), null(), null(), null()).where(
        AliasRow.version_id == bindparam("version")
    ),
    select(literal("lineage"), LineageRow.kind, LineageRow.ref, null(), null(), null(), _parent.number)
    .outerjoin(_parent, LineageRow.parent_id == _parent.id)
    .where(LineageRow.version_id == bindparam("version")),
)

_Key = tuple[int, str]
_Rows = Sequence[Row[*tuple[Any, ...]]]


T = TypeVar("T")


class RevisionCache(Generic[T]):
    """The versions resolved most recently.  They are immutable, so threads may share them.

    An entry, keyed by adapter and selector, is valid for one revision of the adapter; a newer one replaces it.
    """

    def __init__(self, most: int = 2_000) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, tuple[int, T]] = OrderedDict()

    def get(self, key: _Key, revision: int) -> T | None:
        with self._lock:
            known, found = self._kept.get(key, (None, None))
            if known != revision:
                return None
            self._kept.move_to_end(key)
            return found

    def put(self, key: _Key, revision: int, value: T) -> None:
        with self._lock:
            self._kept[key] = (revision, value)
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


VersionCache = RevisionCache[Version]


@dataclass(frozen=True, slots=True)
class State:
    """An adapter that the caller may read, and its current revision."""

    id: int
    revision: int
    latest: int | None


def resolve(context: Context, cache: VersionCache, actor: Actor, ref: AdapterRef, *, for_card: bool = False) -> Version:
    """Return the version that a ref names, with its manifest.

    Raises AdapterNotFound, VersionNotFound, AliasNotFound; Gated if the caller may only see the card, because the
    manifest holds the configuration.  `latest` is the newest that isn't yanked.
    for_card: the caller will show only the card, so no Gated.
    """
    state = readable_state(context, actor, ref.adapter, past_gate=for_card)
    key = (state.id, ref.selector)
    found = cache.get(key, state.revision)
    if found is None:
        # Safe to cache: what is read now is at least as new as the revision in its key, and revisions never repeat.
        # Nothing found: the slow path raises an error that says what is missing, and what exists instead.
        found = _read(context, state, ref) or versions.resolve(context, actor, ref)
        cache.put(key, state.revision, found)
    return found


def readable_state(context: Context, actor: Actor, name: AdapterName, *, past_gate: bool) -> State:
    """Return the adapter's id and revision.  Raises AdapterNotFound if it is missing or unreadable; Gated."""
    asked = {"namespace": name.namespace, "name": name.name, "user": actor.user_id}
    row = context.database.fetch_one(_STATE, asked)
    if row is None:
        raise no_adapter(name)
    role = None if row.role is None else to_role(row.role)
    is_inside = allows(actor, role, name.namespace, Action.READ)
    if row.private and not is_inside:
        raise no_adapter(name)
    if row.gated and not past_gate and not is_inside and not opens_gate(actor, name.namespace, row.access):
        raise gated(str(name), name.namespace)
    return State(row.id, row.revision, row.latest_number)


def _read(context: Context, state: State, ref: AdapterRef) -> Version | None:
    """Return the version from the database, or None if the ref names none."""
    wanted: int | str | None = ref.version or ref.digest or (state.latest if ref.alias == LATEST else ref.alias)
    statement = _BY_NUMBER if isinstance(wanted, int) else _BY_DIGEST if ref.digest else _BY_ALIAS
    if wanted is None:
        return None
    with context.database.single() as connection:
        row = connection.execute(statement, {"adapter": state.id, "wanted": wanted}).first()
        if row is None:
            return None
        hanging = connection.execute(_HANGING, {"version": row.id}).all()
    around = version_values.Around(
        created_by=row.creator,
        yanked_by=row.yanker,
        base=row.base,
        aliases=_aliases_among(hanging),
        lineage=_lineage_among(hanging),
        metrics=_metrics_among(hanging),
        manifest_json=zlib.decompress(row.body),
    )
    return version_values.to_version(row, ref.adapter, around)


def _aliases_among(hanging: _Rows) -> list[str]:
    return sorted(row.name for row in hanging if row.what == "alias")


def _lineage_among(hanging: _Rows) -> list[Lineage]:
    parents = sorted((row.name, row.dataset, row.parent) for row in hanging if row.what == "lineage")
    return [version_values.to_lineage(kind, ref, number) for kind, ref, number in parents]


def _metrics_among(hanging: _Rows) -> list[Metric]:
    found = sorted((row for row in hanging if row.what == "metric"), key=lambda row: (row.name, row.dataset))
    return [Metric(row.name, row.value, row.dataset, row.user, row.at) for row in found]
