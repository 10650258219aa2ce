"""Writing files on the Hugging Face wire: `preupload`, the LFS URLs, and `commit`.

    preupload -> [LFS batch -> PUT …] or [Xet: see xet_routes.py] -> commit

A commit goes to `main`, or to a branch.  If the result is a whole, valid adapter, it becomes the next version.  Until
then it is kept as its author's draft: readers of `main` don't see it, and the client is told what is missing.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from typing import Any

from flask import Response, jsonify, request

from hub.adapter.file_rules import Verdict, check_magic, rule_for
from hub.adapter.foreign import refuse_foreign_names, refuse_foreign_sample
from hub.errors import DraftKept, Forbidden, InvalidRequest, Unauthenticated, UnsafeFile
from hub.formats.readable import SHA256_HEX
from hub.manifest import CONFIG_FILE, WEIGHTS_FILE, check_path
from hub.refs import AdapterName
from hub.registry.context import DRAFT_LIFETIME
from hub.registry.library.drafts import Change
from hub.registry.rights.access import Action, Actor
from hub.registry.values import Commit

from ..http.addresses import public_root, public_url_for
from ..http.identity import current_actor, registry
from . import signing
from .commit import Delete, Header, Operation, PutBlob, PutBytes, apply, as_stream, read_operations
from .errors import warn
from .gitignore import IgnoreRules
from .names import MAIN, WireFile, has_object_store, is_lfs, plain_revision, repo_name, tree_at

LFS_ADDRESS_SECONDS = 24 * 3600
_MAX_FILES = 1_000
_RELEASE = re.compile(r"\bhf_hub/(\d{1,4})\.(\d{1,4})")
_FIRST_THAT_WARNS = (1, 13)
_TRAINING = re.compile(r"Training in progress\b")
"""How transformers' Trainer names what it pushes at every save."""
_SAVED_ON_THE_WAY = "It was saved on the way. trainer.push_to_hub(), at the end of training, makes the version."
_CHECKPOINT = re.compile(r"(last-checkpoint|checkpoint-\d+)/")
_LFS_PURPOSE = "lfs"
_LFS_JSON = "application/vnd.git-lfs+json"


def preupload(namespace: str, name: str, revision: str) -> Response:
    """Return for each file how to upload it, whether to skip it, and the id of the present file of that name."""
    repo = writable_repo(namespace, name, revision)
    payload, actor = json_body(), current_actor()
    start = registry().commits.start(actor, repo, branch_of(repo, revision))
    # While there is a draft, no file counts as present: a client with nothing to send would skip the commit, and so
    # never see what the draft lacks.
    known = {} if start.draft else _files_at(actor, repo, start.head)
    ignored = IgnoreRules.parse(str(payload.get("gitIgnore") or ""))
    asked = _asked_files(payload)
    files = [_judge(file, known, ignored) for file in asked]
    _refuse_checkpoint(files)
    refuse_foreign_names(file["path"] for file in files if not file["shouldIgnore"])
    response = jsonify({"files": [{key: value for key, value in file.items() if key != "reason"} for file in files]})
    left_out = [f"{file['path']} ({file['reason']})" for file in files if file.get("reason")]
    if left_out:
        warn(response, f"left out {left_out[0]}", f"Not stored: {'; '.join(left_out[:10])}.")
    return response


def lfs_batch(namespace: str, name: str) -> Response:
    """Return an upload URL for each large file; none for a file that is already here."""
    repo = writable_repo(namespace, name, MAIN)
    payload = json_body()
    if payload.get("operation") != "upload":
        raise InvalidRequest(f"This LFS address takes uploads; read files at /{namespace}/{name}/resolve/….")
    actor = current_actor()
    objects = [_lfs_object(item) for item in _list(payload, "objects")]
    missing = set(registry().blobs.missing(actor, repo, objects))
    transfers = _list(payload, "transfers") if payload.get("transfers") else ["basic"]
    answers, chosen = [], "basic"
    for oid, size in objects:
        answer: dict[str, Any] = {"oid": oid, "size": size}
        if (oid, size) in missing:
            upload, mode = _lfs_action(actor, repo, oid, size, "multipart" in transfers)
            answer["actions"] = {"upload": upload}
            chosen = mode
        answers.append(answer)
    response = jsonify({"transfer": chosen, "objects": answers})
    response.mimetype = _LFS_JSON
    return response


def lfs_put() -> Response:
    """Receive one large file at a URL that `lfs_batch` signed."""
    grant = _lfs_grant()
    registry().blobs.put(grant.actor, grant.repo, request.stream, grant.claims["oid"], grant.claims["size"])
    return Response(status=200)


def lfs_complete() -> Response:
    """Complete a multipart upload that a client sent directly to the object store."""
    grant = _lfs_grant()
    parts = [_lfs_part(part) for part in _list(json_body(), "parts")]
    if "upload" not in grant.claims:
        raise InvalidRequest("This address takes one whole file (PUT), not the end of an upload in parts.")
    registry().uploads.complete(grant.actor, grant.claims["upload"], parts)
    return Response(status=200)


def _lfs_part(part: Any) -> tuple[int, str]:
    number, etag = (part.get("partNumber"), part.get("etag")) if isinstance(part, dict) else (None, None)
    if type(number) is not int or not isinstance(etag, str):
        raise InvalidRequest('Each part is an object such as {"partNumber": 1, "etag": "…"}.')
    return number, etag


def commit(namespace: str, name: str, revision: str) -> Response:
    """Apply a commit to `main` or to a branch."""
    repo = writable_repo(namespace, name, revision)
    actor = current_actor()
    header, changes = _read_commit(actor, repo)
    change = Change(
        edit=lambda tree: apply(changes, tree),
        title=header.title,
        description=header.description,
        parent=header.parent,
        branch=branch_of(repo, revision),
        held=_SAVED_ON_THE_WAY if _TRAINING.match(header.title) else None,
    )
    made = registry().commits.create(actor, repo, change)
    url = f"{public_root()}/{repo}/commit/{made.id}"
    response = jsonify({"success": True, "commitUrl": url, "commitOid": made.id, "hookOutput": ""})
    return tell_of_draft(response, actor, repo, made) if made.problem else response


def tell_of_draft(response: Response, actor: Actor, repo: AdapterName, made: Commit) -> Response:
    """Make the client print that its commit is a draft.  Raises DraftKept for a client that prints no warnings."""
    ref = f"refs/{made.lane}"
    text = (
        f"{repo} has no new version: {(made.problem or '').rstrip('.')}. What you sent is kept as your draft {ref} for "
        f"{DRAFT_LIFETIME.days} days; send the rest, or drop it: hf repos branch delete {repo} {ref}"
    )
    if not prints_warnings(request.headers.get("User-Agent", "")) and made.problem != _SAVED_ON_THE_WAY:
        tree = registry().commits.tree(actor, repo, made.id)
        if tree.adapter.version_count or {CONFIG_FILE, WEIGHTS_FILE} & {file.path for file in tree.files}:
            raise DraftKept(text, commit=made.id, draft=ref)
    return warn(response, f"draft {made.id}", text)


def prints_warnings(user_agent: str) -> bool:
    """Whether a client prints what `X-HF-Warning` says.  Older releases drop it, so only an error reaches the user."""
    found = _RELEASE.search(user_agent)
    return found is not None and (int(found[1]), int(found[2])) >= _FIRST_THAT_WARNS


def writable_repo(namespace: str, name: str, revision: str) -> AdapterName:
    """Return the adapter if the caller may publish to it and `revision` is where commits go.

    Raises AdapterNotFound, Forbidden, or InvalidRequest for a version or an alias: those never change.
    """
    repo, actor = repo_name(namespace, name), current_actor()
    if request.args.get("create_pr") in {"1", "true"}:
        raise InvalidRequest(f"{repo} takes no pull requests: commit to main, which makes the next version.")
    found = registry().adapters.get(actor, repo)
    if actor.is_anonymous:
        raise Unauthenticated("Log in first: writing takes a token. Run `hf auth login`, or set HF_TOKEN.")
    if not registry().namespaces.may(actor, Action.PUBLISH, found.name.namespace):
        raise Forbidden(
            f"{actor.user} may read {repo} but not write to it: that takes the role publisher and a publish token."
        )
    branch_of(repo, revision)
    return repo


def branch_of(repo: AdapterName, revision: str) -> str:
    """Return the branch that a commit to `revision` goes to.  Raises VersionNotFound, or InvalidRequest for a tag."""
    actor, wanted = current_actor(), plain_revision(revision)
    if wanted in {MAIN, f"draft/{actor.user}"}:
        return MAIN
    if wanted in {branch.name for branch in registry().lanes.branches(actor, repo)}:
        return wanted
    tree_at(actor, repo, revision)
    raise InvalidRequest(
        f"{revision!r} of {repo} is no branch: a version or a tag never changes. Upload without a revision to make "
        "the next version."
    )


def _files_at(actor: Actor, repo: AdapterName, commit_id: str | None) -> dict[str, WireFile]:
    tree = registry().commits.tree(actor, repo, commit_id or MAIN)
    return {file.path: WireFile.of(file) for file in tree.files}


def _refuse_checkpoint(files: Sequence[dict[str, Any]]) -> None:
    """Raise InvalidRequest for a training checkpoint: without its optimizer state, training can't resume from it."""
    if files and all(_CHECKPOINT.match(file["path"]) for file in files):
        folder = files[0]["path"].partition("/")[0]
        raise InvalidRequest(
            f"{folder} is a checkpoint to resume from. Its optimizer is a pickle, which is never stored here, and "
            "training would go on without it. Keep checkpoints on your disk: hub_strategy='every_save' or 'end'."
        )


def _judge(file: dict[str, Any], known: dict[str, WireFile], ignored: IgnoreRules) -> dict[str, Any]:
    """Return the answer for one file.  Raises UnsafeFile for a kind that is never stored."""
    path, size = str(file.get("path", "")), file.get("size")
    if not isinstance(size, int) or size < 0:
        raise InvalidRequest(f"{path!r} is announced without a size.")
    rule = rule_for(path)
    if rule.verdict is Verdict.REFUSE:
        raise UnsafeFile(f"{path[:120]!r} is never stored: {rule.reason}", path=path[:200])
    if "\\" in path or ".." in path.split("/"):
        check_path(path)  # refused even if it would be ignored
    answer: dict[str, Any] = {"path": path, "uploadMode": "lfs" if is_lfs(path, size) and size else "regular"}
    if rule.verdict is Verdict.LEAVE_OUT or ignored.ignores(path):
        return answer | {"shouldIgnore": True, "reason": rule.reason}
    check_path(path)
    check_magic(path, _sample(file))
    refuse_foreign_sample(path, _sample(file))
    answer["shouldIgnore"] = False
    if path in known:
        answer["oid"] = known[path].etag
    return answer


def _sample(file: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(str(file.get("sample") or ""))
    except ValueError as error:
        raise InvalidRequest(f"The sample of {file.get('path')!r} is not base64.") from error


def _asked_files(payload: dict[str, Any]) -> list[dict[str, Any]]:
    files = [file for file in _list(payload, "files") if isinstance(file, dict)]
    if len(files) > _MAX_FILES:
        raise InvalidRequest(f"Ask for at most {_MAX_FILES:,} files at a time.")
    return files


def _lfs_object(item: Any) -> tuple[str, int]:
    try:
        oid, size = str(item["oid"]), item["size"]
    except (TypeError, KeyError) as error:
        raise InvalidRequest("An LFS object has an oid and a size.") from error
    if type(size) is not int:
        raise InvalidRequest(f"An LFS object's size is a whole number, not {str(size)[:40]!r}.")
    if not SHA256_HEX.match(oid):
        raise InvalidRequest(f"{oid[:80]!r} is not a sha256 in hex.")
    return oid, size


def _lfs_action(actor: Actor, repo: AdapterName, oid: str, size: int, may_split: bool) -> tuple[dict[str, Any], str]:
    """Return (action, transfer): parts directly to the object store if there is one, else one PUT to us."""
    if may_split and has_object_store():
        # Start a fresh multipart upload: these clients can't resume one that has parts already.
        upload = registry().uploads.start(actor, repo, oid, size, may_resume=False)
        ticket = signing.sign(_LFS_PURPOSE, actor, repo, oid=oid, size=size, upload=upload.id)
        parts = {f"{part.number:05d}": part.url for part in upload.parts}
        href = public_url_for("hf.lfs_complete", ticket=ticket)
        return {"href": href, "header": {"chunk_size": str(upload.part_size), **parts}}, "multipart"
    ticket = signing.sign(_LFS_PURPOSE, actor, repo, oid=oid, size=size)
    return {"href": public_url_for("hf.lfs_put", ticket=ticket)}, "basic"


def _lfs_grant() -> signing.Grant:
    # In the query, which is never logged: the ticket is a credential.
    ticket = request.args.get("ticket", "")
    refusal = Forbidden("This upload address has expired or was never given out. Start the upload again.")
    return signing.read(_LFS_PURPOSE, ticket, LFS_ADDRESS_SECONDS, refusal)


def _read_commit(actor: Actor, repo: AdapterName) -> tuple[Header, list[PutBlob | Delete]]:
    """Store the files inside the commit, and return its changes."""
    operations = read_operations(request.stream)
    first = next(operations, None)
    if not isinstance(first, Header):
        raise InvalidRequest("A commit starts with its header.")
    changes = [change for operation in operations for change in _store(actor, repo, operation)]
    _check_uploaded(actor, repo, changes)
    return first, changes


def _store(actor: Actor, repo: AdapterName, operation: Operation) -> Iterable[PutBlob | Delete]:
    if isinstance(operation, PutBytes):
        check_path(operation.path)
        size = len(operation.data)
        registry().blobs.put(actor, repo, as_stream(operation), operation.sha256, size)
        yield PutBlob(operation.path, operation.sha256, size)
    elif not isinstance(operation, Header):
        yield operation


def _check_uploaded(actor: Actor, repo: AdapterName, changes: Sequence[PutBlob | Delete]) -> None:
    """Raise for a file that was not uploaded, before anything is committed."""
    named = {(c.sha256, c.size): c.path for c in changes if isinstance(c, PutBlob) and c.size is not None}
    missing = registry().blobs.missing(actor, repo, list(named))
    if missing:
        paths = ", ".join(sorted(named[blob] for blob in missing)[:5])
        raise InvalidRequest(f"The bytes of {paths} were not uploaded, or have another size or sha256. Upload again.")


def json_body(*, allow_empty: bool = False) -> dict[str, Any]:
    """Return the request's JSON object, whatever its content type says.  Raises InvalidRequest."""
    body = {} if allow_empty and not request.content_length else request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise InvalidRequest("The request's body is not a JSON object.")
    return body


def _list(payload: dict[str, Any], key: str) -> list[Any]:
    value = payload.get(key)
    if not isinstance(value, list):
        raise InvalidRequest(f"The request's {key} are not a list.")
    return value
