"""Repositories on the Hugging Face wire: create, delete, move, settings, tags, branches, and the card's check."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from flask import Response, jsonify

from hub.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NamespaceNotFound,
    PreconditionFailed,
    Unauthenticated,
)
from hub.formats.front_matter import split_front_matter
from hub.refs import AdapterName, parse_alias
from hub.registry.rights.access import Actor

from ..http.addresses import public_root
from ..http.identity import current_actor, registry
from .names import MAIN, plain_revision, repo_name, tree_at
from .upload import json_body


def create_repo() -> Response:
    """Create an empty adapter; 409 with its URL if it exists."""
    actor, body = _signed_in(), json_body()
    repo = _named(body)
    if body.get("type") not in (None, "model"):
        raise InvalidRequest(f"lorahub keeps LoRA adapters, which are models; it has no {str(body['type'])[:80]}s.")
    url = f"{public_root()}/{repo}"
    try:
        created = registry().adapters.create(actor, repo, private=_is_new_private(actor, repo, body))
    except Conflict as error:
        response = jsonify({"error": error.message, "url": url})
        response.headers["X-Error-Message"] = f"You already created this model repo: {repo}"
        response.status_code = 409
        return response
    return jsonify({"url": url, "name": str(created.name), "id": f"{created.id:024x}"})


def _is_new_private(actor: Actor, repo: AdapterName, body: dict[str, Any]) -> bool:
    """Whether a new adapter is private: as the request says, else as its namespace is."""
    said = _is_private(body)
    if said is not None:
        return said
    with suppress(NamespaceNotFound):
        return registry().namespaces.get(actor, repo.namespace).private
    return False


def delete_repo() -> Response:
    """Delete an adapter, within the registry's limits for owners."""
    registry().adapters.delete(_signed_in(), _named(json_body()))
    return jsonify({})


def move_repo() -> Response:
    """Refuse: a name is never reused for other content."""
    _signed_in()
    body = json_body()
    raise Forbidden(
        f"{body.get('fromRepo')} keeps its name: whoever refers to it must find it. "
        f"Upload to {body.get('toRepo')}, then deprecate the old one: lorahub deprecate {body.get('fromRepo')}"
    )


def settings(namespace: str, name: str) -> Response:
    """Change who may read an adapter."""
    actor, body = _signed_in(), json_body()
    changes: dict[str, bool] = {}
    if (private := _is_private(body)) is not None:
        changes["private"] = private
    if "gated" in body:
        changes["gated"] = bool(body["gated"])
    if not changes:
        raise InvalidRequest("Say what to change: visibility or gated.")
    updated = registry().adapters.update(actor, repo_name(namespace, name), **changes)
    return jsonify({"private": updated.private, "visibility": "private" if updated.private else "public"})


def create_tag(namespace: str, name: str, revision: str) -> Response:
    """Create an alias of the version that a revision names.  409 if the name is taken."""
    actor, repo = _signed_in(), repo_name(namespace, name)
    tag = str(json_body().get("tag") or "").removeprefix("refs/tags/")
    found = tree_at(actor, repo, revision)
    if any(tag == f"v{version.number}" for version in registry().versions.list(actor, repo)):
        raise Conflict(f"Tag {tag} exists already: it is a version of {repo}.")
    alias = parse_alias(tag)
    if found.commit.version is None:
        raise InvalidRequest(f"{revision} of {repo} is a draft, which can't be tagged. {found.commit.problem or ''}")
    try:
        registry().aliases.set(actor, repo, alias, found.commit.version, expected=None)
    except PreconditionFailed as error:
        raise Conflict(f"Tag {alias} exists already in {repo}. Delete it first, or move it: lorahub alias") from error
    return jsonify({})


def delete_tag(namespace: str, name: str, tag: str) -> Response:
    """Delete an alias.  A version's own tag stays: versions are deleted with `lorahub delete`."""
    actor, repo = _signed_in(), repo_name(namespace, name)
    alias = tag.removeprefix("refs/tags/")
    if any(alias == f"v{version.number}" for version in registry().versions.list(actor, repo)):
        raise Forbidden(f"{alias} is a version of {repo}, not a tag that could be deleted.")
    registry().aliases.delete(actor, repo, alias)
    return jsonify({})


def create_branch(namespace: str, name: str, branch: str) -> Response:
    """Create a branch at a version; its versions are never the latest.  409 if it exists."""
    actor, repo = _signed_in(), repo_name(namespace, name)
    wanted = branch.removeprefix("refs/heads/")
    known = {MAIN, *(each.name for each in registry().lanes.branches(actor, repo))}
    if wanted in known:
        raise Conflict(f"Reference refs/heads/{wanted} already exists in {repo}.")
    start = tree_at(actor, repo, str(json_body(allow_empty=True).get("startingPoint") or MAIN))
    registry().lanes.create_branch(actor, repo, wanted, start.commit.id)
    return jsonify({})


def delete_branch(namespace: str, name: str, branch: str) -> Response:
    """Delete a branch, whose versions stay, or drop a draft.  `main` stays."""
    actor, repo = _signed_in(), repo_name(namespace, name)
    wanted = plain_revision(branch)
    if wanted == MAIN:
        raise Forbidden(f"Cannot delete refs/heads/main: it is what everybody reads of {repo}, and stays.")
    registry().lanes.delete(actor, repo, wanted)
    return jsonify({})


def squash(namespace: str, name: str, branch: str) -> Response:
    """Refuse: published versions never change."""
    raise Forbidden(f"The history of {repo_name(namespace, name)} can't be squashed: published versions never change.")


def refuse_git(namespace: str, name: str) -> Response:
    """Tell `git clone` that there is no git here, and what to use instead: git prints a plain-text error body."""
    repo = f"{namespace}/{name.removesuffix('.git')}"
    text = f"lorahub keeps versions, no git repositories. Download one with: hf download {repo}\n"
    return Response(text, 404, mimetype="text/plain")


def validate_yaml() -> Response:
    """Check a card's front matter, as `upload` does before it sends a README."""
    content = json_body().get("content")
    if not isinstance(content, str):
        raise InvalidRequest("The request has no content.")
    problem = _card_problem(content)
    if problem:
        response = jsonify({"errors": [{"message": problem}], "warnings": [], "error": problem})
        response.status_code = 400
        return response
    return jsonify({"errors": [], "warnings": []})


def _card_problem(content: str) -> str | None:
    """Return what is wrong with the parts of a card's front matter that clients and the catalog use."""
    front = split_front_matter(content.lstrip())[0]  # clients skip leading empty lines, too
    index = front.fields.get("model-index")
    if not front.problem and index is not None and not _is_model_index(index):
        return '"model-index" must be a list of objects with a name and results.'
    return front.problem or None


def _is_model_index(index: object) -> bool:
    return isinstance(index, list) and all(isinstance(each, dict) and "name" in each for each in index)


def _signed_in() -> Actor:
    """Return the caller.  Raises Unauthenticated if anonymous."""
    actor = current_actor()
    if actor.is_anonymous:
        raise Unauthenticated("Log in first: this takes a token. Run `hf auth login`, or set HF_TOKEN.")
    return actor


def _named(body: dict[str, Any]) -> AdapterName:
    """Return the adapter that a body names; without an organization, it is in the caller's own namespace."""
    name = str(body.get("name") or "")
    organization = body.get("organization") or current_actor().user
    return AdapterName.parse(name if "/" in name else f"{organization}/{name}")


def _is_private(body: dict[str, Any]) -> bool | None:
    """Read `visibility` (newer clients) or `private`; None if neither is said."""
    visibility = body.get("visibility")
    if visibility is not None:
        if visibility not in ("public", "private"):
            raise InvalidRequest(f"visibility is {str(visibility)[:80]!r}; it may be public or private.")
        return bool(visibility == "private")
    private = body.get("private")
    return None if private is None else bool(private)
