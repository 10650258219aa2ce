"""The catalog: pages for people, at `/`.  A route parses, `pages/reader.py` gathers, a template shows.

    /  /{ns}                                    search with facets          pages/listing.py
    /{ns}/{name}                                adapter                     pages/version.py  verdicts.py
    /{ns}/{name}/versions[/{n}[/files/{path}]]  versions, one, one file     pages/insight.py  layers.py  changes.py
    /{ns}/{name}/compare?from=&to=              two versions                pages/changes.py
    /bases[/{id}]                               bases and their adapters    pages/bases.py
    extras.py: feeds, badges, API page, links that Hugging Face clients print       account.py: login, account

The Hugging Face wire has `/{ns}/{name}/resolve/…` and `/api/…`: no rule here begins so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Flask, Response, g, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from hub.errors import AuthError, HubError, InvalidRequest
from hub.refs import AdapterName
from hub.registry.service import Registry
from hub.settings import ServerSettings

from ..http.counting import count_download
from ..http.errors import ERROR_PAGE
from ..http.files import send_stored
from ..http.identity import current_actor, registry
from .account import register_account
from .cards import IMAGE_NAMES
from .extras import badge_address, public_endpoint, register_extras
from .pages import formats, links
from .pages.listing import parse_query, view_listing
from .pages.reader import Reader
from .pages.version import targets
from .snippets import base_argument

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


def install(app: Flask, _registry: Registry, _settings: ServerSettings) -> Sequence[Blueprint]:
    """Mount the catalog.  Returns the blueprints that need no CSRF token: none, its forms all carry one."""
    formats.install_filters(app)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.config[ERROR_PAGE] = error_page
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
    shown = registry().namespaces.get(current_actor(), name) if name else None
    query = parse_query(request.args, name)
    page = registry().adapters.search(current_actor(), query)

    def urls(fields: Mapping[str, Sequence[str]]) -> str:
        here = url_for("catalog.namespace", namespace=name) if name else url_for("catalog.home")
        return f"{here}?{urlencode(fields, doseq=True)}" if fields else here

    view = view_listing(request.args, page, urls)
    return render_template(
        "list.html",
        page=page,
        view=view,
        namespace=shown,
        search_text=request.args.get("q", "").strip(),
        section=None if name else "adapters",
    )


@catalog.get("/<namespace>/<name>")
def adapter(namespace: str, name: str) -> str:
    shown = AdapterName(namespace, name)
    return render_template("adapter.html", badge_href=badge_address(shown), **_reader().adapter(shown))


@catalog.get("/<namespace>/<name>/versions")
def versions(namespace: str, name: str) -> str:
    return render_template("versions.html", **_reader().versions(AdapterName(namespace, name), _asked_number("before")))


@catalog.get("/<namespace>/<name>/versions/<int:number>")
def version(namespace: str, name: str, number: int) -> str:
    return render_template("version.html", **_reader().version(AdapterName(namespace, name), number))


@catalog.get("/<namespace>/<name>/versions/<int:number>/files/<filepath:path>")
def file(namespace: str, name: str, number: int, path: str) -> str:
    return render_template("file.html", **_reader().file(AdapterName(namespace, name), number, path))


@catalog.get("/<namespace>/<name>/versions/<int:number>/raw/<filepath:path>")
def raw(namespace: str, name: str, number: int, path: str) -> BaseResponse:
    """Send a file's bytes to a browser, by its login.  Pictures never redirect: a page loads nothing from elsewhere."""
    stored = registry().versions.open_file(current_actor(), AdapterName(namespace, name).at(number), path)
    answer = send_stored(stored, allow_redirect=not path.lower().endswith(IMAGE_NAMES))
    count_download(current_actor(), stored, answer)
    return answer


@catalog.get("/<namespace>/<name>/compare")
def compare(namespace: str, name: str) -> str:
    before, after = _asked_number("from"), _asked_number("to")
    return render_template("compare.html", **_reader().compare(AdapterName(namespace, name), before, after))


@catalog.get("/bases")
def bases() -> str:
    return render_template("bases.html", section="bases", **_reader().bases())


@catalog.get("/bases/<filepath:name>")
def base(name: str) -> str:
    return render_template("base.html", section="bases", **_reader().base(name))


def _reader() -> Reader:
    return Reader(registry(), current_actor(), public_endpoint())


def _asked_number(field: str) -> int | None:
    text = request.args.get(field, "").removeprefix("v")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidRequest(f"{field} is {text[:40]!r}; it takes a version's number, e.g. 2.")
    return int(text)
