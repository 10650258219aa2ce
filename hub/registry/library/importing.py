"""Import: fetch one version from another lorahub or a Hugging Face Hub, by URL, and publish it here.

    https://hub.example.com/task/qa            the main revision
    https://hub.example.com/task/qa@v3         a revision: a version, tag, branch or commit
    https://huggingface.co/someone/adapter/tree/main

Both speak the Hugging Face wire, so the same code reads both.  Only files that a registry stores are fetched, each is
bounded in size and hashed, and the server connects to public addresses only (outgoing.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from hub.adapter.file_rules import Verdict, rule_for
from hub.adapter.files import build_manifest
from hub.adapter.publication import Publication
from hub.errors import FileNotFound, InvalidRequest, NetworkError, TooLarge
from hub.formats.readable import Readable
from hub.manifest import CONFIG_FILE, WEIGHTS_FILE, FileEntry, check_paths
from hub.refs import AdapterName
from hub.registry.context import Context
from hub.registry.events.outgoing import Deadline, open_client, parse_url, send_following
from hub.registry.library import blobs, publish
from hub.registry.library.files import StoredReadable
from hub.registry.library.lookup import check_may_publish
from hub.registry.rights.access import Actor
from hub.registry.values import Published

MAX_FILES = 200
MAX_SECONDS = 1800.0
MAX_LISTING_BYTES = 4 * 1024 * 1024
_REPO = re.compile(r"/(?:(?:models)/)?([\w.-]{1,96})/([\w.-]{1,96})(?:@([\w./-]{1,200})|/tree/([\w./-]{1,200}))?/?\Z")


@dataclass(frozen=True, slots=True)
class Source:
    """A repository elsewhere: its server, its name there, and the requested revision."""

    endpoint: str
    repo: str
    revision: str


def parse_source(url: str) -> Source:
    """Raise InvalidRequest unless `url` names a repository on a hub."""
    parts = urlsplit(parse_url(url))
    found = _REPO.match(parts.path)
    if found is None or parts.query or parts.fragment:
        raise InvalidRequest("Name the adapter's page, e.g. https://hub.example.com/task/qa@v3.")
    owner, name, after_at, after_tree = found.groups()
    return Source(f"{parts.scheme}://{parts.netloc}", f"{owner}/{name}", after_at or after_tree or "main")


def import_version(
    context: Context,
    actor: Actor,
    name: AdapterName,
    url: str,
    *,
    message: str = "",
    token: str | None = None,
    deadline: Deadline | None = None,
) -> Published:
    """Fetch a version from another lorahub or a Hugging Face Hub and publish it.  PUBLISH.  SSRF rules hold.

    deadline: for all network requests together; another thread may shorten it.  Raises NetworkError when it passes.
    """
    source = parse_source(url)
    with context.database.read() as session:
        check_may_publish(session, actor, name)
    with open_client(context.settings.trusted_hosts, deadline=deadline or Deadline(MAX_SECONDS)) as client:
        remote = _Remote(client, source, _headers(token))
        commit, paths = remote.list_files()
        files = {path: _fetch(context, actor, name, remote, commit, path) for path in paths}
    readables: dict[str, Readable] = {
        path: StoredReadable(context.store, entry.sha256, entry.size) for path, entry in files.items()
    }
    manifest = build_manifest(readables, known=files)
    message = message or f"Imported from {source.endpoint}/{source.repo} at {commit[:12]}"
    return publish.publish(context, actor, name, manifest, Publication(message=message))


def _headers(token: str | None) -> dict[str, str]:
    return {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {})


@dataclass(frozen=True, slots=True)
class _Remote:
    """An open source, with the HTTP client and headers to read it."""

    client: httpx2.Client
    source: Source
    headers: dict[str, str]

    def list_files(self) -> tuple[str, list[str]]:
        """Return the commit that the revision names now, and the adapter's files."""
        source = self.source
        url = f"{source.endpoint}/api/models/{source.repo}/revision/{quote(source.revision, safe='')}"
        listing = _get_json(self.client, url, self.headers)
        commit, siblings = listing.get("sha"), listing.get("siblings")
        if not isinstance(commit, str) or not re.match(r"[0-9a-f]{40}\Z", commit) or not isinstance(siblings, list):
            raise NetworkError(f"{source.endpoint} does not answer as a hub does.")
        names = [item.get("rfilename") for item in siblings if isinstance(item, dict)]
        return commit, _wanted(source, [name for name in names if isinstance(name, str)])


def _wanted(source: Source, names: Iterable[str]) -> list[str]:
    """Raises FileNotFound if they are not an adapter, TooLarge if there are too many."""
    kept = sorted(name for name in names if _is_wanted(name))
    for needed in (CONFIG_FILE, WEIGHTS_FILE):
        if needed not in kept:
            raise FileNotFound(f"{source.repo} at {source.revision} has no {needed}: it is no adapter in safetensors.")
    if len(kept) > MAX_FILES:
        raise TooLarge(f"{source.repo} has {len(kept):,} files; an import takes at most {MAX_FILES}.")
    check_paths(kept)
    return kept


def _is_wanted(path: str) -> bool:
    if path.endswith(".safetensors") and path != WEIGHTS_FILE:
        return False
    return rule_for(path).verdict is Verdict.KEEP


def _get_json(client: httpx2.Client, url: str, headers: dict[str, str]) -> dict[str, Any]:
    response = send_following(client, url, headers)
    try:
        _check_status(response, url)
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > MAX_LISTING_BYTES:
                raise TooLarge("The list of files is longer than any adapter's.")
        payload = json.loads(bytes(body))
    except (httpx2.HTTPError, ValueError) as error:
        raise NetworkError(f"{urlsplit(url).netloc} does not answer as a hub does.") from error
    finally:
        response.close()
    return payload if isinstance(payload, dict) else {}


def _fetch(context: Context, actor: Actor, name: AdapterName, remote: _Remote, commit: str, path: str) -> FileEntry:
    url = f"{remote.source.endpoint}/{remote.source.repo}/resolve/{commit}/{quote(path)}"
    response = send_following(remote.client, url, remote.headers)
    try:
        _check_status(response, url)
        size = _content_length(response)
        sha256, size = blobs.put_blob(context, actor, name, _ResponseStream(response), None, size)
    except httpx2.HTTPError as error:
        raise NetworkError(f"{urlsplit(url).netloc} broke off: {error}. Try again.") from error
    finally:
        response.close()
    return FileEntry(path, size, sha256)


def _check_status(response: httpx2.Response, url: str) -> None:
    host = urlsplit(url).netloc
    if response.status_code in {401, 403, 404}:
        raise FileNotFound(f"{host} has no such thing, or wants a token for it ({response.status_code}).")
    if response.status_code != 200:
        raise NetworkError(f"{host} answered {response.status_code}. Try again later.")


def _content_length(response: httpx2.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() and len(text) < 19 else None


class _ResponseStream:
    """A response's body as a ByteStream."""

    def __init__(self, response: httpx2.Response) -> None:
        self._pieces = response.iter_raw()
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        if not self._rest:
            self._rest = next(self._pieces, b"")
        if size < 0:
            size = len(self._rest)
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece
