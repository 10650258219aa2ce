"""Who claims which fingerprint of a base, and which claims are trusted.

Any publisher may claim anything about any base.  So a claim holds for the publisher's own adapters; for everybody else
it takes an operator, or agreement among publishers.  If independent publishers contradict each other and no mark
leads, the base is disputed, and its fingerprints judge nothing.

A voice is a namespace that has an existing adapter with the claim.  Two marks contradict each other if they are of the
same kind and of weights stored alike: a base has one fingerprint as bfloat16 and another as NF4.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, distinct, func, select
from sqlalchemy.orm import Session

from hub.registry.db.models import AdapterRow, BaseClaimRow, BaseFingerprintRow, NamespaceRow
from hub.registry.rights import permissions
from hub.registry.rights.access import Actor
from hub.registry.values import Fingerprint

Mark = tuple[str, str]
"""(kind, value)."""

ENOUGH = 2
"""Publishers who must agree before others' adapters are bound by a mark."""


@dataclass(frozen=True, slots=True)
class Marks:
    """shapes, weights: the trusted marks.  said: all marks that the actor may see, with publisher counts."""

    shapes: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    said: tuple[Fingerprint, ...] = ()


def visible(session: Session, actor: Actor, base_ids: Sequence[int]) -> dict[int, Marks]:
    """Return each base's marks, from the adapters that the actor may read and an operator's pins."""
    query = _living(
        select(BaseClaimRow.base_id, BaseClaimRow.kind, BaseClaimRow.value, AdapterRow.namespace_id)
        .where(BaseClaimRow.base_id.in_(base_ids))
        .distinct()
    )
    readable = permissions.readable_ids(session, actor)
    if readable is not None:
        query = query.where(_is_public() | NamespaceRow.id.in_(readable))
    said: dict[int, dict[Mark, set[int]]] = defaultdict(lambda: defaultdict(set))
    for base_id, kind, value, namespace_id in session.execute(query):
        said[base_id][kind, value].add(namespace_id)
    pinned = select(BaseFingerprintRow.base_id, BaseFingerprintRow.kind, BaseFingerprintRow.value)
    pins: dict[int, set[Mark]] = defaultdict(set)
    where = (BaseFingerprintRow.pinned.is_(True), BaseFingerprintRow.base_id.in_(base_ids))
    for base_id, kind, value in session.execute(pinned.where(*where)):
        pins[base_id].add((kind, value))
    return {base_id: weigh(said[base_id], pins[base_id]) for base_id in base_ids}


def weigh(voices: Mapping[Mark, Set[int]], pinned: Set[Mark] = frozenset()) -> Marks:
    """Return which marks are trusted.  voices: the ids of the namespaces that claim each."""
    rivals: dict[tuple[str, str, str], list[Mark]] = defaultdict(list)
    for kind, value in sorted({*voices, *pinned}):
        rivals[kind, *_stored_as(value)].append((kind, value))
    believed: set[Mark] = set()
    for group in rivals.values():
        believed |= _believed(group, voices, pinned)
    every = sorted(mark for group in rivals.values() for mark in group)
    return Marks(
        shapes=tuple(value for kind, value in every if kind == "shapes" and (kind, value) in believed),
        weights=tuple(value for kind, value in every if kind == "weights" and (kind, value) in believed),
        said=tuple(
            Fingerprint(
                kind, value, len(voices.get((kind, value), ())), (kind, value) in pinned, (kind, value) in believed
            )
            for kind, value in every
        ),
    )


def _believed(rivals: Sequence[Mark], voices: Mapping[Mark, Set[int]], pinned: Set[Mark]) -> set[Mark]:
    """Return the pinned marks; else the only publisher's; else the one mark with the most publishers."""
    pins = {mark for mark in rivals if mark in pinned}
    if pins:
        return pins
    publishers = {who for mark in rivals for who in voices.get(mark, ())}
    if len(publishers) == 1:
        return set(rivals)
    most = max(len(voices.get(mark, ())) for mark in rivals)
    leading = {mark for mark in rivals if len(voices.get(mark, ())) == most}
    return leading if len(leading) == 1 else set()


def _stored_as(value: str) -> tuple[str, str]:
    """Return what makes marks comparable: the fingerprint's scheme and the storage of the weights."""
    return value.partition("-")[2], value.partition("-")[0].rpartition(":")[0]


def base_of(session: Session, kind: str, value: str, namespace_id: int) -> int | None:
    """Return a mark's base for a namespace's adapters: by operator's pin, own claim, or enough others' claims."""
    pinned = select(BaseFingerprintRow.base_id).where(
        BaseFingerprintRow.kind == kind, BaseFingerprintRow.value == value, BaseFingerprintRow.pinned.is_(True)
    )
    found = session.scalar(pinned.order_by(BaseFingerprintRow.base_id).limit(1))
    if found is not None:
        return found
    same = (BaseClaimRow.kind == kind, BaseClaimRow.value == value)
    own = _living(select(BaseClaimRow.base_id)).where(*same, AdapterRow.namespace_id == namespace_id)
    by_itself: int | None = session.scalar(own.order_by(BaseClaimRow.base_id).limit(1))
    if by_itself is not None:
        return by_itself
    voices = func.count(distinct(AdapterRow.namespace_id))
    agreed = _living(select(BaseClaimRow.base_id)).where(*same, _is_public()).group_by(BaseClaimRow.base_id)
    by_others: int | None = session.scalar(
        agreed.having(voices >= ENOUGH).order_by(voices.desc(), BaseClaimRow.base_id).limit(1)
    )
    return by_others


def _living(query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    joined = query.join(AdapterRow, BaseClaimRow.adapter_id == AdapterRow.id)
    joined = joined.join(NamespaceRow, AdapterRow.namespace_id == NamespaceRow.id)
    return joined.where(AdapterRow.deleted_at.is_(None))


def _is_public() -> ColumnElement[bool]:
    return AdapterRow.private.is_(False) & NamespaceRow.private.is_(False)
