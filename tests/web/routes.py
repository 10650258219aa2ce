"""Every route of the API with what it takes: the table that the permission and the audit tests are made from.

A route that is missing here fails a test, so nobody can add one without saying who may use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.web.world import World

PUBLIC, SELF, SELF_ADMIN = "PUBLIC", "SELF", "SELF_ADMIN"
READ, PUBLISH, OWN, MANAGE, SITE = "READ", "PUBLISH", "OWN", "MANAGE", "SITE"
RANK = {"reader": 1, "publisher": 2, "owner": 3, "admin": 3}
SCOPE_RANK = {"none": 0, "read": 1, "publish": 2, "admin": 3}
NEEDED = {READ: (1, 1), PUBLISH: (2, 2), OWN: (3, 2), MANAGE: (3, 3)}


@dataclass(frozen=True)
class Route:
    """rule, method: as in the URL map.  needs: see access.py's table.  url, body: a request that succeeds when allowed.
    events: how many audit events a success writes."""

    rule: str
    method: str
    needs: str
    url: str
    body: Any = None
    events: int = 0

    def __str__(self) -> str:
        return f"{self.method} {self.rule}"


def is_allowed(needs: str, role: str, scope: str) -> bool:
    """What docs/operations.md and access.py promise, written down once more, independently."""
    if needs == PUBLIC:
        return True
    if needs == SELF:
        return role != "anonymous"
    if needs == SELF_ADMIN:
        return scope == "admin" and role != "limited"
    if needs == SITE:
        return role == "admin" and scope == "admin"
    rank, scope_rank = NEEDED[needs]
    return RANK.get(role, 0) >= rank and SCOPE_RANK[scope] >= scope_rank


def can_read_vault(role: str) -> bool:
    return role in RANK


A, V = "/adapters/<ns>/<name>", "/adapters/<ns>/<name>/versions/<sel>"
SECRET, V1, V2 = "/adapters/vault/secret", "/adapters/vault/secret/versions/v1", "/adapters/vault/secret/versions/v2"
BLOBS = {"blobs": [{"sha256": "cd" * 32, "size": 4}]}
REASON = {"reason": "because"}


def routes(world: World) -> list[Route]:
    ids = world.ids
    return [
        Route("/adapters", "GET", PUBLIC, "/adapters"),
        Route(A, "GET", READ, SECRET),
        Route(A, "POST", PUBLISH, "/adapters/vault/new", {"private": True}, 1),
        Route(A, "PATCH", OWN, SECRET, {"private": True}, 1),
        Route(A, "DELETE", OWN, SECRET, None, 1),
        Route(f"{A}/deprecation", "PUT", PUBLISH, f"{SECRET}/deprecation", REASON, 1),
        Route(f"{A}/deprecation", "DELETE", PUBLISH, f"{SECRET}/deprecation", None, 1),
        Route(f"{A}/downloads", "GET", READ, f"{SECRET}/downloads"),
        Route(f"{A}/versions", "GET", READ, f"{SECRET}/versions"),
        Route(f"{A}/versions", "POST", PUBLISH, "/adapters/vault/copy/versions", {"manifest": ids["manifest"]}, 1),
        Route(V, "GET", READ, V2),
        Route(V, "DELETE", OWN, V2, None, 1),
        Route(f"{V}/files/<path>", "GET", READ, f"{V2}/files/adapter_config.json"),
        Route(f"{V}/yank", "POST", PUBLISH, f"{V2}/yank", REASON, 1),
        Route(f"{V}/yank", "DELETE", PUBLISH, f"{V1}/yank", None, 1),
        Route(f"{V}/deprecation", "PUT", PUBLISH, f"{V2}/deprecation", REASON, 1),
        Route(f"{V}/deprecation", "DELETE", PUBLISH, f"{V1}/deprecation", None, 1),
        Route(f"{V}/metrics", "PUT", PUBLISH, f"{V2}/metrics", {"name": "f1", "value": 0.5}, 1),
        Route(f"{V}/metrics", "DELETE", PUBLISH, f"{V1}/metrics?name=accuracy", None, 1),
        Route(f"{V}/base", "PUT", OWN, f"{V2}/base", {"base": ids["base"]}, 1),
        Route(f"{A}/aliases", "GET", READ, f"{SECRET}/aliases"),
        Route(f"{A}/aliases/<alias>", "PUT", PUBLISH, f"{SECRET}/aliases/next", {"version": 2}, 1),
        Route(f"{A}/aliases/<alias>", "PUT", OWN, f"{SECRET}/aliases/gold", {"version": 2}, 1),
        Route(f"{A}/aliases/<alias>", "DELETE", PUBLISH, f"{SECRET}/aliases/prod", None, 1),
        Route(f"{A}/aliases/<alias>", "DELETE", OWN, f"{SECRET}/aliases/gold", None, 1),
        Route(f"{A}/aliases/<alias>/history", "GET", READ, f"{SECRET}/aliases/prod/history"),
        Route(f"{A}/uploads", "POST", PUBLISH, f"{SECRET}/uploads", BLOBS),
        Route("/bases", "GET", PUBLIC, "/bases"),
        Route("/bases/<base_id>", "GET", READ, f"/bases/{ids['base']}"),
        Route("/bases/<base_id>", "PATCH", SITE, f"/bases/{ids['base']}", {"add_aliases": ["tiny"]}, 1),
        Route("/whoami", "GET", SELF, "/whoami"),
        Route("/tokens", "GET", SELF, "/tokens"),
        Route("/tokens", "POST", SELF_ADMIN, "/tokens", {"name": "x", "scopes": ["read"]}, 1),
        Route("/users", "GET", SITE, "/users"),
        Route("/users", "POST", SITE, "/users", {"name": "newcomer"}, 1),
        Route("/users/<name>", "PATCH", SITE, "/users/outsider", {"disabled": True}, 1),
        Route("/namespaces", "GET", PUBLIC, "/namespaces"),
        Route("/namespaces", "POST", SITE, "/namespaces", {"name": "fresh"}, 1),
        Route("/namespaces/<ns>", "GET", READ, "/namespaces/vault"),
        Route("/namespaces/<ns>", "PATCH", MANAGE, "/namespaces/vault", {"description": "d"}, 1),
        Route("/namespaces/<ns>/members/<user>", "PUT", MANAGE, _member("outsider"), {"role": "reader"}, 1),
        Route("/namespaces/<ns>/members/<user>", "DELETE", MANAGE, _member("reader"), None, 1),
        Route("/namespaces/<ns>/quota", "PUT", SITE, "/namespaces/vault/quota", {"max_bytes": 10**9}, 1),
        Route("/namespaces/<ns>/webhooks", "GET", MANAGE, "/namespaces/vault/webhooks"),
        Route("/namespaces/<ns>/webhooks", "POST", MANAGE, "/namespaces/vault/webhooks", HOOK, 1),
        Route("/webhooks/<webhook_id>", "DELETE", MANAGE, f"/webhooks/{ids['webhook']}", None, 1),
        Route("/audit", "GET", MANAGE, "/audit?namespace=vault"),
        Route("/audit", "GET", SITE, "/audit"),
    ]


HOOK = {"url": "https://hooks.example.com/y"}

TESTED_APART = {
    # What belongs to one caller alone, and what asks another server: tests of their own.
    ("/uploads/<upload_id>", "GET"),
    ("/uploads/<upload_id>", "PATCH"),
    ("/uploads/<upload_id>", "DELETE"),
    ("/uploads/<upload_id>/complete", "POST"),
    ("/tokens/<token_id>", "DELETE"),
    (f"{A}/import", "POST"),
}


def _member(user: str) -> str:
    return f"/namespaces/vault/members/{user}"
