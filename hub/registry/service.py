"""The registry's one door: every caller (JSON API, HF wire, catalog, admin commands) comes in here.

    registry.tokens.create(actor, …)      registry.versions.resolve(actor, ref)      registry.aliases.set(actor, …)

Each noun binds the functions of a module to this registry's context; what they promise is said there.  All of them
raise only `hub.errors`.  The first argument is an `Actor`; what it may not read is "not found".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Concatenate, Generic, ParamSpec, TypeVar, overload

from hub.refs import AdapterName, AdapterRef
from hub.registry.accounts import limits, namespaces, quotas, sessions, tokens, users
from hub.registry.context import Context
from hub.registry.derived import queue
from hub.registry.derived.recipe import Recipe
from hub.registry.derived.work import Deriving
from hub.registry.events import audit, webhooks
from hub.registry.library import (
    adapters,
    aliases,
    bases,
    blobs,
    catalog,
    drafts,
    files,
    gates,
    importing,
    lanes,
    metrics,
    publish,
    resolving,
    revisions,
    uploads,
    versions,
)
from hub.registry.library.resolving import VersionCache
from hub.registry.rights.access import ANONYMOUS, Action, Actor
from hub.registry.upkeep import backup, fsck, gc
from hub.registry.values import StoredFile, Tree, Version
from hub.settings import ServerSettings

__all__ = ["ANONYMOUS", "Action", "Actor", "Registry"]

P = ParamSpec("P")
R = TypeVar("R")


class Noun:
    """A group of functions of one registry's context."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry


class of(Generic[P, R]):  # read as a word: `create = of(tokens.create)`
    """Binds a function to the context of the registry that its noun belongs to."""

    def __init__(self, function: Callable[Concatenate[Context, P], R]) -> None:
        self.function = function

    @overload
    def __get__(self, noun: None, owner: type[Noun]) -> of[P, R]: ...

    @overload
    def __get__(self, noun: Noun, owner: type[Noun]) -> Callable[P, R]: ...

    def __get__(self, noun: Noun | None, owner: type[Noun]) -> of[P, R] | Callable[P, R]:
        if noun is None:  # asked of the class itself
            return self
        return partial(self.function, noun.registry.context)


class Tokens(Noun):
    authenticate = of(tokens.authenticate)
    user_of = of(tokens.user_of)
    create = of(tokens.create)
    list = of(tokens.listing)
    revoke = of(tokens.revoke)


class Sessions(Noun):
    create = of(sessions.create)
    actor = of(sessions.actor)
    end = of(sessions.end)


class Users(Noun):
    first_start = of(users.first_start)
    actor_for = of(users.actor_for)
    create = of(users.create)
    list = of(users.listing)
    disable = of(users.disable)


class Namespaces(Noun):
    may = of(namespaces.may)
    roles = of(namespaces.roles)
    create = of(namespaces.create)
    get = of(namespaces.get)
    is_taken = of(namespaces.is_taken)
    quota_bytes = of(namespaces.quota_bytes)
    list = of(namespaces.listing)
    update = of(namespaces.update)
    set_member = of(namespaces.set_member)
    set_quota = of(quotas.set_quota)


class Blobs(Noun):
    missing = of(blobs.missing_blobs)
    put = of(blobs.put_blob)


class Uploads(Noun):
    start = of(uploads.start)
    get = of(uploads.get)
    append = of(uploads.append)
    complete = of(uploads.complete)
    abort = of(uploads.abort)


class Versions(Noun):
    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self._resolved = VersionCache()

    def resolve(self, actor: Actor, ref: AdapterRef, *, for_card: bool = False) -> Version:
        """Return the version that a ref means, with its manifest.

        Raises AdapterNotFound, VersionNotFound, AliasNotFound.  `latest` is the newest that isn't yanked.
        """
        return resolving.resolve(self.registry.context, self._resolved, actor, ref, for_card=for_card)

    publish = of(publish.publish)
    import_from = of(importing.import_version)
    list = of(versions.listing)
    children = of(versions.children)
    open_file = of(files.open_file)
    yank = of(versions.yank)
    unyank = of(versions.unyank)
    deprecate = of(versions.deprecate)
    delete = of(versions.delete)
    rebind = of(bases.rebind)
    count_download = of(versions.count_download)
    download_history = of(versions.download_history)


class Metrics(Noun):
    set = of(metrics.set_metric)
    delete = of(metrics.delete_metric)


class Aliases(Noun):
    list = of(aliases.listing)
    set = of(aliases.set_alias)
    delete = of(aliases.delete_alias)
    history = of(aliases.history)


class Adapters(Noun):
    get = of(adapters.get)
    check_gate = of(adapters.check_gate)
    create = of(adapters.create)
    update = of(adapters.update)
    deprecate = of(adapters.deprecate)
    delete = of(adapters.delete)
    search = of(catalog.search)
    statistics = of(catalog.statistics)


class Bases(Noun):
    list = of(bases.listing)
    get = of(bases.get)
    update = of(bases.update)
    pin = of(bases.pin)


class Commits(Noun):
    """Commits and trees, for the Hugging Face wire."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self._snapshots = revisions.SnapshotCache()

    def tree(self, actor: Actor, name: AdapterName, revision: str = "main") -> Tree:
        """Return all files at a revision: see `revisions.tree`."""
        return revisions.tree(self.registry.context, self._snapshots, actor, name, revision)

    def open_file(self, actor: Actor, name: AdapterName, revision: str, path: str) -> StoredFile:
        """Open a file at any revision, drafts included.  Raises FileNotFound."""
        return revisions.open_at(self.registry.context, self._snapshots, actor, name, revision, path)

    list = of(revisions.commits)
    start = of(drafts.start)
    create = of(drafts.commit)


class Lanes(Noun):
    """Branches and drafts, for the Hugging Face wire."""

    drafts = of(lanes.drafts)
    branches = of(lanes.branches)
    create_branch = of(lanes.create_branch)
    delete = of(lanes.delete)


class Gates(Noun):
    """Who may read gated adapters."""

    ask = of(gates.ask)
    list = of(gates.listing)
    grant = of(gates.grant)
    decide = of(gates.decide)


class Audit(Noun):
    list = of(audit.listing)


class Webhooks(Noun):
    create = of(webhooks.create)
    list = of(webhooks.listing)
    delete = of(webhooks.delete)
    deliver = of(webhooks.deliver)
    prune = of(webhooks.prune)


class Rates(Noun):
    take = of(limits.take)


class Values(Noun):
    """Values computed once per version, after its publish."""

    find = of(queue.find)
    want = of(queue.want)

    def deriving(self, recipes: Sequence[Recipe]) -> Deriving:
        """Return a worker that makes what these recipes say."""
        return Deriving(self.registry.context, recipes)


class Upkeep(Noun):
    collect = of(gc.collect)
    check = of(fsck.check)
    backup = of(backup.write)


class Registry:
    """One registry over one database and one blob store.  Threads may share it; processes open one each."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.tokens, self.sessions, self.users = Tokens(self), Sessions(self), Users(self)
        self.namespaces, self.rates, self.audit = Namespaces(self), Rates(self), Audit(self)
        self.blobs, self.uploads = Blobs(self), Uploads(self)
        self.versions, self.aliases, self.metrics = Versions(self), Aliases(self), Metrics(self)
        self.adapters, self.bases, self.commits = Adapters(self), Bases(self), Commits(self)
        self.lanes, self.gates = Lanes(self), Gates(self)
        self.webhooks, self.upkeep, self.derived = Webhooks(self), Upkeep(self), Values(self)

    @classmethod
    def open(cls, settings: ServerSettings) -> Registry:
        """Connect, and create the schema if the database is empty.

        Raises Unavailable when the database can't be reached or has another schema than this release.
        """
        return cls(Context.open(settings))

    def close(self) -> None:
        """Close all connections."""
        self.context.close()

    def check_ready(self) -> None:
        """Raise Unavailable unless the database answers and the store can be written."""
        self.context.check_ready()

    def warnings(self) -> tuple[str, ...]:
        """Return what an operator should know at start, e.g. an SQLite with the WAL-reset race."""
        return self.context.warnings()

    def secret_key(self) -> bytes:
        """Return 32 random bytes that all workers share, for signing URLs and cookies."""
        return self.context.secret_key()
