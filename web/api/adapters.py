"""Find adapters, and change what all versions of one share."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from flask import Response, current_app

from hub.adapter.facets import FACETS
from hub.registry.events.outgoing import Deadline
from hub.registry.library import importing
from hub.registry.values import Query

from ..http.identity import current_actor, registry
from ..http.jobs import Jobs, run_job
from . import answers, represent, schemas
from .fields import Blueprint
from .parsing import adapter_name, metric_filter, no_content, reply, reply_items

IMPORTS, IMPORTS_OF_USER = 4, 2
"""How many imports a worker runs at once, of everybody and of one user."""

adapters = Blueprint("adapters", __name__, url_prefix="/api/v1/adapters", description="Adapters: named, versioned.")


@adapters.get("")
@adapters.arguments(schemas.SearchArgs, location="query")
@adapters.response(200, schemas.AdapterPage)
def search(args: dict[str, Any]) -> Response:
    """Search the adapters that you may read, with facets."""
    return reply(represent.page(registry().adapters.search(current_actor(), to_query(args))))


def to_query(args: dict[str, Any]) -> Query:
    return Query(
        text=args["q"],
        metrics=tuple(metric_filter(text) for text in args["metric"]),
        sort=args["sort"],
        limit=args["limit"],
        cursor=args["cursor"],
        rank_min=args["rank_min"],
        rank_max=args["rank_max"],
        size_max=args["size_max"],
        with_facets=args["facets"],
        having={facet.name: tuple(map(facet.term, args[facet.name])) for facet in FACETS},
    )


@adapters.get("/<ns>/<name>")
@adapters.response(200, schemas.ShownAdapter)
def show(ns: str, name: str) -> Response:
    """Describe one adapter, with the drafts of it that you may see."""
    actor, shown = current_actor(), adapter_name(ns, name)
    drafts = [represent.draft(each) for each in registry().lanes.drafts(actor, shown)]
    return reply(represent.adapter(registry().adapters.get(actor, shown)) | {"drafts": drafts})


@adapters.post("/<ns>/<name>")
@adapters.arguments(schemas.AdapterIn)
@adapters.response(201, schemas.Adapter)
def create(args: dict[str, Any], ns: str, name: str) -> Response:
    """Create an adapter without versions; the first push does so by itself."""
    made = registry().adapters.create(current_actor(), adapter_name(ns, name), private=args["private"])
    return reply(represent.adapter(made), 201)


@adapters.patch("/<ns>/<name>")
@adapters.arguments(schemas.AdapterPatch)
@adapters.response(200, schemas.Adapter)
def update(args: dict[str, Any], ns: str, name: str) -> Response:
    """Make an adapter private or public, or keep its files for members: `gated`."""
    changed = registry().adapters.update(current_actor(), adapter_name(ns, name), **args)
    return reply(represent.adapter(changed))


@adapters.delete("/<ns>/<name>")
@adapters.response(204)
def delete(ns: str, name: str) -> Response:
    """Delete an adapter whose versions are all young.  Its name is never given to another owner."""
    registry().adapters.delete(current_actor(), adapter_name(ns, name))
    return no_content()


@adapters.put("/<ns>/<name>/deprecation")
@adapters.arguments(schemas.DeprecationIn)
@adapters.response(200, schemas.Adapter)
def deprecate(args: dict[str, Any], ns: str, name: str) -> Response:
    """Point a whole adapter to a successor."""
    changed = registry().adapters.deprecate(
        current_actor(), adapter_name(ns, name), args["reason"], successor=args["successor"]
    )
    return reply(represent.adapter(changed))


@adapters.delete("/<ns>/<name>/deprecation")
@adapters.response(200, schemas.Adapter)
def undeprecate(ns: str, name: str) -> Response:
    """Take the deprecation of an adapter away."""
    return reply(represent.adapter(registry().adapters.deprecate(current_actor(), adapter_name(ns, name), None)))


@adapters.get("/<ns>/<name>/downloads")
@adapters.arguments(schemas.HistoryArgs, location="query")
@adapters.response(200, answers.DownloadHistory)
def downloads(args: dict[str, Any], ns: str, name: str) -> Response:
    """Count downloads per day; one per user, version and day."""
    found = registry().versions.download_history(current_actor(), adapter_name(ns, name), args["days"])
    return reply_items(found, lambda day: {"day": day.day, "count": day.count})


@adapters.post("/<ns>/<name>/import")
@adapters.arguments(schemas.ImportIn)
@adapters.response(201, schemas.Version)
@adapters.alt_response(200, schema=schemas.Version, description="The content was there already", success=True)
def import_version(args: dict[str, Any], ns: str, name: str) -> Response:
    """Fetch a version from another lorahub or a Hugging Face Hub and publish it here.

    It ends after half an hour, or when the connection is closed.  A user has two at once: 429.
    """
    deadline = Deadline(importing.MAX_SECONDS)
    fetch = partial(
        registry().versions.import_from, current_actor(), adapter_name(ns, name), args["url"], deadline=deadline
    )
    work = partial(fetch, message=args["message"], token=args["token"])
    done = run_job(_imports(), current_actor().user_id, work, deadline.end_now)
    return represent.version_answer(done.version, 201 if done.created else 200)


def _imports() -> Jobs:
    """Return the imports that this worker runs."""
    known = current_app.extensions
    if "lorahub.imports" not in known:  # `setdefault` alone would build one for every request
        known.setdefault("lorahub.imports", Jobs("import", IMPORTS, IMPORTS_OF_USER))
    return cast("Jobs", known["lorahub.imports"])
