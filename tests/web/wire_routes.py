"""Every address of the Hugging Face wire with what it takes: beside routes.py, the other half of the URL map.

What the wire and our own API both do takes the same right on both, and writes as many events.
"""

from __future__ import annotations

import json

from tests.web.routes import OWN, PUBLIC, PUBLISH, READ, SELF, Route
from tests.web.world import World

REPO, M = "/api/models/<namespace>/<name>", "/api/models/vault/secret"
OF_VAULT = {"name": "secret", "organization": "vault"}
FILES = {"files": [{"path": "notes.md", "size": 4, "sample": "bm90ZQ=="}]}
LFS = {"objects": [{"oid": "cd" * 32, "size": 4}], "transfers": ["basic"], "hash_algo": "sha256"}
COMMIT = "\n".join(
    json.dumps(line)
    for line in (
        {"key": "header", "value": {"summary": "notes"}},
        {"key": "file", "value": {"path": "notes.md", "content": "bm90ZQ==", "encoding": "base64"}},
    )
).encode()


def wire_routes(world: World) -> list[Route]:
    return [
        Route("/api/models", "GET", PUBLIC, "/api/models"),
        Route(REPO, "GET", READ, M),
        Route(f"{REPO}/revision/<revision>", "GET", READ, f"{M}/revision/v2"),
        Route(f"{REPO}/auth-check", "GET", READ, f"{M}/auth-check"),
        Route(f"{REPO}/commits/<revision>", "GET", READ, f"{M}/commits/main"),
        Route(f"{REPO}/refs", "GET", READ, f"{M}/refs"),
        Route(f"{REPO}/tree/<revision>", "GET", READ, f"{M}/tree/v2"),
        Route(f"{REPO}/paths-info/<revision>", "POST", READ, f"{M}/paths-info/v2", {"paths": ["adapter_config.json"]}),
        Route(f"{REPO}/resolve/<revision>/<path>", "GET", READ, f"{M}/resolve/v2/adapter_config.json"),
        Route(
            "/<namespace>/<name>/resolve/<revision>/<path>", "GET", READ, "/vault/secret/resolve/v2/adapter_config.json"
        ),
        Route(f"{REPO}/xet-read-token/<revision>", "GET", READ, f"{M}/xet-read-token/v2"),
        Route(f"{REPO}/xet-write-token/<revision>", "GET", PUBLISH, f"{M}/xet-write-token/main"),
        Route(f"{REPO}/preupload/<revision>", "POST", PUBLISH, f"{M}/preupload/main", FILES),
        Route(f"{REPO}/commit/<revision>", "POST", PUBLISH, f"{M}/commit/main", COMMIT, 1),
        Route(f"{REPO}/settings", "PUT", OWN, f"{M}/settings", {"private": True}, 1),
        Route(f"{REPO}/tag/<revision>", "POST", PUBLISH, f"{M}/tag/v2", {"tag": "mine"}, 1),
        Route(f"{REPO}/tag/<tag>", "DELETE", PUBLISH, f"{M}/tag/prod", None, 1),
        Route(f"{REPO}/tag/<tag>", "DELETE", OWN, f"{M}/tag/gold", None, 1),
        Route(f"{REPO}/branch/<branch>", "POST", PUBLISH, f"{M}/branch/dev", {}, 1),
        Route(f"{REPO}/branch/<branch>", "DELETE", PUBLISH, f"{M}/branch/trial", None, 1),
        Route(f"{REPO}/ask-access", "POST", READ, f"{M}/ask-access", {}, 1),
        Route(f"{REPO}/user-access-request/<status>", "GET", OWN, f"{M}/user-access-request/pending"),
        Route(
            f"{REPO}/user-access-request/grant", "POST", OWN, f"{M}/user-access-request/grant", {"user": "reader"}, 1
        ),
        Route(
            f"{REPO}/user-access-request/handle",
            "POST",
            OWN,
            f"{M}/user-access-request/handle",
            {"user": "outsider", "status": "rejected"},
            1,
        ),
        Route(LFS_BATCH, "POST", PUBLISH, "/vault/secret.git/info/lfs/objects/batch", LFS | {"operation": "upload"}),
        Route("/api/repos/create", "POST", PUBLISH, "/api/repos/create", OF_VAULT | {"name": "new"}, 1),
        Route("/api/repos/delete", "DELETE", OWN, "/api/repos/delete", OF_VAULT, 1),
        Route("/api/whoami-v2", "GET", SELF, "/api/whoami-v2"),
        Route("/api/settings/repositories", "GET", SELF, "/api/settings/repositories"),
        Route("/api/validate-yaml", "POST", PUBLIC, "/api/validate-yaml", {"content": "---\nlicense: mit\n---\n"}),
    ]


LFS_BATCH = "/<namespace>/<name>.git/info/lfs/objects/batch"

REFUSED_TO_ALL = [
    ("GET", "/<namespace>/<name>/info/refs", "/vault/secret.git/info/refs", None),
    # What the wire has and versions don't: moving, squashing, reading through git.  Nobody may.
    ("POST", LFS_BATCH, "/vault/secret.git/info/lfs/objects/batch", LFS | {"operation": "download"}),
    ("POST", f"{REPO}/super-squash/<branch>", f"{M}/super-squash/main", {"message": "x"}),
    ("POST", "/api/repos/move", "/api/repos/move", {"fromRepo": "vault/secret", "toRepo": "elsewhere/secret"}),
]
