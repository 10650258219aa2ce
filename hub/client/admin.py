"""What owners and admins ask of a registry: tokens, namespaces and their members, users, the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from hub.client.api import Client
from hub.client.records import Reader

Record = dict[str, Any]


class AdminClient:
    """The administrative calls of one registry.  Records come back as the API's JSON objects."""

    def __init__(self, client: Client) -> None:
        self._connection = client.connection

    # --- bases

    def bases(self) -> list[Record]:
        """List the bases of the adapters that one may read, the most used first."""
        return self._items("/api/v1/bases")

    def base(self, name: str) -> Record:
        """Describe a base, by its id or another of its names.  Raises BaseNotFound."""
        return self._record(f"/api/v1/bases/{quote(name)}")

    def update_base(self, name: str, **changes: Any) -> Record:
        """Rename a base or give it other names: `new_id`, `add_aliases`, `remove_aliases`, `parent`.  For admins."""
        return self._change("PATCH", f"/api/v1/bases/{quote(name)}", changes)

    # --- tokens

    def tokens(self, user: str | None = None) -> list[Record]:
        """List one's own tokens, or as the server's admin those of `user`."""
        return self._items("/api/v1/tokens", {"user": user})

    def create_token(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        namespace: str | None = None,
        expires_in_days: int | None = None,
        user: str | None = None,
    ) -> Record:
        """Make a token.  `secret` in the answer is shown this once."""
        body = {
            "name": name,
            "scopes": list(scopes),
            "namespace": namespace,
            "expires_in_days": expires_in_days,
            "user": user,
        }
        return self._change("POST", "/api/v1/tokens", body)

    def revoke_token(self, token_id: int) -> Record:
        return self._change("DELETE", f"/api/v1/tokens/{token_id}")

    # --- namespaces

    def namespaces(self) -> list[Record]:
        return self._items("/api/v1/namespaces")

    def namespace(self, name: str) -> Record:
        return self._record("/api/v1/namespaces/" + quote(name, safe=""))

    def create_namespace(self, name: str, *, private: bool = False, description: str = "") -> Record:
        body = {"name": name, "private": private, "description": description}
        return self._change("POST", "/api/v1/namespaces", body)

    def set_private(self, name: str, private: bool) -> Record:
        return self._change("PATCH", "/api/v1/namespaces/" + quote(name, safe=""), {"private": private})

    def set_member(self, namespace: str, user: str, role: str | None) -> Record:
        """Give a role, or with None take it."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/members/{quote(user, safe='')}"
        return self._change("DELETE", path) if role is None else self._change("PUT", path, {"role": role})

    def set_quota(self, namespace: str, max_bytes: int | None, max_adapters: int | None) -> Record:
        """Limit what a namespace may hold; None is unlimited."""
        body = {"max_bytes": max_bytes, "max_adapters": max_adapters}
        return self._change("PUT", f"/api/v1/namespaces/{quote(namespace, safe='')}/quota", body)

    def audit_log(self, namespace: str | None = None, limit: int = 100) -> list[Record]:
        """List changes, newest first: of a namespace for its owners, of everything for the server's admin."""
        return self._items("/api/v1/audit", {"namespace": namespace, "limit": limit})

    # --- users

    def users(self) -> list[Record]:
        return self._items("/api/v1/users")

    def create_user(self, name: str, *, admin: bool = False) -> Record:
        return self._change("POST", "/api/v1/users", {"name": name, "admin": admin})

    def set_disabled(self, name: str, disabled: bool) -> Record:
        """Shut a user out, or let them in again."""
        return self._change("PATCH", "/api/v1/users/" + quote(name, safe=""), {"disabled": disabled})

    def _items(self, path: str, params: Record | None = None) -> list[Record]:
        body = Reader(self._connection.get_json(path, params), "list")
        return [Reader(item, "list's item").payload for item in body.items("items")]

    def _record(self, path: str) -> Record:
        return Reader(self._connection.get_json(path), "record").payload

    def _change(self, method: str, path: str, body: Record | None = None) -> Record:
        response = self._connection.call(method, path, json=body, again=False)
        return Reader(self._connection.decode(response), "record").payload
