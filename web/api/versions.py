"""Versions: publish, resolve, yank, deprecate, delete, measure; and their files."""

from __future__ import annotations

from typing import Any

from flask import Response

from hub.adapter.publication import Publication
from hub.manifest import Manifest
from hub.registry.values import StoredFile

from ..http.counting import count_download
from ..http.files import send_stored
from ..http.identity import current_actor, registry
from . import answers, represent, schemas
from .fields import Blueprint
from .parsing import adapter_name, no_content, reply, reply_items, version_number

versions = Blueprint(
    "versions",
    __name__,
    url_prefix="/api/v1/adapters/<ns>/<name>/versions",
    description="Versions: immutable, numbered by the server.",
)


@versions.get("")
@versions.response(200, answers.VersionList)
def listing(ns: str, name: str) -> Response:
    """List an adapter's versions, newest first, without manifests."""
    return reply_items(registry().versions.list(current_actor(), adapter_name(ns, name)), represent.version)


@versions.post("")
@versions.arguments(schemas.PublishIn)
@versions.response(201, schemas.Version)
@versions.alt_response(200, schema=schemas.Version, description="The content was there already", success=True)
def publish(args: dict[str, Any], ns: str, name: str) -> Response:
    """Make a version of blobs that were sent before.  Equal content is the version that has it."""
    manifest = Manifest.from_json(args.pop("manifest"))
    publication = Publication.parse(**args)
    done = registry().versions.publish(current_actor(), adapter_name(ns, name), manifest, publication)
    return represent.version_answer(done.version, 201 if done.created else 200)


@versions.get("/<selector:sel>")
@versions.response(200, schemas.Version)
def resolve(ns: str, name: str, sel: str) -> Response:
    """Return the version that `vN`, an alias, `latest` or `sha256:…` means, with its manifest."""
    return represent.version_answer(registry().versions.resolve(current_actor(), adapter_name(ns, name).at(sel)))


@versions.delete("/<selector:sel>")
@versions.response(204)
def delete(ns: str, name: str, sel: str) -> Response:
    """Delete a version within 72 hours of its publishing.  Its number is never used again."""
    registry().versions.delete(current_actor(), adapter_name(ns, name), version_number(sel))
    return no_content()


@versions.get("/<selector:sel>/files/<filepath:path>")
@versions.response(200, {"type": "string", "format": "binary"}, content_type="application/octet-stream")
@versions.alt_response(206, description="A range of the file", content_type="application/octet-stream", success=True)
@versions.alt_response(302, description="Where the object store serves the file", success=True)
@versions.alt_response(304, description="You have it: If-None-Match named its sha256", success=True)
def file(ns: str, name: str, sel: str, path: str) -> Response:
    """Return a file's bytes.  The ETag is its sha256; ranges and If-Range are understood."""
    actor = current_actor()
    stored = registry().versions.open_file(actor, adapter_name(ns, name).at(sel), path)
    answer = send_stored(stored, headers=warning_headers(stored))
    count_download(actor, stored, answer)
    return answer


def warning_headers(stored: StoredFile) -> dict[str, str]:
    """Say that a version was yanked, on the very answer that carries its bytes."""
    if stored.yanked is None:
        return {}
    reason = stored.yanked.reason.encode("ascii", "replace").decode().replace("\n", " ").replace("\r", " ")
    return {"X-Lorahub-Yanked": reason[:500]}


@versions.post("/<selector:sel>/yank")
@versions.arguments(schemas.ReasonIn)
@versions.response(200, schemas.VersionSummary)
def yank(args: dict[str, Any], ns: str, name: str, sel: str) -> Response:
    """Take a version out of `latest` and of alias moves; exact refs still find it, with the reason."""
    changed = registry().versions.yank(current_actor(), adapter_name(ns, name), version_number(sel), args["reason"])
    return reply(represent.version(changed))


@versions.delete("/<selector:sel>/yank")
@versions.response(200, schemas.VersionSummary)
def unyank(ns: str, name: str, sel: str) -> Response:
    """Take a yank back."""
    changed = registry().versions.unyank(current_actor(), adapter_name(ns, name), version_number(sel))
    return reply(represent.version(changed))


@versions.put("/<selector:sel>/deprecation")
@versions.arguments(schemas.DeprecationIn)
@versions.response(200, schemas.VersionSummary)
def deprecate(args: dict[str, Any], ns: str, name: str, sel: str) -> Response:
    """Point a version to a successor."""
    changed = registry().versions.deprecate(
        current_actor(), adapter_name(ns, name), version_number(sel), args["reason"], args["successor"]
    )
    return reply(represent.version(changed))


@versions.delete("/<selector:sel>/deprecation")
@versions.response(200, schemas.VersionSummary)
def undeprecate(ns: str, name: str, sel: str) -> Response:
    """Take a deprecation away."""
    changed = registry().versions.deprecate(current_actor(), adapter_name(ns, name), version_number(sel), None)
    return reply(represent.version(changed))


@versions.put("/<selector:sel>/metrics")
@versions.arguments(schemas.MetricIn)
@versions.response(200, schemas.Metric)
def set_metric(args: dict[str, Any], ns: str, name: str, sel: str) -> Response:
    """Attach an evaluation result, or replace the one of that name and data set."""
    stored = registry().metrics.set(
        current_actor(), adapter_name(ns, name), version_number(sel), args["name"], args["value"], args["dataset"]
    )
    return reply(represent.metric(stored))


@versions.delete("/<selector:sel>/metrics")
@versions.arguments(schemas.MetricArgs, location="query")
@versions.response(204)
def delete_metric(args: dict[str, Any], ns: str, name: str, sel: str) -> Response:
    """Remove an evaluation result."""
    registry().metrics.delete(
        current_actor(), adapter_name(ns, name), version_number(sel), args["name"], args["dataset"]
    )
    return no_content()


@versions.put("/<selector:sel>/base")
@versions.arguments(schemas.RebindIn)
@versions.response(200, schemas.VersionSummary)
def rebind(args: dict[str, Any], ns: str, name: str, sel: str) -> Response:
    """Say that a version was trained for another base object.  Its manifest stays as it is."""
    changed = registry().versions.rebind(current_actor(), adapter_name(ns, name), version_number(sel), args["base"])
    return reply(represent.version(changed))
