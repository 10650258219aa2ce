"""Search: intersect sets of adapters from the index, then read one page of rows in the requested order.

visible ∩ (task₁ ∪ task₂) ∩ base ∩ tag₁ ∩ tag₂ ∩ text ∩ metric …    bitmaps.py, facets.py
  ├─ total and facet counts: how many bits                          exact, whatever the size of the catalog
  └─ one page: few matches are sorted; for many, walk the order's index and test each row against the set
"""

from __future__ import annotations

import base64
import binascii
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from sqlalchemy import Select, bindparam, func, select, text, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from hub.adapter.facets import COUNTED, FACETS
from hub.errors import InvalidRequest
from hub.registry.context import Context
from hub.registry.db.models import AdapterRow, BaseAliasRow, BaseRow, BlobRow, MetricRow, NamespaceRow, VersionRow
from hub.registry.library import adapters
from hub.registry.rights import permissions
from hub.registry.rights.access import Actor
from hub.registry.search import bitmaps, facets, text_index
from hub.registry.values import FacetValue, MetricFilter, Page, Query

MAX_LIMIT = 100
# Below this many matches, sorting them is cheaper than walking the order's index until it has yielded a page.
_FEW = 4_000
_WALK_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Order:
    """A sort order: by a column, then by id, both ascending or both descending."""

    column: InstrumentedAttribute[Any]
    descending: bool


ORDERS: dict[str, Order] = {
    "recent": Order(AdapterRow.recent_id, True),
    "new": Order(AdapterRow.id, True),
    "downloads": Order(AdapterRow.downloads, True),
    "name": Order(AdapterRow.full_name, False),
}
_BASE, _RANK = (next(facet for facet in FACETS if facet.name == name) for name in ("base", "rank"))


def search(context: Context, actor: Actor, query: Query) -> Page:
    """Find adapters.  Each word of the text matches as a prefix; any text is valid.  Raises InvalidRequest."""
    order = ORDERS.get(query.sort)
    if order is None:
        raise InvalidRequest(f"{query.sort!r} is no order; choose one of {', '.join(ORDERS)}.")
    limit = max(1, min(query.limit, MAX_LIMIT))
    with context.database.read() as session:
        visible = _visible(session, actor)
        wanted = _filters(session, query)
        matches = reduce(operator.and_, wanted.values(), visible)
        rows = _page(session, matches, order, _read_cursor(query), limit + 1)
        counted = _count_facets(session, visible, wanted) if query.with_facets else {}
        items = adapters.describe_many(session, actor, rows[:limit])
    following = _write_cursor(query, order, rows[limit - 1]) if len(rows) > limit else None
    return Page(tuple(items), following, matches.bit_count(), counted)


def statistics(context: Context) -> dict[str, Any]:
    """Return counts for /metrics and the front page: adapters, versions, blobs, bytes, downloads."""
    with context.database.read() as session:
        shown = select(func.count(), func.coalesce(func.sum(AdapterRow.downloads), 0))
        adapter_count, downloads = session.execute(
            shown.where(AdapterRow.recent_id > 0, AdapterRow.deleted_at.is_(None))
        ).one()
        versions = session.scalar(select(func.count()).select_from(VersionRow).where(VersionRow.deleted_at.is_(None)))
        blobs, size = session.execute(select(func.count(), func.coalesce(func.sum(BlobRow.size), 0))).one()
        spaces = session.scalar(select(func.count()).select_from(NamespaceRow))
    return {
        "adapters": adapter_count,
        "versions": versions or 0,
        "blobs": blobs,
        "bytes": int(size),
        "downloads": int(downloads),
        "namespaces": spaces or 0,
    }


# Sets ------------------------------------------------------------------------------------------------------------


def _visible(session: Session, actor: Actor) -> int:
    """Return the adapters that the actor may read: the public ones, and all in its own namespaces."""
    readable = permissions.readable_ids(session, actor)
    if readable is None:
        found = facets.load(session, [("visibility", "public"), ("visibility", "private")])
        return _union(found.values())
    names = session.scalars(select(NamespaceRow.name).where(NamespaceRow.id.in_(readable))) if readable else ()
    terms = [("visibility", "public"), *(("namespace", name) for name in names)]
    return _union(facets.load(session, terms).values())


def _filters(session: Session, query: Query) -> dict[str, int]:
    """Return one set per field that the query filters by."""
    asked = {facet: tuple(map(facet.term, query.having.get(facet.name, ()))) for facet in FACETS}
    asked[_BASE] = tuple(_base_names(session, asked[_BASE]))
    asked[_RANK] = tuple(_ranks(session, query, asked[_RANK]))
    sets = facets.load(session, [(facet.name, value) for facet, values in asked.items() for value in values])
    filters: dict[str, int] = {}
    for facet, values in asked.items():
        if values or (facet is _RANK and _narrows_rank(query)):
            found = [sets.get((facet.name, value), 0) for value in values]
            filters[facet.name] = reduce(operator.and_, found) if facet.all_of else _union(found)
    matching = text_index.find(session, query.text)
    if matching is not None:
        filters["text"] = bitmaps.from_ids(matching)
    if query.size_max is not None:
        within = select(AdapterRow.id).where(AdapterRow.size_bytes <= query.size_max)
        filters["size"] = bitmaps.from_ids(session.scalars(within))
    for place, wanted in enumerate(query.metrics):
        filters[f"metric {place}"] = bitmaps.from_ids(session.scalars(_with_metric(wanted)))
    return filters


def _narrows_rank(query: Query) -> bool:
    return bool(query.having.get("rank")) or query.rank_max is not None or query.rank_min is not None


def _ranks(session: Session, query: Query, asked: Sequence[str]) -> Iterable[str]:
    """Return the existing ranks within the range.  Few distinct ranks exist, so a range becomes a list of values."""
    if query.rank_max is None and query.rank_min is None:
        return asked
    low, high = query.rank_min or 0, query.rank_max if query.rank_max is not None else 1 << 30
    known = (int(value) for value in facets.values_of(session, "rank"))
    return [str(rank) for rank in known if low <= rank <= high and (not asked or str(rank) in asked)]


def _base_names(session: Session, given: Sequence[str]) -> Iterable[str]:
    """Return the canonical names of bases, which may be given as aliases."""
    if not given:
        return ()
    query = select(BaseAliasRow.alias, BaseRow.name).join(BaseRow).where(BaseAliasRow.alias.in_(given))
    canonical = dict(session.execute(query).all())
    return [canonical.get(name, name) for name in given]


def _with_metric(wanted: MetricFilter) -> Select[int]:
    compare = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq}
    if wanted.operator not in compare:
        raise InvalidRequest(f"{wanted.operator!r} compares nothing; write one of {' '.join(compare)}.")
    return (
        select(AdapterRow.id)
        .join(VersionRow, VersionRow.adapter_id == AdapterRow.id)
        .join(MetricRow, MetricRow.version_id == VersionRow.id)
        .where(
            VersionRow.number == AdapterRow.latest_number,
            MetricRow.name == wanted.name,
            compare[wanted.operator](MetricRow.value, wanted.value),
        )
    )


def _count_facets(session: Session, visible: int, filters: Mapping[str, int]) -> dict[str, tuple[FacetValue, ...]]:
    """Count each field's commonest values among the matches of all the *other* filters."""
    counted: dict[str, list[FacetValue]] = {facet.name: [] for facet in COUNTED}
    others = {
        facet.name: reduce(operator.and_, (found for name, found in filters.items() if name != facet.name), visible)
        for facet in COUNTED
        if not facet.all_of
    }
    everything = reduce(operator.and_, filters.values(), visible)
    for (field, value), members in facets.load_common(session).items():
        count = (members & others.get(field, everything)).bit_count()
        if count:
            counted[field].append(FacetValue(value, count))
    return {
        field: tuple(sorted(values, key=lambda item: (-item.count, item.value))) for field, values in counted.items()
    }


def _union(sets: Iterable[int]) -> int:
    return reduce(operator.or_, sets, 0)


# One page --------------------------------------------------------------------------------------------------------


def _page(
    session: Session, matches: int, order: Order, after: tuple[Any, int] | None, count: int
) -> Sequence[AdapterRow]:
    if not matches:
        return ()
    if matches.bit_count() > _FEW:
        walked = _walk(session, matches, order, after, count)
        if walked is not None:
            return walked
    return session.scalars(_ordered(_among(session, matches), order, after).limit(count)).all()


def _walk(
    session: Session, matches: int, order: Order, after: tuple[Any, int] | None, count: int
) -> Sequence[AdapterRow] | None:
    """Walk the order's index until it yields a page of matches; None if that takes too many rows."""
    bits = bitmaps.to_bytes(matches)
    found: list[int] = []
    walked, batch = 0, 4 * count
    while len(found) < count and walked < _WALK_ROWS:
        query = _ordered(select(AdapterRow.id, order.column).where(AdapterRow.recent_id > 0), order, after)
        rows = session.execute(query.limit(batch)).all()
        found.extend(row[0] for row in rows if bitmaps.has(bits, row[0]))
        if len(rows) < batch:
            break
        after = (rows[-1][1], rows[-1][0])
        walked, batch = walked + len(rows), min(2 * batch, 2_000)
    else:
        if len(found) < count:
            return None
    chosen = select(AdapterRow).where(AdapterRow.id.in_(found[:count]))
    return session.scalars(_ordered(chosen, order, None)).all()


def _ordered(query: Select[Any], order: Order, after: tuple[Any, int] | None) -> Select[Any]:
    """Sort, and start after the last row of the previous page."""
    keys = (order.column, AdapterRow.id)
    if after is not None:
        before = tuple_(*keys) < after if order.descending else tuple_(*keys) > after
        query = query.where(before)
    return query.order_by(*(key.desc() if order.descending else key.asc() for key in keys))


def _among(session: Session, matches: int) -> Select[AdapterRow]:
    """Select the adapters of a set.  The ids are sent as one value: databases limit the number of parameters."""
    ids = bitmaps.to_ids(matches)
    if session.get_bind().dialect.name == "sqlite":
        chosen = text("adapters.id IN (SELECT value FROM json_each(:ids))").bindparams(
            bindparam("ids", json.dumps(ids))
        )
    else:
        chosen = text("adapters.id = ANY(:ids)").bindparams(bindparam("ids", ids))
    return select(AdapterRow).where(chosen)


def _write_cursor(query: Query, order: Order, row: AdapterRow) -> str:
    payload = json.dumps([query.sort, getattr(row, order.column.key), row.id])
    return base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=")


def _read_cursor(query: Query) -> tuple[Any, int] | None:
    if query.cursor is None:
        return None
    try:
        padded = query.cursor + "=" * (-len(query.cursor) % 4)
        sort, key, adapter_id = json.loads(base64.urlsafe_b64decode(padded.encode()))
        good = sort == query.sort and isinstance(adapter_id, int)
        good = good and isinstance(key, str if sort == "name" else int)
    except (ValueError, TypeError, binascii.Error):
        good = False
    if not good or abs(adapter_id) >= 1 << 62 or (isinstance(key, int) and abs(key) >= 1 << 62):
        raise InvalidRequest("The cursor is none that this search gave out. Start again without one.")
    return key, adapter_id
