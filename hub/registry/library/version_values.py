"""Versions as values: a row with its related rows: names, aliases, lineage, metrics, manifest."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session, aliased

from hub.refs import AdapterName
from hub.registry.db.models import (
    AdapterRow,
    AliasRow,
    BaseRow,
    LineageRow,
    ManifestRow,
    MetricRow,
    UserRow,
    VersionRow,
)
from hub.registry.library.lookup import user_name
from hub.registry.values import Deprecated, Lineage, Metric, Version, Yanked


@dataclass(frozen=True, slots=True)
class Around:
    """The rows related to a version."""

    created_by: str | None
    yanked_by: str | None
    base: str | None
    aliases: Sequence[str]
    lineage: Sequence[Lineage]
    metrics: Sequence[Metric]
    manifest_json: bytes | None


def describe(session: Session, row: AdapterRow, version: VersionRow, *, with_manifest: bool = False) -> Version:
    return describe_many(session, row, [version], with_manifest=with_manifest)[0]


def describe_many(
    session: Session, row: AdapterRow, versions: Sequence[VersionRow], *, with_manifest: bool = False
) -> list[Version]:
    """Return the values of an adapter's versions, with one query per kind of related row."""
    ids = [version.id for version in versions]
    users = _names(session, UserRow, {version.created_by for version in versions} | {v.yanked_by for v in versions})
    bases = _names(session, BaseRow, {version.base_id for version in versions})
    aliases = _aliases(session, row)
    metrics = _metrics(session, ids)
    lineage = _lineage(session, ids)
    return [
        to_version(
            version,
            AdapterName.parse(row.full_name),
            Around(
                created_by=users.get(version.created_by),
                yanked_by=users.get(version.yanked_by),
                base=bases.get(version.base_id),
                aliases=aliases.get(version.id, ()),
                lineage=lineage.get(version.id, ()),
                metrics=metrics.get(version.id, ()),
                manifest_json=load_manifest(session, version.id) if with_manifest else None,
            ),
        )
        for version in versions
    ]


def to_version(row: VersionRow | Row[*tuple[Any, ...]], adapter: AdapterName, around: Around) -> Version:
    """Return the value of one row of `versions`, with its related rows."""
    return Version(
        adapter=adapter,
        id=row.id,
        number=row.number,
        digest=row.digest,
        created_at=row.created_at,
        created_by=around.created_by,
        message=row.message,
        task=row.task,
        size_bytes=row.size_bytes,
        file_count=row.file_count,
        rank=row.rank,
        alpha=row.alpha,
        method=row.method,
        target_modules=tuple(row.target_modules),
        dtype=row.dtype,
        parameters=row.parameters,
        base=around.base,
        downloads=row.downloads,
        yanked=_yanked(row, around.yanked_by),
        deprecated=_deprecated(row),
        aliases=tuple(around.aliases),
        lineage=tuple(around.lineage),
        metrics=tuple(around.metrics),
        manifest_json=around.manifest_json,
        branch=row.branch,
    )


def to_lineage(kind: str, ref: str, number: int | None) -> Lineage:
    return Lineage("merged-from" if kind == "merged-from" else "trained-from", ref, number)


def yanked_of(session: Session, version: VersionRow) -> Yanked | None:
    return _yanked(version, user_name(session, version.yanked_by)) if version.yanked_at is not None else None


def _yanked(version: VersionRow | Row[*tuple[Any, ...]], by: str | None) -> Yanked | None:
    return Yanked(version.yanked_reason or "", version.yanked_at, by) if version.yanked_at is not None else None


def _deprecated(version: VersionRow | Row[*tuple[Any, ...]]) -> Deprecated | None:
    if version.deprecated_at is None:
        return None
    return Deprecated(version.deprecated_reason or "", version.deprecated_successor, version.deprecated_at)


def _names(session: Session, model: type[UserRow] | type[BaseRow], ids: set[int | None]) -> dict[int | None, str]:
    wanted = [number for number in ids if number is not None]
    if not wanted:
        return {}
    return dict(session.execute(select(model.id, model.name).where(model.id.in_(wanted))).all())


def _aliases(session: Session, row: AdapterRow) -> dict[int, list[str]]:
    query = select(AliasRow.version_id, AliasRow.name).where(AliasRow.adapter_id == row.id).order_by(AliasRow.name)
    found: dict[int, list[str]] = {}
    for version_id, name in session.execute(query):
        found.setdefault(version_id, []).append(name)
    return found


def _metrics(session: Session, ids: Sequence[int]) -> dict[int, list[Metric]]:
    query = select(MetricRow, UserRow.name).outerjoin(UserRow, MetricRow.user_id == UserRow.id)
    query = query.where(MetricRow.version_id.in_(ids)).order_by(MetricRow.name, MetricRow.dataset)
    found: dict[int, list[Metric]] = {}
    for row, user in session.execute(query):
        found.setdefault(row.version_id, []).append(Metric(row.name, row.value, row.dataset, user, row.at))
    return found


def _lineage(session: Session, ids: Sequence[int]) -> dict[int, list[Lineage]]:
    parent = aliased(VersionRow)
    query = select(LineageRow, parent.number).outerjoin(parent, LineageRow.parent_id == parent.id)
    query = query.where(LineageRow.version_id.in_(ids)).order_by(LineageRow.kind, LineageRow.ref)
    found: dict[int, list[Lineage]] = {}
    for row, number in session.execute(query):
        found.setdefault(row.version_id, []).append(to_lineage(row.kind, row.ref, number))
    return found


def load_manifest(session: Session, version_id: int) -> bytes:
    """Return a version's canonical manifest bytes."""
    body = session.scalar(select(ManifestRow.body).where(ManifestRow.version_id == version_id))
    return zlib.decompress(body) if body is not None else b""
