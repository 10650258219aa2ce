"""Reading files on the Hugging Face wire: `resolve`, `tree`, `paths-info`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from flask import Response, g, jsonify, request

from hub.errors import FileNotFound
from hub.manifest import WEIGHTS_FILE
from hub.refs import AdapterName
from hub.registry.rights.access import Actor
from hub.registry.values import Commit, StoredFile, Tree

from ..http.counting import record_download
from ..http.files import send_stored
from ..http.identity import current_actor, registry
from . import xet_reads
from .names import WireFile, plain_revision, repo_name, tree_at, wire_time
from .warnings import warn_of, warn_of_tree


def resolve(namespace: str, name: str, revision: str, path: str) -> Response:
    """Answer GET and HEAD of a file at a revision."""
    actor, repo = current_actor(), repo_name(namespace, name)
    stored = _open(actor, repo, revision, path)
    entry = stored.entry
    file = WireFile(entry.path, entry.size, entry.sha256, stored.git_sha1)
    headers = {"X-Repo-Commit": stored.commit, "X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(file.size)}
    headers |= xet_reads.headers_of(repo, stored.commit, file.sha256, file.size)
    response = send_stored(stored, etag=file.etag, headers=headers)
    if _is_download(response, path):
        record_download(actor, stored)
    return warn_of(response, repo, stored.version, stored.yanked)


def tree(namespace: str, name: str, revision: str, path: str = "") -> Response:
    """List a folder, or with `?recursive=true` everything below it."""
    found = tree_at(current_actor(), repo_name(namespace, name), revision)
    g.hf_commit = found.commit.id
    files = [WireFile.of(file) for file in found.files]
    folder = path.strip("/")
    below = [file for file in files if not folder or file.path.startswith(f"{folder}/")]
    if folder and not below:
        raise FileNotFound(f"{found.adapter.name} has no folder {folder!r} at {revision}.")
    entries = _folders(below, folder) + [_entry(file) for file in below]
    if not _flag("recursive"):
        depth = len(PurePosixPath(folder).parts) + 1
        entries = [entry for entry in entries if len(PurePosixPath(str(entry["path"])).parts) == depth]
    if _flag("expand"):
        entries = [entry | {"lastCommit": _last_commit(found.commit)} for entry in entries]
    response = jsonify(entries)
    response.headers["X-Repo-Commit"] = found.commit.id
    return warn_of_tree(response, found)


def paths_info(namespace: str, name: str, revision: str) -> Response:
    """Return the entries of the requested paths, without those that don't exist."""
    found = tree_at(current_actor(), repo_name(namespace, name), revision)
    files = [WireFile.of(file) for file in found.files]
    known = {str(entry["path"]): entry for entry in _folders(files, "") + [_entry(file) for file in files]}
    entries = [known[path] for path in dict.fromkeys(_asked_paths()) if path in known]
    if _asked_expand():
        entries = [entry | {"lastCommit": _last_commit(found.commit)} for entry in entries]
    response = jsonify(entries)
    response.headers["X-Repo-Commit"] = found.commit.id
    return response


def _open(actor: Actor, repo: AdapterName, revision: str, path: str) -> StoredFile:
    """Open a file.  If it is missing, the error names the commit, which clients expect."""
    try:
        return registry().commits.open_file(actor, repo, plain_revision(revision), path)
    except FileNotFound as error:
        g.hf_commit = error.details["commit"]
        raise


def _is_download(response: Response, path: str) -> bool:
    """Whether this answer sends the weights from their start: the Hub counts the same."""
    starts = response.status_code in {200, 302} or (
        response.status_code == 206 and response.headers.get("Content-Range", "").startswith("bytes 0-")
    )
    counted = path == WEIGHTS_FILE or request.headers.get("X-HF-Download-Counter") == "1"
    return request.method == "GET" and starts and counted


def _entry(file: WireFile) -> dict[str, Any]:
    entry = dict(file.to_json())
    return entry | {"xetHash": file.sha256} if xet_reads.is_offered(file.size) else entry


def _folders(files: Iterable[WireFile], below: str) -> list[dict[str, Any]]:
    """Return the entries of all folders under `below` that hold `files`."""
    names = {
        str(parent)
        for file in files
        for parent in PurePosixPath(file.path).parents
        if str(parent) != "." and str(parent) != below and str(parent).startswith(below)
    }
    return [{"type": "directory", "path": path, "size": 0, "oid": _folder_id(path)} for path in sorted(names)]


def _folder_id(path: str) -> str:
    """Return an id in git's form.  No client compares folders, so it only has to be well-formed and stable."""
    return hashlib.sha1(b"tree " + path.encode(), usedforsecurity=False).hexdigest()


def _last_commit(commit: Commit) -> dict[str, Any]:
    return {"id": commit.id, "title": commit.title, "date": wire_time(commit.created_at)}


def _flag(name: str) -> bool:
    return request.args.get(name, "").lower() in {"1", "true"}


def _asked_paths() -> Sequence[str]:
    """Return the `paths` of a form, or of a JSON body, as one text or a list."""
    body = request.get_json(silent=True) if request.is_json else None
    if isinstance(body, dict):
        paths = body.get("paths", [])
        return [str(path) for path in paths] if isinstance(paths, list) else [str(paths)]
    return request.form.getlist("paths")


def _asked_expand() -> bool:
    body = request.get_json(silent=True) if request.is_json else None
    value = body.get("expand") if isinstance(body, dict) else request.form.get("expand", "")
    return value is True or str(value).lower() in {"1", "true"}


def siblings(found: Tree, *, blobs: bool) -> list[dict[str, Any]]:
    """Return the files as `model_info` lists them; with `blobs` also their sizes and ids."""
    return [_sibling(WireFile.of(file), blobs=blobs) for file in found.files]


def _sibling(file: WireFile, *, blobs: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": file.path}
    if blobs:
        entry |= {"size": file.size, "blobId": file.oid}
        if file.is_lfs:
            lfs = file.lfs_json()
            entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": lfs["pointerSize"]}
    return entry
