"""The catalog: pages for people, at `/`.  Each route parses, asks the registry, and shows.

    /  /{ns}                                    search with facets        pages/listing.py
    /{ns}/{name}                                adapter                   pages/version.py  pages/matrix.py
    /{ns}/{name}/versions[/{n}[/files/{path}]]  versions, one, one file   pages/insight.py
    /{ns}/{name}/compare?from=&to=              two versions
    /bases[/{id}]                               bases and their adapters
    extras.py: feeds, badges, API page, links that Hugging Face clients print       account.py: login, account

The Hugging Face wire has `/{ns}/{name}/resolve/…` and `/api/…`: no rule here begins so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

from flask import Blueprint, Flask, Response, current_app, g, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from hub.errors import AuthError, FileNotFound, HubError, InvalidRequest, NotFound, VersionNotFound
from hub.refs import AdapterName
from hub.registry.service import Registry
from hub.registry.values import Adapter, Query, Version
from hub.settings import ServerSettings

from .account import register_account
from .errors import ERROR_PAGE
from .extras import badge_address, public_endpoint, register_extras
from .files import send_stored
from .identity import current_actor, registry
from .pages import formats, links
from .pages.bases import base_tree
from .pages.changes import ChangesView
from .pages.insight import Insights
from .pages.layers import view_parameters
from .pages.listing import parse_query, view_listing
from .pages.matrix import judge_bases
from .pages.version import (
    CARD_FILE,
    DOWNLOAD_DAYS,
    MAX_PREVIEW_BYTES,
    VersionView,
    fill_days,
    is_text,
    preview,
    read_card,
    read_start,
    targets,
    view_version,
)
from .snippets import base_argument
from .svg import bars

MAX_LISTED_TENSORS = 2_000
MAX_LISTED_MOVES = 20
MAX_LISTED_BASES = 500
VERSIONS_SHOWN = 20
VERSIONS_PER_PAGE = 100
_INSIGHTS = "lorahub.insights"
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
_HEADLINES = {
    400: "That address asks for something odd",
    401: "You need to log in",
    403: "That is not yours to see",
    404: "Nothing here",
    405: "This address doesn't take that",
    429: "Too many requests",
    503: "Not available right now",
}

catalog = Blueprint("catalog", __name__, template_folder="templates", static_folder="static", static_url_path="/static")


def install(app: Flask, _registry: Registry, settings: ServerSettings) -> Sequence[Blueprint]:
    """Mount the catalog.  Returns the blueprints that need no CSRF token: none, its forms all carry one."""
    formats.install_filters(app)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.config[ERROR_PAGE] = error_page
    app.extensions[_INSIGHTS] = Insights(settings.data / "insights")
    app.register_blueprint(catalog)
    return ()


register_account(catalog)
register_extras(catalog)


@catalog.app_context_processor
def template_words() -> dict[str, Any]:
    """What every template may call."""
    return {
        "asset": asset,
        "adapter_url": links.adapter_url,
        "version_url": links.version_url,
        "base_url": links.base_url,
        "compare_url": links.compare_url,
        "ref_link": links.ref_link,
        "targets": targets,
        "base_argument": base_argument,
        "viewer": _viewer(),
    }


def _viewer() -> str | None:
    """Return the name of who is logged in.  A bad token has its own error; the page around it is anyone's."""
    try:
        return current_actor().user
    except AuthError:
        return None


def asset(filename: str) -> str:
    """Return the address of a static file, which changes with its content, so that browsers may keep it for good."""
    return url_for("catalog.static", filename=filename, v=_content_tag(filename))


@cache
def _content_tag(filename: str) -> str:
    return hashlib.sha256((Path(__file__).parent / "static" / filename).read_bytes()).hexdigest()[:12]


@catalog.after_request
def keep_static_files(response: Response) -> Response:
    if request.endpoint == "catalog.static" and response.status_code in {200, 304}:
        lifetime = "max-age=31536000, immutable" if "v" in request.args else "max-age=86400"
        response.headers["Cache-Control"] = f"public, {lifetime}"
    return response


def error_page(error: HubError) -> BaseResponse:
    """Draw an error for a browser; `web.errors` sends it instead of JSON."""
    headline = _HEADLINES.get(error.status, "Something went wrong" if error.status >= 500 else "That didn't work")
    body = render_template(
        "error.html",
        error=error,
        status=error.status,
        headline=headline,
        here=request.full_path.rstrip("?"),
        request_id=g.get("request_id") if error.status >= 500 else None,
    )
    return Response(body, error.status, mimetype="text/html")


@catalog.get("/")
def home() -> str:
    return _show_list(None)


@catalog.get("/<namespace>")
def namespace(namespace: str) -> str:
    return _show_list(namespace)


def _show_list(name: str | None) -> str:
    shown = registry().namespace(current_actor(), name) if name else None
    query = parse_query(request.args, name)
    page = registry().search(current_actor(), query)

    def urls(fields: Mapping[str, Sequence[str]]) -> str:
        here = url_for("catalog.namespace", namespace=name) if name else url_for("catalog.home")
        return f"{here}?{urlencode(fields, doseq=True)}" if fields else here

    view = view_listing(request.args, page, urls)
    return render_template(
        "list.html", page=page, view=view, namespace=shown, search_text=query.text, section=None if name else "adapters"
    )


@catalog.get("/<namespace>/<name>")
def adapter(namespace: str, name: str) -> str:
    shown = registry().adapter(current_actor(), AdapterName(namespace, name))
    versions = registry().versions(current_actor(), shown.name)
    if not versions:
        problem = registry().tree(current_actor(), shown.name).commit.problem
        return render_template("adapter.html", adapter=shown, view=None, versions=(), draft_problem=problem)
    number = shown.latest or versions[0].number  # all yanked: the newest one is shown, with its reason
    view = _view(shown, number)
    days = fill_days(registry().download_history(current_actor(), shown.name, DOWNLOAD_DAYS))
    recent = sum(count for _, count in days)
    return render_template(
        "adapter.html",
        adapter=shown,
        view=view,
        versions=versions,
        shown_versions=versions[:VERSIONS_SHOWN],
        card=_card(view.version),
        verdicts=judge_bases(view.manifest.base, view.version.base, registry().bases(current_actor())),
        recent=recent,
        days=DOWNLOAD_DAYS,
        downloads_chart=bars(days, title=f"{recent:,} downloads in the last {DOWNLOAD_DAYS} days, per day"),
        badge_href=badge_address(shown.name),
        moves=registry().alias_history(current_actor(), shown.name)[:MAX_LISTED_MOVES],
    )


def _view(shown: Adapter, number: int) -> VersionView:
    return view_version(shown, _resolve(shown.name, number), public_endpoint())


def _resolve(name: AdapterName, number: int) -> Version:
    return registry().resolve(current_actor(), name.at(number))


def _card(version: Version) -> Any:
    if version.manifest.file(CARD_FILE) is None:
        return None
    return read_card(version, registry().open_file(current_actor(), version.ref, CARD_FILE))


@catalog.get("/<namespace>/<name>/versions")
def versions(namespace: str, name: str) -> str:
    shown = registry().adapter(current_actor(), AdapterName(namespace, name))
    every = registry().versions(current_actor(), shown.name)
    before = _asked_number("before")
    older = [each for each in every if before is None or each.number < before]
    page = older[:VERSIONS_PER_PAGE]
    here = url_for("catalog.versions", namespace=namespace, name=name)
    return render_template(
        "versions.html",
        adapter=shown,
        total=len(every),
        shown=page,
        newer=here if before is not None else None,
        older=f"{here}?before={page[-1].number}" if len(older) > len(page) else None,
    )


@catalog.get("/<namespace>/<name>/versions/<int:number>")
def version(namespace: str, name: str, number: int) -> str:
    shown = registry().adapter(current_actor(), AdapterName(namespace, name))
    versions = registry().versions(current_actor(), shown.name)
    view = _view(shown, number)
    before = next((other for other in versions if other.number < number), None)
    return render_template(
        "version.html",
        adapter=shown,
        view=view,
        versions=versions,
        previous=before,
        layers=_insights().layers(registry(), current_actor(), view.version),
        changes=_changes(_resolve(shown.name, before.number), view.version) if before else None,
        card=_card(view.version),
        parameters=view_parameters(view.manifest),
        tensors=view.manifest.tensors[:MAX_LISTED_TENSORS],
        config_json=preview("adapter_config.json", json.dumps(view.manifest.config, indent=2).encode()),
    )


@catalog.get("/<namespace>/<name>/versions/<int:number>/files/<filepath:path>")
def file(namespace: str, name: str, number: int, path: str) -> str:
    shown = registry().adapter(current_actor(), AdapterName(namespace, name))
    view = _view(shown, number)
    row = next((each for each in view.files if each.path == path), None)
    if row is None:
        raise FileNotFound(f"{view.version.ref} has no file {path[:80]!r}. Its page lists the files that it has.")
    content = None
    if is_text(path):
        stored = registry().open_file(current_actor(), view.version.ref, path)
        content = preview(path, read_start(stored, MAX_PREVIEW_BYTES))
    is_weights = path.endswith(".safetensors")
    return render_template(
        "file.html",
        adapter=shown,
        version=view.version,
        file=row,
        content=content,
        cut=MAX_PREVIEW_BYTES if row.size > MAX_PREVIEW_BYTES else 0,
        tensors=view.manifest.tensors[:MAX_LISTED_TENSORS] if is_weights else (),
        tensor_count=len(view.manifest.tensors),
    )


@catalog.get("/<namespace>/<name>/versions/<int:number>/raw/<filepath:path>")
def raw(namespace: str, name: str, number: int, path: str) -> BaseResponse:
    """Send a file's bytes to a browser, by its login.  Pictures never redirect: a page loads nothing from elsewhere."""
    stored = registry().open_file(current_actor(), AdapterName(namespace, name).at(number), path)
    if stored.version_id is not None and path.endswith(".safetensors") and request.method == "GET":
        registry().count_download(current_actor(), stored.version_id, request.remote_addr)
    return send_stored(stored, allow_redirect=not path.lower().endswith(_IMAGES))


@catalog.get("/<namespace>/<name>/compare")
def compare(namespace: str, name: str) -> str:
    shown = registry().adapter(current_actor(), AdapterName(namespace, name))
    versions = registry().versions(current_actor(), shown.name)
    if len(versions) < 2:
        raise NotFound(f"{shown.name} has {len(versions)} version(s): there is nothing to compare yet.")
    after = _asked_version("to", versions, versions[0].number)
    older = [each.number for each in versions if each.number < after]
    before = _asked_version("from", versions, older[0] if older else versions[-1].number)
    first, second = _resolve(shown.name, before), _resolve(shown.name, after)
    changes = _changes(first, second)
    return render_template(
        "compare.html", adapter=shown, versions=versions, before=first, after=second, changes=changes
    )


def _changes(before: Version, after: Version) -> ChangesView:
    return _insights().changes(registry(), current_actor(), before, after)


def _insights() -> Insights:
    return cast("Insights", current_app.extensions[_INSIGHTS])


def _asked_version(field: str, versions: Sequence[Version], default: int) -> int:
    asked = _asked_number(field)
    if asked is None:
        return default
    if not any(each.number == asked for each in versions):
        newest = versions[0]
        raise VersionNotFound(f"{newest.adapter} has no version v{asked}; the newest is v{newest.number}.")
    return asked


def _asked_number(field: str) -> int | None:
    text = request.args.get(field, "").removeprefix("v")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidRequest(f"{field} is {text[:40]!r}; it takes a version's number, e.g. 2.")
    return int(text)


@catalog.get("/bases")
def bases() -> str:
    known = registry().bases(current_actor())
    return render_template("bases.html", roots=base_tree(known[:MAX_LISTED_BASES]), total=len(known), section="bases")


@catalog.get("/bases/<filepath:name>")
def base(name: str) -> str:
    shown = registry().base(current_actor(), name)
    page = registry().search(current_actor(), Query(base=(shown.id,), sort="downloads", limit=50, with_facets=False))
    return render_template("base.html", base=shown, page=page, section="bases")
