"""The Hugging Face wire: with `HF_ENDPOINT` set to this server, stock clients take it for the Hub.

    names.py        repositories, revisions, files: what they map to here
    errors.py       errors, so that each client raises the right exception of its own
    files.py        resolve, tree, paths-info
    info.py         model_info, lists, refs, commits, whoami
    upload.py       preupload, LFS, commit          commit.py      the lines of a commit
    access.py       requests for access to gated adapters
    manage.py       create, delete, settings, tags, the card's check
    signing.py      signed URLs and Xet's tokens
    upstream.py     the proxy for an upstream hub's repositories
    telemetry.py    the reports that hf_xet sends
    xet_routes.py   uploads through Xet             xet_reads.py   downloads

This file is the map: one line per address.  The rules live in those modules; the registry knows none of them.
Source: huggingface_hub's clients, 0.36 to 2.4, as they speak; docs/huggingface.md lists what was tried.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from flask import Blueprint, Flask, request
from werkzeug.exceptions import HTTPException

from hub.errors import AdapterNotFound, HubError, NamespaceNotFound
from hub.registry.service import Registry
from hub.settings import ServerSettings

from ..http.identity import settings
from ..xet import shard, xorb
from . import access, commit, files, info, manage, upload, upstream, xet_reads, xet_routes
from . import errors as hf_errors
from .telemetry import DropTelemetry

View = Callable[..., Any]
MODEL = "/api/models/<namespace>/<name>"
REPO = "/<namespace>/<name>"

READ_ROUTES: tuple[tuple[str, str, View], ...] = (
    ("GET", f"{REPO}/resolve/<selector:revision>/<filepath:path>", files.resolve),
    ("GET", f"{MODEL}/resolve/<selector:revision>/<filepath:path>", files.resolve),
    ("GET", f"{MODEL}/tree/<selector:revision>", files.tree),
    ("GET", f"{MODEL}/tree/<selector:revision>/<filepath:path>", files.tree),
    ("POST", f"{MODEL}/paths-info/<selector:revision>", files.paths_info),
    ("GET", "/api/models", info.list_models),
    ("GET", MODEL, info.model_info),
    ("GET", f"{MODEL}/revision/<selector:revision>", info.model_info),
    ("GET", f"{MODEL}/refs", info.refs),
    ("GET", f"{MODEL}/commits/<selector:revision>", info.commits),
    ("GET", f"{MODEL}/auth-check", info.auth_check),
    ("GET", "/api/whoami-v2", info.whoami),
    ("GET", "/api/agent-harnesses", info.known_harnesses),
    ("GET", "/api/settings/repositories", info.my_repositories),
    ("GET", "/api/organizations/<namespace>/settings/repositories", info.repositories_of),
    ("GET", "/api/organizations/<namespace>/overview", info.overview),
    ("GET", "/api/users/<namespace>/overview", info.overview),
)

WRITE_ROUTES: tuple[tuple[str, str, View], ...] = (
    ("POST", f"{MODEL}/preupload/<selector:revision>", upload.preupload),
    ("POST", f"{MODEL}/commit/<selector:revision>", upload.commit),
    ("POST", f"{REPO}.git/info/lfs/objects/batch", upload.lfs_batch),
    ("PUT", "/api/lfs", upload.lfs_put),
    ("POST", "/api/lfs", upload.lfs_complete),
    ("POST", "/api/repos/create", manage.create_repo),
    ("DELETE", "/api/repos/delete", manage.delete_repo),
    ("POST", "/api/repos/move", manage.move_repo),
    ("PUT", f"{MODEL}/settings", manage.settings),
    ("POST", f"{MODEL}/tag/<selector:revision>", manage.create_tag),
    ("DELETE", f"{MODEL}/tag/<selector:tag>", manage.delete_tag),
    ("POST", f"{MODEL}/branch/<selector:branch>", manage.create_branch),
    ("DELETE", f"{MODEL}/branch/<selector:branch>", manage.delete_branch),
    ("GET", f"{MODEL}/user-access-request/<status>", access.list_requests),
    ("POST", f"{MODEL}/user-access-request/grant", access.grant_access),
    ("POST", f"{MODEL}/user-access-request/handle", access.handle_request),
    ("POST", f"{MODEL}/ask-access", access.ask_access),
    ("POST", f"{MODEL}/super-squash/<selector:branch>", manage.squash),
    ("POST", "/api/validate-yaml", manage.validate_yaml),
)

XET_ROUTES: tuple[tuple[str, str, View], ...] = (
    ("GET", f"{MODEL}/xet-read-token/<selector:revision>", xet_reads.read_token),
    ("GET", "/api/xet/read/v1/reconstructions/<sha256>", xet_reads.reconstruct),
    ("GET", "/api/xet/read/v1/packs", xet_reads.send_pack),
    ("GET", f"{MODEL}/xet-write-token/<selector:revision>", xet_routes.write_token),
    ("GET", "/api/xet/<period>/<space>/v1/chunks/<prefix>/<name>", xet_routes.find_chunk),
    ("POST", "/api/xet/<period>/<space>/v1/xorbs/<prefix>/<name>", xet_routes.put_xorb),
    ("POST", "/api/xet/<period>/<space>/v1/shards", xet_routes.put_shard),
)

# Requests without our token: the answer is the same whether the adapter exists or not.
GIT_ROUTES: tuple[tuple[str, str, View], ...] = (("GET", f"{REPO}/info/refs", manage.refuse_git),)

# Kinds of repositories that we don't keep still need an error that the client understands.
MISSING_ROUTES: tuple[tuple[str, str, View], ...] = (
    ("GET", "/api/models/<name>", info.missing),
    ("GET", "/api/models/<name>/refs", info.missing),
    ("GET", "/api/models/<name>/<any(revision, commits):what>/<selector:revision>", info.missing),
    ("GET", "/api/models/<name>/tree/<selector:revision>", info.missing),
    ("GET", "/api/models/<name>/tree/<selector:revision>/<filepath:path>", info.missing),
    ("POST", "/api/models/<name>/paths-info/<selector:revision>", info.missing),
    ("GET", "/<name>/resolve/<selector:revision>/<filepath:path>", info.resolve_missing),
    ("GET", "/api/<any(datasets, spaces, kernels):kind>/<filepath:name>", info.missing),
    ("GET", "/<any(datasets, spaces, kernels):kind>/<filepath:name>", info.missing),
)

# Routes that stream their body; the application's size limit is for bodies read whole into memory.
BODY_LIMITS: dict[str, Callable[[ServerSettings], int]] = {
    "hf.commit": lambda _: commit.MAX_BODY_BYTES,
    "hf.lfs_put": lambda settings: settings.max_upload_bytes,
    "hf.put_xorb": lambda _: 2 * xorb.MAX_XORB_BYTES,
    "hf.put_shard": lambda _: shard.MAX_SHARD_BYTES,
}


def install(app: Flask, _registry: Registry, _settings: ServerSettings) -> tuple[Blueprint, ...]:
    """Add the Hugging Face wire to `app`; return its blueprint, which reads no cookies."""
    blueprint = make_blueprint()
    app.register_blueprint(blueprint)
    app.wsgi_app = DropTelemetry(app.wsgi_app)  # type: ignore[method-assign]
    return (blueprint,)


def make_blueprint() -> Blueprint:
    hf = Blueprint("hf", __name__)
    hf.before_request(_set_body_limit)
    for method, rule, view in (*READ_ROUTES, *MISSING_ROUTES):
        hf.add_url_rule(rule, view.__name__, _or_upstream(view), methods=[method])
    for method, rule, view in (*WRITE_ROUTES, *XET_ROUTES, *GIT_ROUTES):
        hf.add_url_rule(rule, view.__name__, view, methods=[method])
    for kind in (HubError, HTTPException, Exception):
        hf.register_error_handler(kind, hf_errors.answer)
    return hf


@cache
def _or_upstream(view: View) -> View:
    """Ask the upstream for a repository that isn't here.  A view used by several rules is wrapped once."""

    @wraps(view)
    def answer(**args: str) -> Any:
        try:
            return view(**args)
        except (AdapterNotFound, NamespaceNotFound):
            found = upstream.forward(args)
            if found is None:
                raise
            return found

    return answer


def _set_body_limit() -> None:
    limit = BODY_LIMITS.get(request.endpoint or "")
    if limit is not None:
        request.max_content_length = limit(settings())
