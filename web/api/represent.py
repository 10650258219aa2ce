"""The registry's values as JSON, the way the API writes them.  Times are RFC 3339 in UTC."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flask import Response

from hub.registry.values import (
    Adapter,
    Alias,
    AliasMove,
    AuditEvent,
    Base,
    Deprecated,
    Draft,
    Metric,
    Namespace,
    Page,
    Token,
    Upload,
    User,
    Version,
    Webhook,
    Yanked,
)

Json = dict[str, Any]

MOST_WRITTEN = 256
_WRITTEN: dict[int, tuple[Version, bytes]] = {}
"""Answers by the identity of the value that they show; holding the value keeps its identity from being given again."""


def time(at: datetime | None) -> str | None:
    """`2026-01-31T12:00:00Z`; None stays None."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def adapter(value: Adapter) -> Json:
    return {
        "name": str(value.name),
        "namespace": value.name.namespace,
        "task": value.task,
        "description": value.description,
        "license": value.license,
        "tags": list(value.tags),
        "private": value.private,
        "gated": value.gated,
        "base": base_name(value.base),
        "latest": None if value.latest is None else f"v{value.latest}",
        "aliases": [alias(item) for item in value.aliases],
        "versions": value.version_count,
        "downloads": value.downloads,
        "rank": value.rank,
        "alpha": value.alpha,
        "method": value.method,
        "dtype": value.dtype,
        "size_bytes": value.size_bytes,
        "target_modules": list(value.target_modules),
        "created_at": time(value.created_at),
        "updated_at": time(value.updated_at),
        "deprecated": deprecated(value.deprecated),
    }


def draft(value: Draft) -> Json:
    """What somebody has sent that is no version yet."""
    return {
        "ref": value.ref,
        "author": value.author,
        "commit": value.commit,
        "problem": value.problem,
        "updated_at": time(value.updated_at),
        "expires_at": time(value.expires_at),
    }


def version(value: Version) -> Json:
    """A version without its manifest, as in lists."""
    return {
        "ref": str(value.ref),
        "adapter": str(value.adapter),
        "version": value.number,
        "digest": value.digest,
        "commit": value.commit,
        "created_at": time(value.created_at),
        "created_by": value.created_by,
        "message": value.message,
        "task": value.task,
        "base": base_name(value.base),
        "size_bytes": value.size_bytes,
        "files": value.file_count,
        "rank": value.rank,
        "alpha": value.alpha,
        "method": value.method,
        "target_modules": list(value.target_modules),
        "dtype": value.dtype,
        "parameters": value.parameters,
        "yanked": yanked(value.yanked),
        "deprecated": deprecated(value.deprecated),
        "aliases": list(value.aliases),
        "branch": value.branch,
        "downloads": value.downloads,
        "trained_from": list(value.trained_from),
        "merged_from": list(value.merged_from),
        "metrics": [metric(item) for item in value.metrics],
    }


def version_answer(value: Version, status: int = 200) -> Response:
    """The answer with a whole version.  The manifest is stored as JSON, and goes out as it is stored."""
    return Response(version_bytes(value), status, mimetype="application/json")


def version_bytes(value: Version) -> bytes:
    """Return the JSON of a version.  The registry hands out the same value while nothing changes; so do we."""
    kept = _WRITTEN.get(id(value))
    if kept is not None and kept[0] is value:
        return kept[1]
    body = json.dumps(version(value), separators=(",", ":")).encode()
    if value.manifest_json is not None:
        body = body[:-1] + b',"manifest":' + value.manifest_json + b"}"
    if len(_WRITTEN) >= MOST_WRITTEN:
        _WRITTEN.clear()
    _WRITTEN[id(value)] = (value, body)
    return body


def page(value: Page) -> Json:
    return {
        "items": [adapter(item) for item in value.items],
        "next": value.next_cursor,
        "total": value.total,
        "facets": {
            field: [{"value": found.value, "count": found.count} for found in values]
            for field, values in value.facets.items()
        },
    }


def alias(value: Alias) -> Json:
    return {
        "alias": value.name,
        "version": value.version,
        "protected": value.protected,
        "updated_at": time(value.updated_at),
        "updated_by": value.updated_by,
    }


def alias_move(value: AliasMove) -> Json:
    return {"alias": value.alias, "from": value.before, "to": value.after, "at": time(value.at), "by": value.by}


def base_name(value: str | None) -> Json | None:
    return None if value is None else {"id": value}


def yanked(value: Yanked | None) -> Json | None:
    return None if value is None else {"reason": value.reason, "at": time(value.at), "by": value.by}


def deprecated(value: Deprecated | None) -> Json | None:
    return None if value is None else {"reason": value.reason, "successor": value.successor, "at": time(value.at)}


def metric(value: Metric) -> Json:
    return {
        "name": value.name,
        "value": value.value,
        "dataset": value.dataset,
        "by": value.by,
        "at": time(value.at),
    }


def upload(value: Upload) -> Json:
    """How to send one blob; the reader appends from `offset` on, or PUTs each part to its signed URL."""
    shown: Json = {
        "id": value.id,
        "href": f"/api/v1/uploads/{value.id}",
        "sha256": value.sha256,
        "size": value.size,
        "offset": value.offset,
        "mode": value.mode,
        "expires_at": time(value.expires_at),
        "done": value.done,
    }
    if value.mode == "parts":
        shown["part_size"] = value.part_size
        shown["parts"] = [{"number": part.number, "href": part.url} for part in value.parts]
    return shown


def token(value: Token) -> Json:
    return {
        "id": value.id,
        "name": value.name,
        "user": value.user,
        "scopes": sorted(value.scopes),
        "namespace": value.namespace,
        "created_at": time(value.created_at),
        "expires_at": time(value.expires_at),
        "last_used_at": time(value.last_used_at),
        "revoked_at": time(value.revoked_at),
    }


def user(value: User) -> Json:
    return {
        "name": value.name,
        "admin": value.admin,
        "disabled": value.disabled,
        "created_at": time(value.created_at),
    }


def namespace(value: Namespace) -> Json:
    return {
        "name": value.name,
        "kind": value.kind,
        "private": value.private,
        "description": value.description,
        "adapters": value.adapter_count,
        "used_bytes": value.used_bytes,
        "quota_bytes": value.quota_bytes,
        "quota_adapters": value.quota_adapters,
        "members": [{"user": member.user, "role": member.role} for member in value.members],
        "created_at": time(value.created_at),
    }


def base(value: Base) -> Json:
    return {
        "id": value.id,
        "revision": value.revision,
        "aliases": list(value.aliases),
        "shapes": list(value.shapes),
        "weights": list(value.weights),
        "disputed": list(value.disputed),
        "fingerprints": [
            {"kind": mark.kind, "value": mark.value, "publishers": mark.publishers, "pinned": mark.pinned}
            for mark in value.fingerprints
        ],
        "parent": value.parent,
        "children": list(value.children),
        "adapters": value.adapter_count,
        "created_at": time(value.created_at),
    }


def audit_event(value: AuditEvent) -> Json:
    details: Mapping[str, Any] = value.details
    return {
        "id": value.id,
        "at": time(value.at),
        "user": value.user,
        "action": value.action,
        "target": value.target,
        "namespace": value.namespace,
        "details": dict(details),
    }


def webhook(value: Webhook) -> Json:
    return {
        "id": value.id,
        "namespace": value.namespace,
        "url": value.url,
        "events": list(value.events),
        "active": value.active,
        "failures": value.failures,
        "last_error": value.last_error,
        "created_at": time(value.created_at),
    }
