"""Around the pages: feeds, badges, the API's description, and links that Hugging Face clients print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from hub.refs import AdapterName
from hub.registry.values import Query, Version
from hub.settings import DEFAULT_ENDPOINT

from ..api import openapi_document
from ..http.identity import current_actor, registry, settings
from .pages import links
from .pages.feeds import Entry, render_feed
from .svg import badge

FEED_SIZE = 30
_PLAIN_ENDPOINT = re.compile(r"https?://[\w.:\[\]-]+(/[\w./-]*)?\Z", re.ASCII)
_METHODS = ("get", "put", "post", "patch", "delete", "head")


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the API page."""

    method: str
    path: str
    summary: str
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OperationGroup:
    title: str
    operations: tuple[Operation, ...]


def register_extras(catalog: Blueprint) -> None:
    """Add the routes to the catalog."""
    catalog.add_url_rule("/favicon.ico", "favicon", favicon)
    catalog.add_url_rule("/robots.txt", "robots", robots)
    catalog.add_url_rule("/docs", "api_docs", api_docs)
    catalog.add_url_rule("/docs/openapi.json", "openapi_link", openapi_link)
    catalog.add_url_rule("/feeds/<namespace>.atom", "namespace_feed", namespace_feed)
    catalog.add_url_rule("/feeds/<namespace>/<name>.atom", "adapter_feed", adapter_feed)
    catalog.add_url_rule("/badges/<namespace>/<name>.svg", "badge", show_badge)
    catalog.add_url_rule("/<namespace>/<name>/tree/<selector:revision>", "hf_tree", at_revision)
    catalog.add_url_rule("/<namespace>/<name>/tree/<selector:revision>/<filepath:path>", "hf_folder", at_revision)
    catalog.add_url_rule("/<namespace>/<name>/blob/<selector:revision>/<filepath:path>", "hf_blob", at_revision)
    catalog.add_url_rule("/<namespace>/<name>/commit/<selector:revision>", "hf_commit", at_revision)


def public_endpoint() -> str:
    """Return this registry's address as its users write it: what snippets and feeds name."""
    address = settings().public_url or request.url_root
    return address.rstrip("/") if _PLAIN_ENDPOINT.match(address.rstrip("/")) else DEFAULT_ENDPOINT


def favicon() -> BaseResponse:
    return redirect(url_for("catalog.static", filename="favicon.svg"))


def robots() -> Response:
    """Keep crawlers to the pages that are made once: not every filter, pair of versions, or file."""
    rules = ("User-agent: *", "Disallow: /*?", "Disallow: /*/compare", "Disallow: /*/raw/", "Disallow: /api/", "")
    return Response("\n".join(rules), mimetype="text/plain")


def badge_address(name: AdapterName) -> str:
    return url_for("catalog.badge", namespace=name.namespace, name=name.name)


def show_badge(namespace: str, name: str) -> Response:
    """Draw the adapter's newest version.  Other sites may embed it."""
    shown = registry().adapters.get(current_actor(), AdapterName(namespace, name))
    value, kind = (f"v{shown.latest}", "version") if shown.latest else ("no version", "none")
    return Response(
        badge(f"lorahub {shown.name}", value, kind),
        mimetype="image/svg+xml",
        headers={"Cache-Control": "private, max-age=300", "Cross-Origin-Resource-Policy": "cross-origin"},
    )


def adapter_feed(namespace: str, name: str) -> Response:
    shown = registry().adapters.get(current_actor(), AdapterName(namespace, name))
    versions = registry().versions.list(current_actor(), shown.name)[:FEED_SIZE]
    entries = [_entry(each) for each in versions]
    return _feed(f"Versions of {shown.name}", links.adapter_url(shown.name), entries, shown.updated_at)


def namespace_feed(namespace: str) -> Response:
    shown = registry().namespaces.get(current_actor(), namespace)
    query = Query(having={"namespace": (namespace,)}, sort="recent", limit=FEED_SIZE, with_facets=False)
    adapters = registry().adapters.search(current_actor(), query).items
    newest = [
        registry().versions.resolve(current_actor(), each.name.at(each.latest), for_card=True)
        for each in adapters
        if each.latest
    ]
    page = url_for("catalog.namespace", namespace=namespace)
    return _feed(f"New versions in {namespace}", page, [_entry(each) for each in newest], shown.created_at)


def _entry(version: Version) -> Entry:
    yanked = f" Yanked: {version.yanked.reason}" if version.yanked else ""
    return Entry(
        id=f"{public_endpoint()}{links.version_url(version.adapter, version.number)}",
        title=f"{version.ref}{' (yanked)' if version.yanked else ''}",
        href=f"{public_endpoint()}{links.version_url(version.adapter, version.number)}",
        updated=version.yanked.at if version.yanked else version.created_at,
        author=version.created_by or "unknown",
        summary=(version.message or f"{version.method}, rank {version.rank}") + yanked,
    )


def _feed(title: str, page: str, entries: list[Entry], updated: Any) -> Response:
    here = public_endpoint() + request.path
    body = render_feed(title=title, page=public_endpoint() + page, self_href=here, entries=entries, updated=updated)
    return Response(body, mimetype="application/atom+xml")


def api_docs() -> str:
    document = openapi_document()
    return render_template(
        "docs.html", document=document, groups=group_operations(document), endpoint=public_endpoint(), section="docs"
    )


def openapi_link() -> BaseResponse:
    return redirect("/api/v1/openapi.json")


def group_operations(document: dict[str, Any]) -> tuple[OperationGroup, ...]:
    """Return the operations of an OpenAPI document by their first tag, in the document's order."""
    groups: dict[str, list[Operation]] = {}
    for path, item in document.get("paths", {}).items():
        for method in _METHODS:
            if method in item:
                tag = (item[method].get("tags") or ["other"])[0]
                groups.setdefault(tag, []).append(_operation(method, path, item))
    return tuple(OperationGroup(tag.capitalize(), tuple(found)) for tag, found in groups.items())


def _operation(method: str, path: str, item: dict[str, Any]) -> Operation:
    declared = [*item.get("parameters", []), *item[method].get("parameters", [])]
    names = tuple(each["name"] for each in declared if each.get("in") == "query")
    return Operation(method.upper(), path, item[method].get("summary", ""), names)


def at_revision(namespace: str, name: str, revision: str, path: str = "") -> BaseResponse:
    """Lead a link of the Hugging Face Hub's kind to the version that it means."""
    shown = AdapterName(namespace, name)
    tree = registry().commits.tree(current_actor(), shown, revision)
    number = tree.commit.version
    if number is None:
        return redirect(links.adapter_url(shown))
    if path and tree.file(path):
        return redirect(links.file_url(shown, number, path))
    return redirect(links.version_url(shown, number))
