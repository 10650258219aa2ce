"""A registry to test: real database, real store, a clock that the test moves, and short ways to do common things."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hub.adapter.files import build_manifest, scan_folder
from hub.adapter.publication import Publication
from hub.manifest import BaseIdentity, FileEntry, Manifest
from hub.refs import AdapterName, AdapterRef
from hub.registry.context import Context
from hub.registry.db.database import Database
from hub.registry.library.drafts import Change
from hub.registry.rights.access import Actor
from hub.registry.service import Registry
from hub.registry.values import Commit, Published, Role, Scope
from hub.settings import ServerSettings
from tests.support.adapters import write_adapter

START = datetime(2031, 5, 4, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **amount: float) -> None:
        self.now += timedelta(**amount)


@dataclass
class World:
    """`admin` is the first start's user; `user()` makes others."""

    registry: Registry
    clock: Clock
    folder: Path
    admin: Actor
    notes: dict[str, Any] = field(default_factory=dict)
    _made: int = field(default=0)

    @classmethod
    def open(cls, settings: ServerSettings, folder: Path) -> World:
        clock = Clock()
        registry = Registry.open(settings)
        share_compiled_statements(registry.context.database)
        registry.context = replace(registry.context, now=clock)
        token = registry.users.first_start()
        assert token is not None
        return cls(registry, clock, folder, registry.tokens.authenticate(token.secret))

    @property
    def context(self) -> Context:
        return self.registry.context

    def close(self) -> None:
        self.registry.close()

    def adapter(self, *, seed: int = 0, readme: str | None = None, **options: Any) -> Path:
        """Write a new adapter folder."""
        self._made += 1
        return write_adapter(self.folder / f"adapter-{self._made}", seed=seed, readme=readme, **options)

    def manifest(self, folder: Path, base: BaseIdentity | None = None) -> Manifest:
        return build_manifest(folder, base=base)

    def send(self, actor: Actor, name: str, folder: Path, entries: Iterable[FileEntry]) -> None:
        """Send what the registry says is missing."""
        files = scan_folder(folder).files
        by_hash = {entry.sha256: files[entry.path] for entry in entries}
        wanted = [(entry.sha256, entry.size) for entry in entries]
        for sha256, size in self.registry.blobs.missing(actor, AdapterName.parse(name), wanted):
            with by_hash[sha256].open("rb") as file:
                self.registry.blobs.put(actor, AdapterName.parse(name), file, sha256, size)

    def push(
        self,
        name: str,
        folder: Path | None = None,
        *,
        actor: Actor | None = None,
        base: BaseIdentity | None = None,
        seed: int = 0,
        **options: Any,
    ) -> Published:
        """Push a folder as a client does: blobs first, then the manifest."""
        actor = actor or self.admin
        folder = folder or self.adapter(seed=seed)
        manifest = self.manifest(folder, base)
        self.send(actor, name, folder, manifest.files)
        return self.registry.versions.publish(actor, AdapterName.parse(name), manifest, Publication.parse(**options))

    def commit(
        self, name: str, tree: dict[str, str], title: str = "", *, actor: Actor | None = None, **words: Any
    ) -> Commit:
        """Commit a whole tree (path -> sha256), whatever is there."""
        change = Change(lambda _: tree, title, **words)
        return self.registry.commits.create(actor or self.admin, AdapterName.parse(name), change)

    def put(self, name: str, data: bytes, actor: Actor | None = None) -> str:
        """Send bytes and return their sha256."""
        return self.registry.blobs.put(actor or self.admin, AdapterName.parse(name), io.BytesIO(data))[0]

    def user(
        self,
        name: str,
        roles: dict[str, Role] | None = None,
        scopes: Sequence[Scope] = ("read", "publish"),
        namespace: str | None = None,
    ) -> Actor:
        """Make a user with roles, and return what a token of theirs may do."""
        if name not in {user.name for user in self.registry.users.list(self.admin)}:
            self.registry.users.create(self.admin, name)
        for space, role in (roles or {}).items():
            self.registry.namespaces.set_member(self.admin, space, name, role)
        made = self.registry.tokens.create(self.admin, f"{name}'s", scopes, namespace=namespace, user=name)
        return self.registry.tokens.authenticate(made.secret)

    def namespace(self, name: str, *, private: bool = False) -> str:
        self.registry.namespaces.create(self.admin, name, private=private)
        return name


_COMPILED: dict[str, dict[Any, Any]] = {}


def share_compiled_statements(database: Database) -> None:
    """Let the databases of one process share what SQLAlchemy compiled: half of a short test's time goes there."""
    cache = _COMPILED.setdefault(database.engine.dialect.name, {})
    database.engine = database.engine.execution_options(compiled_cache=cache)
    database._readers.configure(bind=database.engine)
    database._writers.configure(bind=database.engine.execution_options(immediate=True))


def ref(text: str) -> AdapterRef:
    return AdapterRef.parse(text)


def named(text: str) -> AdapterName:
    return AdapterName.parse(text)
