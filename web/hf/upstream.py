"""A caching proxy for another hub's repositories: off unless `--upstream` names the hub.

Repositories unknown here are fetched with the server's own token and cached.  A caller's token is never forwarded.  Of
the upstream's answers only the headers listed below and the bodies are passed on, without Xet hashes, so that no client
looks for the upstream's Xet storage.  Connections, also after redirects, reach public addresses only (outgoing.py).

A namespace that exists here is never looked up there: no public repository can shadow a private adapter.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urljoin, urlsplit

import httpx2
from flask import Response, current_app, jsonify, request, url_for

from hub.errors import InvalidRequest, NetworkError, TooLarge, Unavailable
from hub.manifest import FileEntry
from hub.registry.events.outgoing import open_client, send_following
from hub.registry.values import StoredFile

from ..http.addresses import public_root
from ..http.files import disposition, send_stored
from ..http.identity import current_actor, registry, settings
from .upstream_cache import UpstreamCache

_CLIENT = "lorahub.upstream"
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_MAX_JSON_BYTES = 32 * 1024 * 1024
_BLOCK_BYTES = 1024 * 1024
_MAX_HOPS = 5
_KEPT_HEADERS = ("X-Repo-Commit", "X-Error-Code", "X-Error-Message", "X-HF-Warning")
_XET_FIELDS = frozenset({"xetHash", "xet_hash", "xetEnabled"})

log = logging.getLogger(__name__)


def forward(args: dict[str, str]) -> Response | None:
    """Return the upstream's answer to this request, or None if this caller gets none.

    args: the route's arguments: namespace (not for a repository without one), name, revision, path.
    """
    if "name" not in args or args.get("kind") or not _may_forward(args.get("namespace")):
        return None
    fixed = _COMMIT.match(args.get("revision", "")) is not None
    if request.endpoint in {"hf.resolve", "hf.resolve_missing"}:
        return _forward_file(_address(), args["path"], fixed)
    return _forward_json(_address(), fixed)


def _may_forward(namespace: str | None) -> bool:
    used = settings()
    if used.upstream is None or (namespace is not None and registry().namespaces.is_taken(namespace)):
        return False
    # The server's token may open private repositories, so its answers are only for logged-in users.
    return used.upstream_token is None or not current_actor().is_anonymous


def _address() -> str:
    """Return this request's path and query, rebuilt from the route's arguments."""
    path = url_for(request.endpoint or "", _method=request.method, **(request.view_args or {}))
    if any(part in {".", ".."} for part in unquote(path).split("/")):
        raise InvalidRequest("An address may not go up with '..'.")
    query = request.query_string.decode("latin-1")
    return f"{path}?{query}" if query else path


# Answers ------------------------------------------------------------------------------------------------------------


def _forward_json(address: str, fixed: bool) -> Response | None:
    """Answer with a JSON document of the upstream: fresh, or cached if it is immutable or the upstream is down."""
    body = request.get_data() if request.method == "POST" else None
    key = f"{request.method} {address} {(body or b'').decode('utf-8', 'replace')}"
    known = _cache().recall(key)
    if known is None or not fixed:
        try:
            known = _ask(address, body)
            if known["status"] == 200:
                _cache().remember(key, known)
        except NetworkError:
            if known is None:
                raise
    return _to_response(known)


def _ask(address: str, body: bytes | None) -> dict[str, Any]:
    """Return status, headers and JSON of the upstream's answer."""
    response = _send("POST" if body is not None else "GET", _upstream(address), body)
    try:
        content = _read_json(response)
    finally:
        response.close()
    if response.status_code >= 500:
        raise NetworkError(f"The upstream answered {response.status_code}. Try again later.")
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    if "next" in response.links:
        headers["Link"] = f'<{_own_url(response.links["next"]["url"])}>; rel="next"'
    return {"status": response.status_code, "headers": headers, "json": without_xet(content)}


def _to_response(known: dict[str, Any]) -> Response | None:
    if known["status"] == 401 or known["headers"].get("X-Error-Code") == "RepoNotFound":
        return None
    response = jsonify(known["json"])
    response.status_code = known["status"]
    response.headers.extend(known["headers"])
    return response


def without_xet(value: Any) -> Any:
    """Return a JSON value without the fields that point a client to Xet storage."""
    if isinstance(value, dict):
        return {key: without_xet(item) for key, item in value.items() if key not in _XET_FIELDS}
    return [without_xet(item) for item in value] if isinstance(value, list) else value


# Files --------------------------------------------------------------------------------------------------------------


def _forward_file(address: str, path: str, fixed: bool) -> Response | None:
    facts = _facts(address, fixed)
    if facts["status"] != 200:
        return _to_response(facts)
    headers = {"X-Repo-Commit": facts["commit"], "X-Linked-Etag": f'"{facts["etag"]}"', "X-Linked-Size": facts["size"]}
    entry = FileEntry(path, int(facts["size"]), facts["etag"])
    stored = StoredFile(
        entry=entry,
        version=None,
        commit=facts["commit"],
        open=lambda start, stop: _read_part(address, start, stop),
    )
    kept = _cache().find(facts["etag"], entry.size)
    if kept is not None and (answer := _send_kept(kept, stored, headers)) is not None:
        return answer
    if request.method == "GET" and request.headers.get("Range") in {None, "bytes=0-"}:
        return _pass_on(address, entry, headers)
    return send_stored(stored, headers=headers)


def _send_kept(kept: Path, stored: StoredFile, headers: Mapping[str, str]) -> Response | None:
    """Answer with the cached file; None if it was evicted, so that the caller asks the upstream."""
    try:
        return send_stored(replace(stored, local_path=str(kept)), headers=headers)
    except (Unavailable, OSError) as error:
        # Most likely another worker has just evicted it.
        log.info("%s is asked of the upstream: its kept file can't be opened: %s", stored.entry.path, error)
        return None


def _facts(address: str, fixed: bool) -> dict[str, Any]:
    """Return a file's commit, ETag and size from a HEAD; the cached ones if the upstream is down."""
    key = f"HEAD {address}"
    known = _cache().recall(key)
    if known is not None and fixed:
        return known
    try:
        found = _head(_upstream(address))
    except NetworkError:
        if known is None:
            raise
        return known
    if found["status"] == 200:
        _cache().remember(key, found)
    return found


def _head(url: str) -> dict[str, Any]:
    """Send a HEAD for a file; follow redirects within the upstream only, as Hugging Face clients do."""
    for _ in range(_MAX_HOPS):
        response = _send("HEAD", url)
        response.close()
        location = response.headers.get("Location")
        if not location or "X-Linked-Etag" in response.headers or not _same_origin(url, urljoin(url, location)):
            return _parse_head(response)
        url = urljoin(url, location)
    raise NetworkError("The upstream redirects in circles.")


def _parse_head(response: httpx2.Response) -> dict[str, Any]:
    headers = response.headers
    if response.status_code >= 500:
        raise NetworkError(f"The upstream answered {response.status_code}. Try again later.")
    if response.status_code >= 400:
        kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        return {"status": response.status_code, "headers": kept, "json": {"error": headers.get("X-Error-Message", "")}}
    etag = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").removeprefix("W/").strip('"')
    size = headers.get("X-Linked-Size") or headers.get("Content-Length") or ""
    commit = headers.get("X-Repo-Commit", "")
    if not etag or not size.isdigit() or not _COMMIT.match(commit):
        raise NetworkError("The upstream does not answer like a Hub: commit, ETag or size is missing.")
    return {"status": 200, "headers": {}, "commit": commit, "etag": etag, "size": size}


def _pass_on(address: str, entry: FileEntry, headers: dict[str, str]) -> Response:
    """Stream a whole file to the caller, and cache it on the way."""
    source = send_following(_client(), _upstream(address), _own_headers())
    if source.status_code != 200:
        source.close()
        raise NetworkError(f"The upstream answered {source.status_code} to {entry.path}. Try again later.")
    blocks = _cache().keep(entry.sha256, entry.size, _blocks(source))
    response = Response(blocks, 200, mimetype="application/octet-stream", direct_passthrough=True)
    response.content_length = entry.size
    response.set_etag(entry.sha256)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Content-Disposition"] = disposition(entry.path)
    response.headers.extend(headers)
    return response


def _blocks(source: httpx2.Response) -> Iterator[bytes]:
    try:
        yield from source.iter_raw(_BLOCK_BYTES)
    finally:
        source.close()


def _read_part(address: str, start: int, stop: int) -> Iterator[bytes]:
    """Yield a part of a file that is not cached."""
    headers = _own_headers() | {"Range": f"bytes={start}-{stop - 1}"}
    source = send_following(_client(), _upstream(address), headers)
    if source.status_code != 206:
        source.close()
        raise NetworkError(f"The upstream answered {source.status_code} to a range. Try again later.")
    return _blocks(source)


# The upstream -------------------------------------------------------------------------------------------------------


def _send(method: str, url: str, body: bytes | None = None) -> httpx2.Response:
    client = _client()
    headers = _own_headers()
    if body is not None:
        headers["Content-Type"] = request.headers.get("Content-Type", "application/json")
    elif method == "GET":
        return send_following(client, url, headers)
    try:
        return client.send(client.build_request(method, url, headers=headers, content=body), stream=True)
    except httpx2.HTTPError as error:
        raise NetworkError(f"{urlsplit(url).netloc} did not answer: {error}. Try again later.") from error


def _own_headers() -> dict[str, str]:
    """Return the server's own headers: its token, never the caller's."""
    token = settings().upstream_token
    identity = {"Accept-Encoding": "identity"}
    return identity | {"Authorization": f"Bearer {token}"} if token else identity


def _read_json(response: httpx2.Response) -> Any:
    data = b""
    for block in response.iter_bytes(_BLOCK_BYTES):
        data += block
        if len(data) > _MAX_JSON_BYTES:
            raise TooLarge(f"The upstream's answer has more than {_MAX_JSON_BYTES:,} bytes.")
    try:
        return json.loads(data)
    except ValueError:
        return {"error": response.headers.get("X-Error-Message", "The upstream gave no reason.")}


def _upstream(address: str) -> str:
    return (settings().upstream or "").rstrip("/") + address


def _own_url(url: str) -> str:
    """Return a URL of the upstream rewritten to this server."""
    parts = urlsplit(url)
    return f"{public_root()}{parts.path}?{parts.query}"


def _same_origin(left: str, right: str) -> bool:
    return urlsplit(left)[:2] == urlsplit(right)[:2]


def _cache() -> UpstreamCache:
    used = settings()
    return UpstreamCache(used.data / "upstream", used.upstream_cache_bytes)


def _client() -> httpx2.Client:
    """Return this process's client, with its open connections."""
    if _CLIENT not in current_app.extensions:
        current_app.extensions[_CLIENT] = open_client(settings().trusted_hosts, max_connections=settings().threads)
    return cast("httpx2.Client", current_app.extensions[_CLIENT])
