"""A registry with a user of every role, a token of every scope, and a private namespace with some of everything."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask

from hub.registry.service import Registry
from hub.settings import ServerSettings
from hub.web.app import create_app
from tests.support.adapters import write_adapter
from tests.web.api import Api, InProcess

ROLES = ("outsider", "reader", "publisher", "owner", "admin")
SCOPES = ("read", "publish", "admin")


@dataclass(frozen=True)
class Caller:
    """role: in the namespace `vault`; `admin` is the server's, `anonymous` sends no token, `limited` is an owner whose
    token may only act elsewhere."""

    role: str
    scope: str
    token: str | None

    def __str__(self) -> str:
        return f"{self.role}-{self.scope}"


@dataclass
class World:
    app: Flask
    registry: Registry
    admin: Api
    callers: list[Caller]
    ids: dict[str, Any]
    pristine: Any

    def caller(self, role: str, scope: str) -> Caller:
        return next(caller for caller in self.callers if (caller.role, caller.scope) == (role, scope))

    def api(self, caller: Caller) -> Api:
        return Api(self.admin.sender, caller.token)

    def events(self) -> int:
        with self.registry.context.database.engine.connect() as connection:
            return int(connection.exec_driver_sql("select count(*) from audit").scalar_one())

    def restore(self) -> None:
        """Put every row back as it was when the world was made."""
        with closing(self.registry.context.database.engine.raw_connection()) as connection:
            self.pristine.backup(connection.driver_connection)


def build_world(folder: Path) -> World:
    settings = ServerSettings.from_env({}, data=folder / "data")
    registry = Registry.open(settings)
    made = registry.users.first_start()
    assert made is not None
    app = create_app(registry, settings)
    admin = Api(InProcess(app), made.secret)
    ids = _fill(admin, folder)
    callers = [Caller("anonymous", "none", None), *_callers(admin)]
    ids["own_upload"] = {caller.token: _upload(Api(admin.sender, caller.token)) for caller in _publishers(callers)}
    return World(app, registry, admin, callers, ids, _copy(registry))


def _copy(registry: Registry) -> Any:
    """Return the whole database in memory, through the SQLite library that the registry uses: two of them in one
    process would not see each other's locks."""
    engine = registry.context.database.engine
    copy = engine.dialect.dbapi.connect(":memory:", check_same_thread=False)  # type: ignore[union-attr]
    with closing(engine.raw_connection()) as connection:
        connection.driver_connection.backup(copy)  # type: ignore[union-attr]
    return copy


def _fill(admin: Api, folder: Path) -> dict[str, Any]:
    admin.call("POST", "/namespaces", {"name": "vault", "private": True}, expect=201)
    admin.call("POST", "/namespaces", {"name": "elsewhere"}, expect=201)
    for role in ROLES[:-1]:
        admin.call("POST", "/users", {"name": role}, expect=201)
        if role != "outsider":
            admin.call("PUT", f"/namespaces/vault/members/{role}", {"role": role}, expect=200)
    admin.call("PUT", "/namespaces/elsewhere/members/owner", {"role": "owner"}, expect=200)
    for seed in (1, 2):
        pushed = admin.push(write_adapter(folder / str(seed), seed=seed), "vault/secret")
    admin.call("PUT", "/adapters/vault/secret/aliases/prod", {"version": 1}, expect=200)
    admin.call("PUT", "/adapters/vault/secret/aliases/gold", {"version": 1, "protected": True}, expect=200)
    admin.call("POST", "/api/models/vault/secret/branch/trial", {}, expect=200)
    admin.call("PUT", "/api/models/vault/secret/settings", {"gated": "manual"}, expect=200)
    admin.call("POST", "/api/models/vault/secret/user-access-request/grant", {"user": "outsider"}, expect=200)
    metric = {"name": "accuracy", "value": 0.5}
    admin.call("PUT", "/adapters/vault/secret/versions/v1/metrics", metric, expect=200)
    admin.call("POST", "/adapters/vault/secret/versions/v1/yank", {"reason": "old"}, expect=200)
    admin.call("PUT", "/adapters/vault/secret/versions/v1/deprecation", {"reason": "old"}, expect=200)
    admin.call("PUT", "/adapters/vault/secret/deprecation", {"reason": "old"}, expect=200)
    hook = admin.call("POST", "/namespaces/vault/webhooks", {"url": "https://hooks.example.com/x"}, expect=201)
    return {"manifest": pushed["manifest"], "webhook": hook.json["id"], "base": "tests/tiny-llama"}


def _callers(admin: Api) -> list[Caller]:
    found = [Caller(role, scope, _token(admin, role, scope)) for role in ROLES for scope in SCOPES]
    return [*found, Caller("limited", "admin", _token(admin, "owner", "admin", "elsewhere"))]


def _token(admin: Api, user: str, scope: str, namespace: str | None = None) -> str:
    body = {"name": f"{user}-{scope}", "scopes": [scope], "user": user, "namespace": namespace}
    return str(admin.call("POST", "/tokens", body, expect=201).json["secret"])


def _publishers(callers: list[Caller]) -> list[Caller]:
    strong = ("publisher", "owner", "admin")
    return [caller for caller in callers if caller.role in strong and caller.scope in ("publish", "admin")]


def _upload(api: Api) -> str:
    blob = {"sha256": "ab" * 32, "size": 4}
    answer = api.call("POST", "/adapters/vault/secret/uploads", {"blobs": [blob]}, expect=200)
    return str(answer.json["blobs"][0]["upload"]["id"])
