"""Repositories on the Hugging Face wire: create, delete, move, settings, tags, branches, and the card's check."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify

from hub.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
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
    """Create an empty adapter; 409 with its address if it is there already."""
    actor, body = _signed_in(), json_body()
    repo = _named(body)
    if body.get("type") not in (None, "model"):
        raise InvalidRequest(f"lorahub keeps LoRA adapters, which are models; it has no {str(body['type'])[:80]}s.")
    url = f"{public_root()}/{repo}"
    try:
        created = registry().adapters.create(actor, repo, private=_is_private(body) or False)
    except Conflict as error:
        response = jsonify({"error": error.message, "url": url})
        response.headers["X-Error-Message"] = f"You already created this model repo: {repo}"
        response.status_code = 409
        return response
    return jsonify({"url": url, "name": str(created.name), "id": f"{created.id:024x}"})


def delete_repo() -> Response:
    """Delete an adapter, as far as the registry lets its owner."""
    registry().adapters.delete(_signed_in(), _named(json_body()))
    return jsonify({})


def move_repo() -> Response:
    """Refuse: a name that was used once stays with its content."""
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
    """Make an alias for the version that a revision means.  409 if the name is taken."""
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
    """Let a branch go out from a version: what is committed to it never becomes the latest.  409 if it is there."""
    actor, repo = _signed_in(), repo_name(namespace, name)
    wanted = branch.removeprefix("refs/heads/")
    if wanted == MAIN:
        raise Conflict(f"{wanted} exists already in {repo}.")
    start = tree_at(actor, repo, str(json_body(allow_empty=True).get("startingPoint") or MAIN))
    registry().lanes.create_branch(actor, repo, wanted, start.commit.id)
    return jsonify({})


def delete_branch(namespace: str, name: str, branch: str) -> Response:
    """Delete a branch, whose versions stay, or drop a draft.  `main` stays."""
    actor, repo = _signed_in(), repo_name(namespace, name)
    wanted = plain_revision(branch)
    if wanted == MAIN:
        raise Forbidden(f"main is what everybody reads of {repo}, and stays.")
    registry().lanes.delete(actor, repo, wanted)
    return jsonify({})


def squash(namespace: str, name: str, branch: str) -> Response:
    """Refuse: what was published stays as it was."""
    raise Forbidden(f"The history of {repo_name(namespace, name)} can't be squashed: published versions never change.")


def validate_yaml() -> Response:
    """Check a card's front matter, as `upload` does before it sends a README."""
    content = json_body().get("content")
    if not isinstance(content, str):
        raise InvalidRequest("The request has no content.")
    problem = split_front_matter(content)[0].problem
    if problem:
        response = jsonify({"errors": [{"message": problem}], "warnings": [], "error": problem})
        response.status_code = 400
        return response
    return jsonify({"errors": [], "warnings": []})


def _signed_in() -> Actor:
    """Return the caller.  Raises Unauthenticated for an anonymous one."""
    actor = current_actor()
    if actor.is_anonymous:
        raise Unauthenticated("Log in first: this takes a token. Run `hf auth login`, or set HF_TOKEN.")
    return actor


def _named(body: dict[str, Any]) -> AdapterName:
    """Return the adapter that a body names; without an organization it is the caller's own."""
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
