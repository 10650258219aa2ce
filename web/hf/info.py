"""Repository metadata on the Hugging Face wire: info, lists, refs, commits, whoami."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from flask import Response, g, jsonify, request

from hub.errors import AdapterNotFound, NamespaceNotFound, Unauthenticated
from hub.formats.front_matter import FrontMatter, split_front_matter
from hub.registry.values import Adapter, Commit, Page, Query, Sort, Tree

from ..http.identity import current_actor, registry
from .files import siblings
from .names import MAIN, plain_revision, repo_name, tree_at, wire_time
from .warnings import warn_of_tree

_PAGE_LIMIT = 1_000
_COMMITS_PER_PAGE = 50
_CARD_BYTES = 1024 * 1024
_MOST_CARDS = 500
_READ_CARDS: dict[str, FrontMatter] = {}
"""Front matter by the sha256 of the card that it stands in: reading it costs more than all the rest of an answer."""
_SORTS: dict[str, Sort] = {
    "downloads": "downloads",
    "likes": "downloads",
    "trending_score": "downloads",
    "trendingScore": "downloads",
    "created_at": "new",
    "createdAt": "new",
    "last_modified": "recent",
    "lastModified": "recent",
}
_EVERY_ADAPTER_IS = frozenset({"peft", "lora", "safetensors", "library:peft", "model"})


def model_info(namespace: str, name: str, revision: str = MAIN) -> Response:
    """Describe a repository at a revision."""
    found = tree_at(current_actor(), repo_name(namespace, name), revision)
    g.hf_commit = found.commit.id
    card = _card(found)
    info = _summary(found.adapter) | {
        "sha": found.commit.id,
        "siblings": siblings(found, blobs=request.args.get("blobs", "").lower() in {"1", "true"}),
        "cardData": dict(card.fields),
        "config": {"peft": {"base_model_name_or_path": found.adapter.base}},
        "disabled": False,
        "usedStorage": sum(file.size for file in found.files),
        "spaces": [],
    }
    if found.commit.problem:
        info["lorahub"] = {"draft": found.commit.problem}
    response = jsonify(info)
    response.headers["X-Repo-Commit"] = found.commit.id
    return warn_of_tree(response, found)


def list_models() -> Response:
    """List adapters: a bare array, and the next page in the Link header."""
    try:
        page = _search(_query())
    except NamespaceNotFound:
        return jsonify([])
    response = jsonify([_summary(adapter) for adapter in page.items])
    if page.next_cursor:
        response.headers["Link"] = f'<{_next_url(page.next_cursor)}>; rel="next"'
    return response


def refs(namespace: str, name: str) -> Response:
    """List `main` and the other branches, the drafts that the caller may see, versions and aliases as tags."""
    actor, repo = current_actor(), repo_name(namespace, name)
    head = tree_at(actor, repo, MAIN)
    versions = {version.number: version.commit for version in registry().versions.list(actor, repo)}
    tags = [(f"v{number}", commit) for number, commit in versions.items()]
    tags += [(alias.name, versions[alias.version]) for alias in head.adapter.aliases if alias.version in versions]
    branches = [(MAIN, f"refs/heads/{MAIN}", head.commit.id)]
    branches += [(each.name, f"refs/heads/{each.name}", each.commit) for each in registry().lanes.branches(actor, repo)]
    branches += [(each.ref, each.ref, each.commit) for each in registry().lanes.drafts(actor, repo)]
    payload: dict[str, Any] = {
        "branches": [{"name": branch, "ref": ref, "targetCommit": commit} for branch, ref, commit in branches],
        "converts": [],
        "tags": [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": commit} for tag, commit in tags],
    }
    if request.args.get("include_prs"):
        payload["pullRequests"] = []
    return jsonify(payload)


def commits(namespace: str, name: str, revision: str) -> Response:
    """List the accepted commits, newest first."""
    actor, repo = current_actor(), repo_name(namespace, name)
    limit = min(_number("limit", _COMMITS_PER_PAGE), _PAGE_LIMIT)
    before = request.args.get("before")
    page = registry().commits.list(actor, repo, plain_revision(revision), limit, before)
    response = jsonify([_commit_json(commit) for commit in page])
    if len(page) == limit:
        query = urlencode([(key, value) for key, value in request.args.items(multi=True) if key != "before"])
        response.headers["Link"] = f'<{request.base_url}?{query}&before={page[-1].id}>; rel="next"'
    return response


def whoami() -> Response:
    """Return the caller, the namespaces in which they have a role, and their token's rights."""
    actor = current_actor()
    if actor.user is None:
        raise Unauthenticated("Nobody is logged in: send a token.")
    roles = {name: role for name, role in registry().namespaces.roles(actor).items() if name != actor.user}
    token = {
        "displayName": actor.token_name or "lorahub",
        "role": "write" if actor.has_scope("publish") else "read",
        "createdAt": None,
    }
    return jsonify(
        {
            "type": "user",
            "id": actor.user,
            "name": actor.user,
            "fullname": actor.user,
            "isPro": False,
            "orgs": [{"type": "org", "id": org, "name": org, "fullname": org, "roleInOrg": role_in_org(role)}
                     for org, role in roles.items()],
            "auth": {"type": "access_token", "accessToken": token, "expiresAt": wire_time(actor.expires_at)},
        }
    )  # fmt: skip


def known_harnesses() -> Response:
    """Answer newer clients with none, which they cache for a day; after an error they would ask at every start."""
    return jsonify({"standardEnvVars": [], "harnesses": {}})


def role_in_org(role: str) -> str:
    return {"reader": "read", "publisher": "write", "owner": "admin"}[role]


def repositories_of(namespace: str) -> Response:
    """List the repositories of a namespace with their sizes, for `hf repos ls --namespace`."""
    page = _search(Query(having={"namespace": (namespace,)}, limit=_query_limit(), with_facets=False))
    return jsonify([_repository(adapter) for adapter in page.items])


def my_repositories() -> Response:
    """List the repositories of every namespace that the caller is a member of."""
    actor = current_actor()
    if actor.user is None:
        raise Unauthenticated("Nobody is logged in: send a token.")
    mine = tuple(sorted({actor.user, *registry().namespaces.roles(actor)}))
    page = _search(Query(having={"namespace": mine}, limit=_query_limit(), with_facets=False))
    return jsonify([_repository(adapter) for adapter in page.items])


def overview(namespace: str) -> Response:
    """Describe a user or an organization: what `get_user_overview` and `get_organization_overview` need."""
    found = registry().namespaces.get(current_actor(), namespace)
    payload = {"name": found.name, "user": found.name, "fullname": found.name, "avatarUrl": "", "isPro": False}
    return jsonify(payload | {"numModels": found.adapter_count, "numUsers": len(found.members), "type": found.kind})


def auth_check(namespace: str, name: str) -> Response:
    """Answer 200 if the caller may read a repository's files.  Raises Gated if they may only see its card."""
    tree = tree_at(current_actor(), repo_name(namespace, name), MAIN)
    registry().adapters.check_gate(current_actor(), tree.adapter.name)
    return jsonify({})


def _query() -> Query:
    args = request.args
    having: dict[str, list[str]] = {"base": [], "license": [], "task": [], "tag": []}
    for value in args.getlist("filter") + args.getlist("tags"):
        for part in value.split(","):
            _sort_filter(part.strip(), having)
    having["task"] += args.getlist("pipeline_tag")
    return Query(
        text=args.get("search", ""),
        having=having | {"namespace": args.getlist("author")},
        sort=_SORTS.get(args.get("sort", ""), "recent"),
        limit=_query_limit(),
        cursor=args.get("cursor"),
        with_facets=False,
    )


def _sort_filter(value: str, having: dict[str, list[str]]) -> None:
    """Translate one of the Hub's filters into a field of our query: `base_model:adapter:X`, `license:mit`, a tag."""
    kind, colon, rest = value.partition(":")
    if not value or value in _EVERY_ADAPTER_IS:
        return
    if kind == "base_model" and colon:
        having["base"].append(rest.removeprefix("adapter:"))
    elif kind in {"license", "task"} and colon:
        having[kind].append(rest)
    else:
        having["tag"].append(value)


def _search(query: Query) -> Page:
    """Search.  A plain filter that matches no tag may be a task: on the Hub, tasks are tags."""
    page = registry().adapters.search(current_actor(), query)
    tags = query.having.get("tag", ())
    if page.total or not tags or query.having.get("task"):
        return page
    retried = replace(query, having={**query.having, "task": tags[:1], "tag": tags[1:]})
    return registry().adapters.search(current_actor(), retried)


def _query_limit() -> int:
    """Return the page's size: clients follow the Link header until they have `limit` results."""
    return max(1, min(_number("limit", 100), 100))


def _next_url(cursor: str) -> str:
    kept = [(key, value) for key, value in request.args.items(multi=True) if key != "cursor"]
    return f"{request.base_url}?{urlencode([*kept, ('cursor', cursor)])}"


def _summary(adapter: Adapter) -> dict[str, Any]:
    """Return the fields that lists and `model_info` share."""
    return {
        "_id": f"{adapter.id:024x}",
        "id": str(adapter.name),
        "modelId": str(adapter.name),
        "author": adapter.name.namespace,
        "private": adapter.private,
        "gated": "manual" if adapter.gated else False,
        "downloads": adapter.downloads,
        "likes": 0,
        "tags": _tags(adapter),
        "pipeline_tag": adapter.task,
        "library_name": "peft",
        "createdAt": wire_time(adapter.created_at),
        "lastModified": wire_time(adapter.updated_at),
    }


def _tags(adapter: Adapter) -> list[str]:
    tags = ["peft", "safetensors", "lora", *adapter.tags]
    tags += [f"base_model:adapter:{adapter.base}"] if adapter.base else []
    tags += [f"license:{adapter.license}"] if adapter.license else []
    tags += [adapter.task] if adapter.task else []
    return list(dict.fromkeys(tags))


def _repository(adapter: Adapter) -> dict[str, Any]:
    return {
        "id": str(adapter.name),
        "type": "model",
        "visibility": "private" if adapter.private else "public",
        "private": adapter.private,
        "storage": adapter.size_bytes or 0,
        "updatedAt": wire_time(adapter.updated_at),
    }


def _card(found: Tree) -> FrontMatter:
    """Return the front matter of the card at this revision; nothing if there is no card."""
    readme = found.file("README.md")
    if readme is None or readme.size > _CARD_BYTES:
        return FrontMatter()
    known = _READ_CARDS.get(readme.sha256)
    if known is None:
        stored = registry().commits.open_file(current_actor(), found.adapter.name, found.commit.id, readme.path)
        text = b"".join(stored.open(0, readme.size)).decode("utf-8", "replace")
        known = split_front_matter(text)[0]
        if len(_READ_CARDS) >= _MOST_CARDS:
            _READ_CARDS.clear()
        _READ_CARDS[readme.sha256] = known
    return known


def _commit_json(commit: Commit) -> dict[str, Any]:
    message = commit.message
    if commit.problem:
        message = f"{message}\n\nA draft, no version: {commit.problem}".strip()
    author = {"user": commit.author or "unknown", "avatar": ""}
    return {
        "id": commit.id,
        "title": commit.title,
        "message": message,
        "authors": [author],
        "date": wire_time(commit.created_at),
        "formatted": {"title": commit.title, "message": message},
    }


def _number(name: str, default: int) -> int:
    value = request.args.get(name, type=int)
    return value if value is not None and value > 0 else default


def missing(name: str = "", **_: Any) -> Response:
    """Answer for kinds of repositories that are not kept here: data sets, spaces, models without a namespace."""
    raise AdapterNotFound(f"There is no repository {name} of that kind here: lorahub keeps LoRA adapters.")


def resolve_missing(name: str, **rest: str) -> Response:
    """Answer for a file of a model without a namespace."""
    return missing(name, **rest)
