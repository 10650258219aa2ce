"""The registry's one door: every caller (JSON API, HF wire, catalog, admin commands) comes in here.

    Registry ── context.py (database, store, clock, settings)
      ├─ tokens.py  users.py  namespaces.py  sessions.py      who you are, what you may do (access.py)
      ├─ uploads.py  blobs.py                                 bytes in
      ├─ publish.py  versions.py  aliases.py                  versions out
      ├─ catalog.py  facets.py  bases.py  metrics.py          finding things
      ├─ drafts.py                                            commits and trees, for the Hugging Face wire
      ├─ audit.py  webhooks.py  quotas.py  limits.py          what was done, and how much of it
      └─ gc.py  fsck.py  backup.py  importing.py              keeping house

The methods only hand on: each module holds one noun and says there what it promises.  All of them raise
`hub.errors` and nothing else.  An `Actor` comes first everywhere; what it may not read does not exist for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from hub.manifest import Manifest
from hub.refs import AdapterName, AdapterRef
from hub.registry.accounts import limits, namespaces, quotas, sessions, tokens, users
from hub.registry.context import Context
from hub.registry.events import audit, webhooks
from hub.registry.library import (
    adapters,
    aliases,
    bases,
    blobs,
    catalog,
    drafts,
    files,
    importing,
    metrics,
    publish,
    resolving,
    uploads,
    versions,
)
from hub.registry.library.resolving import VersionCache
from hub.registry.rights.access import ANONYMOUS, Action, Actor
from hub.registry.storage.streams import ByteStream
from hub.registry.upkeep import backup, fsck, gc
from hub.registry.values import (
    Adapter,
    Alias,
    AliasMove,
    AuditEvent,
    Base,
    Commit,
    DailyDownloads,
    Lineage,
    Metric,
    Namespace,
    NewToken,
    Page,
    Published,
    Query,
    Role,
    Scope,
    Session,
    StoredFile,
    Token,
    Tree,
    Upload,
    User,
    Version,
    Webhook,
)
from hub.settings import ServerSettings

__all__ = ["ANONYMOUS", "Action", "Actor", "Registry"]


class Registry:
    """One registry over one database and one blob store.  Threads may share it; processes open one each."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._resolved = VersionCache()

    @classmethod
    def open(cls, settings: ServerSettings) -> Registry:
        """Connect, and create the schema if the database is empty.

        Raises Unavailable when the database can't be reached or has another schema than this release.
        """
        return cls(Context.open(settings))

    def close(self) -> None:
        """Give back all connections."""
        self.context.close()

    # Start and health ------------------------------------------------------------------------------------------

    def first_start(self) -> NewToken | None:
        """Create the user `admin` with an admin token if there is no user yet; None ever after."""
        return users.first_start(self.context)

    def check_ready(self) -> None:
        """Raise Unavailable unless the database answers and the store can be written."""
        self.context.check_ready()

    def warnings(self) -> tuple[str, ...]:
        """Return what an operator should know at start, e.g. an SQLite with the WAL-reset race."""
        return self.context.warnings()

    def secret_key(self) -> bytes:
        """Return 32 random bytes that all workers share, for signing URLs and cookies."""
        return self.context.secret_key()

    # Who is asking ---------------------------------------------------------------------------------------------

    def authenticate(self, secret: str, source: str | None = None, *, may_write: bool = True) -> Actor:
        """Return who holds this token.  Raises Unauthenticated for an unknown, expired or revoked one.

        Now and then a token's use is noted, which writes.  Where that is due, may_write=False raises Unavailable.
        """
        return tokens.authenticate(self.context, secret, source, may_write=may_write)

    def actor_for_user(
        self, user: str, scopes: Iterable[Scope] = ("read", "publish"), namespace: str | None = None
    ) -> Actor:
        """Return an actor for a user whom the caller has authenticated in another way, e.g. by a signed URL."""
        return users.actor_for(self.context, user, scopes, namespace)

    def may(self, actor: Actor, action: Action, namespace: str) -> bool:
        """Whether the actor may do this in that namespace (a public namespace is readable by all)."""
        return namespaces.may(self.context, actor, action, namespace)

    def roles(self, actor: Actor) -> dict[str, Role]:
        """Return the actor's role in each namespace that it is a member of and that its token reaches."""
        return namespaces.roles(self.context, actor)

    def create_token(
        self,
        actor: Actor,
        name: str,
        scopes: Iterable[Scope] = ("read",),
        *,
        namespace: str | None = None,
        expires_in: timedelta | None = None,
        user: str | None = None,
    ) -> NewToken:
        """Make a token for oneself (or, as a server admin, for `user`) that can do no more than the actor."""
        return tokens.create(self.context, actor, name, scopes, namespace=namespace, expires_in=expires_in, user=user)

    def tokens(self, actor: Actor, user: str | None = None) -> tuple[Token, ...]:
        """List one's own tokens (or, as a server admin, those of `user`), revoked ones included."""
        return tokens.listing(self.context, actor, user)

    def revoke_token(self, actor: Actor, token_id: int) -> Token:
        """Make a token useless from now on.  Raises TokenNotFound for one that isn't the actor's."""
        return tokens.revoke(self.context, actor, token_id)

    def create_session(self, actor: Actor, lifetime: timedelta = timedelta(days=7)) -> Session:
        """Start a web login with the actor's user, scopes and namespace limit."""
        return sessions.create(self.context, actor, lifetime)

    def session_actor(self, secret: str) -> Actor:
        """Return who is logged in.  Raises Unauthenticated when the session ended or its token was revoked."""
        return sessions.actor(self.context, secret)

    def end_session(self, secret: str) -> None:
        """Log out; an unknown session is no error."""
        sessions.end(self.context, secret)

    def login(self, user: str, password: str) -> Actor:
        """Return the actor of a user with this password (argon2).  Raises Unauthenticated."""
        return users.login(self.context, user, password)

    # Users and namespaces --------------------------------------------------------------------------------------

    def create_user(self, actor: Actor, name: str, *, admin: bool = False, password: str | None = None) -> User:
        """Create a user with a personal namespace of the same name.  SITE.  Raises Conflict if taken."""
        return users.create(self.context, actor, name, admin=admin, password=password)

    def users(self, actor: Actor) -> tuple[User, ...]:
        """SITE."""
        return users.listing(self.context, actor)

    def set_password(self, actor: Actor, name: str, password: str) -> None:
        """Set one's own password, or as SITE anyone's."""
        users.set_password(self.context, actor, name, password)

    def disable_user(self, actor: Actor, name: str, *, disabled: bool = True) -> User:
        """Shut a user out (tokens and sessions stop working at once), or let them in again.  SITE."""
        return users.disable(self.context, actor, name, disabled=disabled)

    def create_namespace(self, actor: Actor, name: str, *, private: bool = False, description: str = "") -> Namespace:
        """Create a shared namespace with the actor as owner.  SITE.  Names are never given to another owner."""
        return namespaces.create(self.context, actor, name, private=private, description=description)

    def namespace(self, actor: Actor, name: str) -> Namespace:
        """Raises NamespaceNotFound; `members` and quotas are filled in for members only."""
        return namespaces.get(self.context, actor, name)

    def knows_namespace(self, name: str) -> bool:
        """Whether the name was ever given out here, for whomever: such a name is looked up nowhere else."""
        return namespaces.is_taken(self.context, name)

    def namespaces(self, actor: Actor) -> tuple[Namespace, ...]:
        """List the namespaces that the actor may see."""
        return namespaces.listing(self.context, actor)

    def update_namespace(
        self, actor: Actor, name: str, *, private: bool | None = None, description: str | None = None
    ) -> Namespace:
        """MANAGE."""
        return namespaces.update(self.context, actor, name, private=private, description=description)

    def set_member(self, actor: Actor, namespace: str, user: str, role: Role | None) -> Namespace:
        """Give a role, or with None take it.  MANAGE.  The last owner can't go: Conflict."""
        return namespaces.set_member(self.context, actor, namespace, user, role)

    def set_quota(
        self, actor: Actor, namespace: str, *, max_bytes: int | None = None, max_adapters: int | None = None
    ) -> Namespace:
        """Limit what a namespace may hold; None is unlimited.  SITE."""
        return quotas.set_quota(self.context, actor, namespace, max_bytes=max_bytes, max_adapters=max_adapters)

    # Bytes in --------------------------------------------------------------------------------------------------

    def missing_blobs(
        self, actor: Actor, name: AdapterName, wanted: Sequence[tuple[str, int]]
    ) -> tuple[tuple[str, int], ...]:
        """Return which of these (sha256, size) must be sent before a publish to `name`.  PUBLISH.

        A blob counts as present only if a version that the actor may read holds it, or it was sent to this
        adapter: nobody gets at content by knowing its hash.
        """
        return blobs.missing_blobs(self.context, actor, name, wanted)

    def start_upload(
        self, actor: Actor, name: AdapterName, sha256: str, size: int, *, may_resume: bool = True
    ) -> Upload:
        """Begin to send a blob, or find the actor's unfinished upload of the same one, with its offset.  PUBLISH.

        may_resume: False for a sender that can't go on with what is there; it gets an upload beside that one.
        Raises TooLarge, QuotaExceeded.  On S3 the upload has signed URLs for its parts; elsewhere it is appended to.
        """
        return uploads.start(self.context, actor, name, sha256, size, may_resume=may_resume)

    def upload(self, actor: Actor, upload_id: str) -> Upload:
        """Raises UploadNotFound, also for an upload that somebody else began, or that expired."""
        return uploads.get(self.context, actor, upload_id)

    def append(self, actor: Actor, upload_id: str, offset: int, stream: ByteStream) -> Upload:
        """Append what `stream` gives.  With the last byte the sha256 is verified and the blob stored (`done`).

        A stream that ends early keeps what came.  Raises UploadOffsetMismatch (details.offset), DigestMismatch
        (the upload is dropped), TooLarge (more bytes than announced: nothing of the surplus is kept), StorageFull.
        """
        return uploads.append(self.context, actor, upload_id, offset, stream)

    def complete_upload(self, actor: Actor, upload_id: str, parts: Sequence[tuple[int, str]]) -> Upload:
        """Finish an upload in parts (number, etag): read back, verify, store.  Raises DigestMismatch."""
        return uploads.complete(self.context, actor, upload_id, parts)

    def abort_upload(self, actor: Actor, upload_id: str) -> None:
        """Forget an unfinished upload and its bytes."""
        uploads.abort(self.context, actor, upload_id)

    def put_blob(
        self, actor: Actor, name: AdapterName, stream: ByteStream, sha256: str | None = None, size: int | None = None
    ) -> tuple[str, int]:
        """Store a whole blob at once and return its (sha256, size).  PUBLISH.

        What was announced is verified: DigestMismatch and nothing kept.
        """
        return blobs.put_blob(self.context, actor, name, stream, sha256, size)

    # Versions --------------------------------------------------------------------------------------------------

    def publish(
        self,
        actor: Actor,
        name: AdapterName,
        manifest: Manifest,
        *,
        task: str | None = None,
        message: str = "",
        alias: str | None = None,
        private: bool | None = None,
        trained_from: Sequence[str] = (),
        merged_from: Sequence[str] = (),
    ) -> Published:
        """Make the manifest the adapter's next version, or return the version with the same content.  PUBLISH.

        Config and headers are read again from storage; InvalidAdapter, InvalidManifest when they differ or do
        not hold.  Everything lands in one transaction, after the blobs.  `alias` is moved in the same one.
        `private` counts when the adapter is new, else it must be None or what the adapter is (Conflict).
        """
        return publish.publish(
            self.context,
            actor,
            name,
            manifest,
            task=task,
            message=message,
            alias=alias,
            private=private,
            trained_from=trained_from,
            merged_from=merged_from,
        )

    def resolve(self, actor: Actor, ref: AdapterRef) -> Version:
        """Return the version that a ref means, with its manifest.

        Raises AdapterNotFound, VersionNotFound, AliasNotFound.  `latest` is the newest that isn't yanked.
        """
        return resolving.resolve(self.context, self._resolved, actor, ref)

    def versions(self, actor: Actor, name: AdapterName) -> tuple[Version, ...]:
        """List all versions, newest first, without manifests."""
        return versions.listing(self.context, actor, name)

    def children(self, actor: Actor, ref: AdapterRef) -> tuple[Lineage, ...]:
        """Return the readable versions that name this one as a parent: `ref` is the child's."""
        return versions.children(self.context, actor, ref)

    def open_file(self, actor: Actor, ref: AdapterRef, path: str) -> StoredFile:
        """Raises FileNotFound when the version has no such file."""
        return files.open_file(self.context, actor, ref, path)

    def yank(self, actor: Actor, name: AdapterName, version: int, reason: str) -> Version:
        """Take a version out of `latest` and of alias moves; it stays readable by exact ref.  PUBLISH."""
        return versions.yank(self.context, actor, name, version, reason)

    def unyank(self, actor: Actor, name: AdapterName, version: int) -> Version:
        """PUBLISH."""
        return versions.unyank(self.context, actor, name, version)

    def deprecate_version(
        self, actor: Actor, name: AdapterName, version: int, reason: str | None, successor: str | None = None
    ) -> Version:
        """Point a version to a successor (any ref); a reason of None takes the mark away.  PUBLISH."""
        return versions.deprecate(self.context, actor, name, version, reason, successor)

    def delete_version(self, actor: Actor, name: AdapterName, version: int) -> None:
        """Delete a version inside 72 hours of its publishing; the number is never used again.  OWN.

        Raises Conflict when it is older, or when an alias still points to it.
        """
        versions.delete(self.context, actor, name, version)

    def count_download(self, actor: Actor, version_id: int, visitor: str | None = None) -> bool:
        """Count a download, once per user, version and day; anonymous ones by `visitor` (any stable text)."""
        return versions.count_download(self.context, actor, version_id, visitor)

    def download_history(self, actor: Actor, name: AdapterName, days: int = 90) -> tuple[DailyDownloads, ...]:
        """Return downloads per day (UTC), oldest first; days without one are left out."""
        return versions.download_history(self.context, actor, name, days)

    def set_metric(
        self, actor: Actor, name: AdapterName, version: int, metric: str, value: float, dataset: str = ""
    ) -> Metric:
        """Attach an evaluation result to a version, or replace it.  PUBLISH."""
        return metrics.set_metric(self.context, actor, name, version, metric, value, dataset)

    def delete_metric(self, actor: Actor, name: AdapterName, version: int, metric: str, dataset: str = "") -> None:
        """PUBLISH.  Raises NotFound."""
        metrics.delete_metric(self.context, actor, name, version, metric, dataset)

    # Aliases ---------------------------------------------------------------------------------------------------

    def aliases(self, actor: Actor, name: AdapterName) -> tuple[Alias, ...]:
        return aliases.listing(self.context, actor, name)

    def set_alias(
        self,
        actor: Actor,
        name: AdapterName,
        alias: str,
        version: int,
        *,
        expected: int | None = None,
        check: bool = False,
        protected: bool | None = None,
    ) -> Alias:
        """Create or move an alias.  PUBLISH; a protected one, or protecting one, takes OWN.

        With `check` the alias must stand at `expected` now (None: must not exist), else PreconditionFailed.
        Raises VersionNotFound; Conflict for a yanked version.
        """
        return aliases.set_alias(
            self.context, actor, name, alias, version, expected=expected, check=check, protected=protected
        )

    def delete_alias(
        self, actor: Actor, name: AdapterName, alias: str, *, expected: int | None = None, check: bool = False
    ) -> None:
        aliases.delete_alias(self.context, actor, name, alias, expected=expected, check=check)

    def alias_history(self, actor: Actor, name: AdapterName, alias: str | None = None) -> tuple[AliasMove, ...]:
        """Return an alias's moves (or all of the adapter's), newest first."""
        return aliases.history(self.context, actor, name, alias)

    # Adapters and the catalog ----------------------------------------------------------------------------------

    def adapter(self, actor: Actor, name: AdapterName) -> Adapter:
        """Raises AdapterNotFound."""
        return adapters.get(self.context, actor, name)

    def create_adapter(self, actor: Actor, name: AdapterName, *, private: bool = False) -> Adapter:
        """Create an empty adapter (not shown in the catalog until it has a version).  PUBLISH.  Conflict if there."""
        return adapters.create(self.context, actor, name, private=private)

    def update_adapter(
        self, actor: Actor, name: AdapterName, *, private: bool | None = None, gated: bool | None = None
    ) -> Adapter:
        """Change who may read it; `gated` keeps its files, but not its card, for members of the namespace.  OWN."""
        return adapters.update(self.context, actor, name, private=private, gated=gated)

    def deprecate_adapter(
        self, actor: Actor, name: AdapterName, reason: str | None, successor: str | None = None
    ) -> Adapter:
        """Point a whole adapter to a successor; a reason of None takes the mark away.  PUBLISH."""
        return adapters.deprecate(self.context, actor, name, reason, successor)

    def delete_adapter(self, actor: Actor, name: AdapterName) -> None:
        """Delete an adapter whose versions are all younger than 72 hours (or that has none).  OWN.

        The name stays with its namespace, and numbers go on where they ended.
        """
        adapters.delete(self.context, actor, name)

    def search(self, actor: Actor, query: Query) -> Page:
        """Find adapters.  Text is matched word by word, as prefixes; anything may be typed.  Raises InvalidRequest."""
        return catalog.search(self.context, actor, query)

    # Bases -----------------------------------------------------------------------------------------------------

    def bases(self, actor: Actor) -> tuple[Base, ...]:
        """List the bases that adapters which the actor may read were trained for, the most used first."""
        return bases.listing(self.context, actor)

    def base(self, actor: Actor, name: str) -> Base:
        """Return a base by its id or one of its aliases.  Raises BaseNotFound."""
        return bases.get(self.context, actor, name)

    def update_base(
        self,
        actor: Actor,
        name: str,
        *,
        new_id: str | None = None,
        add_aliases: Sequence[str] = (),
        remove_aliases: Sequence[str] = (),
        parent: str | None = None,
    ) -> Base:
        """Rename a base (the old id stays as an alias), name it otherwise, or set what it is a copy of.  SITE."""
        return bases.update(
            self.context,
            actor,
            name,
            new_id=new_id,
            add_aliases=add_aliases,
            remove_aliases=remove_aliases,
            parent=parent,
        )

    def rebind(self, actor: Actor, name: AdapterName, version: int, base: str) -> Version:
        """Say that a version was trained for another base object; its manifest stays as it is.  OWN.  Audited."""
        return bases.rebind(self.context, actor, name, version, base)

    # Commits and trees, for the Hugging Face wire --------------------------------------------------------------

    def tree(self, actor: Actor, name: AdapterName, revision: str = "main") -> Tree:
        """Return all files at `main`, `latest`, `vN`, an alias, a 40-hex commit, or `sha256:…`.

        Raises VersionNotFound for a revision that isn't there.
        """
        return drafts.tree(self.context, actor, name, revision)

    def commits(
        self, actor: Actor, name: AdapterName, revision: str = "main", limit: int = 100, before: str | None = None
    ) -> tuple[Commit, ...]:
        """List accepted commits from `revision` back, newest first; `before` is the last commit id of a page."""
        return drafts.commits(self.context, actor, name, revision, limit, before)

    def commit_tree(
        self,
        actor: Actor,
        name: AdapterName,
        parent: str | None,
        tree: Mapping[str, str],
        message: str = "",
        description: str = "",
    ) -> Commit:
        """Make `tree` (path -> sha256 of a blob that is present for the actor) the new `main`.  PUBLISH.

        parent: the commit that the tree was made from; PreconditionFailed unless it is `main` now.
        A whole, valid adapter becomes the next version (or is the version with the same content); anything else is
        kept as a draft whose `problem` says what is missing.  Raises UnsafeFile for what is never stored.
        """
        return drafts.commit_tree(self.context, actor, name, parent, tree, message, description)

    def open_at(self, actor: Actor, name: AdapterName, revision: str, path: str) -> StoredFile:
        """Open a file at any revision, drafts included.  Raises FileNotFound."""
        return drafts.open_at(self.context, actor, name, revision, path)

    # Housekeeping ----------------------------------------------------------------------------------------------

    def audit_log(
        self, actor: Actor, namespace: str | None = None, *, limit: int = 100, before: int | None = None
    ) -> tuple[AuditEvent, ...]:
        """Return events, newest first: MANAGE of the namespace; without one, SITE."""
        return audit.listing(self.context, actor, namespace, limit=limit, before=before)

    def create_webhook(
        self, actor: Actor, namespace: str, url: str, events: Sequence[str] = ("*",)
    ) -> tuple[Webhook, str]:
        """Post a namespace's events to `url`; returns the webhook and the secret that signs the bodies.  MANAGE."""
        return webhooks.create(self.context, actor, namespace, url, events)

    def webhooks(self, actor: Actor, namespace: str) -> tuple[Webhook, ...]:
        """MANAGE."""
        return webhooks.listing(self.context, actor, namespace)

    def delete_webhook(self, actor: Actor, webhook_id: int) -> None:
        """MANAGE.  Raises WebhookNotFound."""
        webhooks.delete(self.context, actor, webhook_id)

    def deliver_webhooks(self, limit: int = 100) -> int:
        """Post what is due in the outbox; returns how many got through.  For a background thread of each worker."""
        return webhooks.deliver(self.context, limit)

    def take_rate(self, key: str, *, per_minute: int, burst: int, cost: float = 1.0) -> None:
        """Take from a token bucket that all workers share.  Raises TooManyRequests (retry_after_seconds)."""
        limits.take(self.context, key, per_minute=per_minute, burst=burst, cost=cost)

    def import_version(
        self, actor: Actor, name: AdapterName, url: str, *, message: str = "", token: str | None = None
    ) -> Published:
        """Fetch a version from another lorahub or a Hugging Face Hub and publish it.  PUBLISH.  SSRF rules hold."""
        return importing.import_version(self.context, actor, name, url, message=message, token=token)

    def collect_garbage(
        self, *, grace: timedelta = timedelta(hours=24), dry_run: bool = False, now: datetime | None = None
    ) -> gc.GcReport:
        """Delete blobs that nothing has named for `grace`, and uploads that expired.  Safe while serving."""
        return gc.collect(self.context, grace=grace, dry_run=dry_run, now=now)

    def check_storage(self, *, rehash: bool = True, repair: bool = False) -> fsck.FsckReport:
        """Compare rows and blobs, and with `rehash` every byte.  `repair` removes orphans, nothing else."""
        return fsck.check(self.context, rehash=rehash, repair=repair)

    def backup(self, target: str) -> backup.BackupReport:
        """Write a consistent copy into a new folder while the service goes on."""
        return backup.write(self.context, target)

    def statistics(self) -> dict[str, Any]:
        """Return counts for /metrics and the front page: adapters, versions, blobs, bytes, downloads."""
        return catalog.statistics(self.context)
