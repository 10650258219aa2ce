"""The catalog's index: for every value of every field, the set of adapters that have it.

A mutation wraps its changes in `with facets.reindexed(…)`, which writes the difference between the adapter's terms
before and after in the same transaction.  `lorahub fsck` compares the index with the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import groupby

from sqlalchemy import Select, delete, select, text, tuple_, union_all
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.adapter.facets import COUNTED, KEPT
from hub.registry.db.models import AdapterRow, BaseRow, NamespaceRow, TermChunkRow, TermRow
from hub.registry.db.row_locks import hold_base, lock_namespace
from hub.registry.search import bitmaps, text_index

Term = tuple[str, str]
VALUES_PER_FACET = 50
_PAGE = 1_000


@contextmanager
def reindexed(session: Session, row: AdapterRow) -> Iterator[None]:
    """Update the catalog's index for what the block changes of `row`, which is locked.

    Locks its namespace and base as well: if either became private, or was renamed, meanwhile, the index would keep
    the old term.
    """
    lock_namespace(session, row.namespace_id)
    before = terms_of(session, row)
    yield
    session.flush()
    if row.base_id is not None:
        hold_base(session, row.base_id)
    after = terms_of(session, row)
    _apply(session, row.id, removed=before - after, added=after - before)
    if after:
        text_index.put(session, row.id, text_of(session, row))
    elif before:
        text_index.remove(session, row.id)


def terms_of(session: Session, row: AdapterRow) -> set[Term]:
    """Return all index terms of an adapter; none for one that the catalog doesn't show."""
    if row.deleted_at is not None or not row.recent_id:
        return set()
    namespace = session.get_one(NamespaceRow, row.namespace_id)
    terms = {("visibility", "private" if row.private or namespace.private else "public"), ("namespace", namespace.name)}
    if row.base_id:
        terms.add(("base", session.get_one(BaseRow, row.base_id).name))
    return terms | {(facet.name, term) for facet in KEPT for term in facet.terms(getattr(row, facet.column))}


def text_of(session: Session, row: AdapterRow) -> str:
    base = session.get_one(BaseRow, row.base_id).name if row.base_id else ""
    return " ".join([row.full_name, row.task or "", base, row.license or "", *row.tags, row.description])


def refresh_namespace(session: Session, namespace_id: int) -> None:
    """Bring `visibility` up to date for all adapters of a namespace, which is locked, that became private or public."""
    shown = select(AdapterRow).where(
        AdapterRow.namespace_id == namespace_id, AdapterRow.recent_id > 0, AdapterRow.deleted_at.is_(None)
    )
    namespace = session.get_one(NamespaceRow, namespace_id)
    for row in session.scalars(shown.order_by(AdapterRow.id)):
        state = "private" if row.private or namespace.private else "public"
        other = "public" if state == "private" else "private"
        _apply(session, row.id, removed={("visibility", other)}, added={("visibility", state)})


def load(session: Session, terms: Iterable[Term]) -> dict[Term, int]:
    """Return the sets of the given terms, without empty ones."""
    wanted = sorted(set(terms))
    if not wanted:
        return {}
    query = (
        select(TermRow.field, TermRow.value, TermChunkRow.chunk, TermChunkRow.bits)
        .join(TermChunkRow, TermChunkRow.term_id == TermRow.id)
        .where(tuple_(TermRow.field, TermRow.value).in_(wanted))
    )
    return _sets((field, value, chunk, bits) for field, value, chunk, bits in session.execute(query))


def load_common(session: Session) -> dict[Term, int]:
    """Return the sets of the commonest values of each field that is shown."""
    return _sets((field, value, chunk, bits) for field, value, chunk, bits in session.execute(_common_values()))


@cache
def _common_values() -> Select[str, str, int, bytes]:
    """Builds the statement once: it is long, and every search page runs it."""
    parts = [
        select(
            select(TermRow.id, TermRow.field, TermRow.value)
            .where(TermRow.field == field, TermRow.count > 0)
            .order_by(TermRow.count.desc(), TermRow.id)
            .limit(VALUES_PER_FACET)
            .subquery()
        )
        for field in (facet.name for facet in COUNTED)
    ]
    common = union_all(*parts).subquery()
    query = select(common.c.field, common.c.value, TermChunkRow.chunk, TermChunkRow.bits)
    return query.join(TermChunkRow, TermChunkRow.term_id == common.c.id)


def values_of(session: Session, field: str) -> list[str]:
    """Return every value that a field has somewhere."""
    return list(session.scalars(select(TermRow.value).where(TermRow.field == field, TermRow.count > 0)))


def _sets(rows: Iterable[tuple[str, str, int, bytes]]) -> dict[Term, int]:
    ordered = sorted(rows, key=lambda row: row[:3])
    return {
        term: bitmaps.from_chunks((chunk, bits) for _, _, chunk, bits in group)
        for term, group in groupby(ordered, key=lambda row: (row[0], row[1]))
    }


def _apply(session: Session, adapter_id: int, removed: set[Term], added: set[Term]) -> None:
    if not removed and not added:
        return
    _ensure_terms(session, added)
    changed = sorted(removed | added)
    query = select(TermRow).where(tuple_(TermRow.field, TermRow.value).in_(changed))
    # Always the same lock order.  populate_existing: the counts must be read under the lock.
    query = query.order_by(TermRow.field, TermRow.value).with_for_update().execution_options(populate_existing=True)
    chunk, bit = bitmaps.chunk_of(adapter_id), bitmaps.bit_of(adapter_id)
    rows = list(session.scalars(query))
    chunks = _chunk_rows(session, [row.id for row in rows], chunk)
    for row in rows:
        stored = chunks.get(row.id)
        bits = bitmaps.unpack(stored.bits) if stored is not None else 0
        new = bits | bit if (row.field, row.value) in added else bits & ~bit
        if new == bits:
            continue
        row.count += 1 if new > bits else -1
        if stored is None:
            session.add(TermChunkRow(term_id=row.id, chunk=chunk, bits=bitmaps.pack(new)))
        else:
            stored.bits = bitmaps.pack(new)
    session.flush()


def _ensure_terms(session: Session, terms: set[Term]) -> None:
    known = set(
        session.execute(
            select(TermRow.field, TermRow.value).where(tuple_(TermRow.field, TermRow.value).in_(sorted(terms)))
        )
    )
    missing = [{"field": field, "value": value, "count": 0} for field, value in sorted(terms - known)]
    if missing:
        insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
        session.execute(insert(TermRow).on_conflict_do_nothing(), missing)


def _chunk_rows(session: Session, term_ids: Sequence[int], chunk: int) -> dict[int, TermChunkRow]:
    query = select(TermChunkRow).where(TermChunkRow.term_id.in_(term_ids), TermChunkRow.chunk == chunk)
    query = query.execution_options(populate_existing=True)
    return {row.term_id: row for row in session.scalars(query)}


def rename_term(session: Session, row: AdapterRow, old: Term, new: Term) -> None:
    """Move one adapter from a term to its new name."""
    _apply(session, row.id, removed={old}, added={new})
    text_index.put(session, row.id, text_of(session, row))


def rebuild(session: Session) -> int:
    """Rebuild the index from the rows, and return the number of adapters in it.  Reads are not blocked."""
    if session.get_bind().dialect.name == "postgresql":
        # Publishers wait for this lock, so their changes apply to the new index.
        session.execute(text("LOCK TABLE terms IN EXCLUSIVE MODE"))
    session.execute(delete(TermChunkRow))
    session.execute(delete(TermRow))
    text_index.clear(session)
    members: dict[Term, list[int]] = {}
    count = last = 0
    shown = select(AdapterRow).where(AdapterRow.recent_id > 0, AdapterRow.deleted_at.is_(None))
    while page := session.scalars(shown.where(AdapterRow.id > last).order_by(AdapterRow.id).limit(_PAGE)).all():
        text_index.put_many(session, [(row.id, text_of(session, row)) for row in page])
        for row in page:
            for term in terms_of(session, row):
                members.setdefault(term, []).append(row.id)
        count, last = count + len(page), page[-1].id
        for row in page:
            session.expunge(row)
    for number, (term, ids) in enumerate(sorted(members.items()), start=1):
        session.add(TermRow(id=number, field=term[0], value=term[1], count=len(ids)))
        session.flush()
        for chunk, group in groupby(ids, key=bitmaps.chunk_of):
            bits = bitmaps.from_ids(adapter_id % bitmaps.CHUNK_BITS for adapter_id in group)
            session.add(TermChunkRow(term_id=number, chunk=chunk, bits=bitmaps.pack(bits)))
    session.flush()
    if members and session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT setval(pg_get_serial_sequence('terms', 'id'), :top)"), {"top": len(members)})
    return count
