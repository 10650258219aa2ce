"""The tables, as SQLAlchemy classes.  Rows never leave hub.registry: callers get the values of values.py.

    users ─< tokens, web_sessions          namespaces ─< members >─ users
    namespaces ─< adapters ─< versions ─< version_files >─ blobs
                     │            ├─< metrics, lineage, downloads
                     │            └─ manifests                    (the canonical bytes, apart: rows stay small)
                     ├─< aliases, alias_moves
                     ├─< commits ─< commit_files >─ blobs         (what the Hugging Face wire accepted)
                     └─ terms ─< term_chunks                      (facets: one bitmap of adapters per value)
    bases ─< base_aliases, base_fingerprints, base_claims >─ adapters
    uploads, blob_grants · audit, webhooks ─< deliveries · rate_buckets, server_values
    derived                                                       (by digest: what was computed of a version, once)

A blob's row means "the bytes are stored".  Whoever refers to a blob does so by foreign key, so the database itself
refuses to let garbage collection take what is in use.  Order in time is order of ids: clocks may jump.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Moment(TypeDecorator[datetime]):
    """A point in time: aware UTC in Python on both databases."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite hands out row ids by itself only for INTEGER keys; PostgreSQL needs 64 bits.
BigId = BigInteger().with_variant(Integer(), "sqlite")


class Model(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy's own spelling)
        datetime: Moment,
        dict[str, Any]: JSON,
        list[str]: JSON,
    }


class UserRow(Model):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(96), unique=True)
    admin: Mapped[bool] = mapped_column(default=False)
    disabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]


class TokenRow(Model):
    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    secret_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    namespace: Mapped[str | None] = mapped_column(String(96))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class WebSessionRow(Model):
    __tablename__ = "web_sessions"

    secret_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    token_id: Mapped[int | None] = mapped_column(ForeignKey("tokens.id"))
    scopes: Mapped[list[str]]
    namespace: Mapped[str | None] = mapped_column(String(96))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class NamespaceRow(Model):
    __tablename__ = "namespaces"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(96), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    private: Mapped[bool] = mapped_column(default=False)
    description: Mapped[str] = mapped_column(Text, default="")
    used_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)
    quota_adapters: Mapped[int | None]
    created_at: Mapped[datetime]


class MemberRow(Model):
    __tablename__ = "members"

    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespaces.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(16))


class AdapterRow(Model):
    """`last_number` only ever grows, through deletes too: a number is never used again.

    recent_id: id of the newest version, 0 without one; the catalog shows only adapters above 0.
    revision: counts the mutations of the adapter and of all that hangs on it, so that a cache knows when it is old.
    deleted_at: a tombstone, which keeps the name with its namespace and its last number.  An adapter that is made again
    under the name is another row: nothing that hangs on the old one is readable by way of the new one.
    """

    __tablename__ = "adapters"
    __table_args__ = (
        Index(
            "ux_adapters_living",
            "namespace_id",
            "name",
            unique=True,
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index("ix_adapters_named", "namespace_id", "name"),
        Index("ix_adapters_recent", "recent_id", "id"),
        Index("ix_adapters_downloads", "downloads", "id"),
        Index("ix_adapters_full_name", "full_name", "id"),
        Index("ix_adapters_size_bytes", "size_bytes", "id"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespaces.id"))
    name: Mapped[str] = mapped_column(String(96))
    full_name: Mapped[str] = mapped_column(String(96))
    private: Mapped[bool] = mapped_column(default=False)
    gated: Mapped[bool] = mapped_column(default=False)
    last_number: Mapped[int] = mapped_column(default=0)
    latest_number: Mapped[int | None]
    recent_id: Mapped[int] = mapped_column(BigInteger, default=0)
    version_count: Mapped[int] = mapped_column(default=0)
    revision: Mapped[int] = mapped_column(BigInteger, default=0)
    head: Mapped[str | None] = mapped_column(String(40))
    downloads: Mapped[int] = mapped_column(default=0)
    description: Mapped[str] = mapped_column(Text, default="")
    task: Mapped[str | None] = mapped_column(String(96))
    license: Mapped[str | None] = mapped_column(String(96))
    tags: Mapped[list[str]] = mapped_column(default=list)
    base_id: Mapped[int | None] = mapped_column(ForeignKey("bases.id"), index=True)
    rank: Mapped[int | None]
    alpha: Mapped[float | None]
    method: Mapped[str | None] = mapped_column(String(32))
    dtype: Mapped[str | None] = mapped_column(String(32))
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    target_modules: Mapped[list[str]] = mapped_column(default=list)
    deprecated_reason: Mapped[str | None] = mapped_column(Text)
    deprecated_successor: Mapped[str | None] = mapped_column(String(200))
    deprecated_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class AccessRequestRow(Model):
    """A user who asked to read a gated adapter's files.  status: `pending`, `accepted`, `rejected`."""

    __tablename__ = "access_requests"

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(200))
    at: Mapped[datetime]


class VersionRow(Model):
    """content_key: sha256 of the files alone, by which a second push of the same content is known.

    branch: where it was committed; None for `main`.  A version of a branch is never the latest.
    """

    __tablename__ = "versions"
    __table_args__ = (
        UniqueConstraint("adapter_id", "number"),
        Index("ix_versions_adapter_digest", "adapter_id", "digest"),
        Index("ix_versions_adapter_content", "adapter_id", "content_key"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"))
    number: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    content_key: Mapped[str] = mapped_column(String(64))
    branch: Mapped[str | None] = mapped_column(String(96))
    message: Mapped[str] = mapped_column(Text, default="")
    task: Mapped[str | None] = mapped_column(String(96))
    license: Mapped[str | None] = mapped_column(String(96))
    tags: Mapped[list[str]] = mapped_column(default=list)
    description: Mapped[str] = mapped_column(Text, default="")
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    file_count: Mapped[int]
    rank: Mapped[int]
    alpha: Mapped[float]
    method: Mapped[str] = mapped_column(String(32))
    target_modules: Mapped[list[str]]
    dtype: Mapped[str] = mapped_column(String(32))
    parameters: Mapped[int] = mapped_column(BigInteger)
    base_id: Mapped[int | None] = mapped_column(ForeignKey("bases.id"), index=True)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    downloads: Mapped[int] = mapped_column(default=0)
    yanked_at: Mapped[datetime | None]
    yanked_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    yanked_reason: Mapped[str | None] = mapped_column(Text)
    deprecated_at: Mapped[datetime | None]
    deprecated_reason: Mapped[str | None] = mapped_column(Text)
    deprecated_successor: Mapped[str | None] = mapped_column(String(200))
    deleted_at: Mapped[datetime | None]


class ManifestRow(Model):
    """`body` is the canonical JSON, compressed with zlib."""

    __tablename__ = "manifests"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)


class BlobRow(Model):
    """touched_at: when somebody last sent or named it; garbage collection waits for its grace from then."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    git_sha1: Mapped[str | None] = mapped_column(String(40))
    touched_at: Mapped[datetime] = mapped_column(index=True)


class VersionFileRow(Model):
    __tablename__ = "version_files"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    path: Mapped[str] = mapped_column(String(200), primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)


class BlobGrantRow(Model):
    """Somebody sent this blob to this adapter, so a publish there may name it.  It ends after a day.

    counted_bytes: what it takes of the namespace's quota: the blob's size; 0 where nothing had to be sent, and as soon
    as a version or draft names it.
    """

    __tablename__ = "blob_grants"

    adapter: Mapped[str] = mapped_column(String(96), primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256", ondelete="CASCADE"), primary_key=True, index=True)
    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespaces.id"), index=True)
    counted_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    touched_at: Mapped[datetime]


class UploadRow(Model):
    """An upload.  Its offset is known to the store alone, so that the two can't disagree.

    done: the blob is stored.  The row stays for its lifetime, so that whoever sends the last bytes a second time
    (another push of the same user, or a client that did not hear the answer) is told so.
    store_key: empty for what is sent in one request, which is here only to be counted while it comes.
    """

    __tablename__ = "uploads"
    __table_args__ = (
        Index("ix_uploads_wanted", "adapter", "sha256", "user_id"),
        Index("ix_uploads_open", "user_id", "done"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    adapter: Mapped[str] = mapped_column(String(96))
    namespace_id: Mapped[int | None] = mapped_column(ForeignKey("namespaces.id"), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    store_key: Mapped[str] = mapped_column(Text)
    done: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class AliasRow(Model):
    __tablename__ = "aliases"
    __table_args__ = (Index("ix_aliases_version", "version_id"),)

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(96), primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    protected: Mapped[bool] = mapped_column(default=False)
    updated_at: Mapped[datetime]
    updated_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))


class AliasMoveRow(Model):
    __tablename__ = "alias_moves"
    __table_args__ = (Index("ix_alias_moves_adapter", "adapter_id", "id"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"))
    alias: Mapped[str] = mapped_column(String(96))
    before: Mapped[int | None]
    after: Mapped[int | None]
    at: Mapped[datetime]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))


class CommitRow(Model):
    """commit: 40 hex; a version's is its digest's start.  Files of a version's commit are the version's.

    lane: the branch or draft that it belongs to; None for `main`.  counted_bytes: what a draft takes of the quota.
    """

    __tablename__ = "commits"
    __table_args__ = (Index("ix_commits_adapter_commit", "adapter_id", "commit"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"))
    commit: Mapped[str] = mapped_column(String(40))
    parent: Mapped[str | None] = mapped_column(String(40))
    version_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"), index=True)
    title: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text, default="")
    problem: Mapped[str | None] = mapped_column(Text)
    lane: Mapped[str | None] = mapped_column(String(200))
    counted_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]


class LaneRow(Model):
    """Where commits go that are not for `main`: a branch, or what one author has sent that is no version yet.

    name: `experiment`, or `draft/<author>` (of a branch: `draft/<author>/<branch>`).  head: its last commit.
    base: the commit of its branch that it goes out from.
    """

    __tablename__ = "lanes"

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    head: Mapped[str] = mapped_column(String(40))
    base: Mapped[str | None] = mapped_column(String(40))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    updated_at: Mapped[datetime] = mapped_column(index=True)


class CommitFileRow(Model):
    __tablename__ = "commit_files"

    commit_id: Mapped[int] = mapped_column(ForeignKey("commits.id"), primary_key=True)
    path: Mapped[str] = mapped_column(String(200), primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)


class BaseRow(Model):
    __tablename__ = "bases"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(300), unique=True)
    revision: Mapped[str | None] = mapped_column(String(100))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("bases.id"), index=True)
    created_at: Mapped[datetime]


class BaseAliasRow(Model):
    __tablename__ = "base_aliases"

    alias: Mapped[str] = mapped_column(String(300), primary_key=True)
    base_id: Mapped[int] = mapped_column(ForeignKey("bases.id"), index=True)


class BaseFingerprintRow(Model):
    """kind: `shapes` (names and shapes: a whole family has it) or `weights` (one set of weights).

    pinned: an operator said so.  Who else did is in BaseClaimRow.
    """

    __tablename__ = "base_fingerprints"
    __table_args__ = (Index("ix_base_fingerprints_value", "kind", "value"),)

    base_id: Mapped[int] = mapped_column(ForeignKey("bases.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    value: Mapped[str] = mapped_column(String(128), primary_key=True)
    sketch: Mapped[str | None] = mapped_column(Text)
    pinned: Mapped[bool] = mapped_column(default=False)


class BaseClaimRow(Model):
    """An adapter said that its base has this fingerprint."""

    __tablename__ = "base_claims"
    __table_args__ = (Index("ix_base_claims_value", "kind", "value"),)

    base_id: Mapped[int] = mapped_column(ForeignKey("bases.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    value: Mapped[str] = mapped_column(String(128), primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), primary_key=True, index=True)


class MetricRow(Model):
    __tablename__ = "metrics"
    __table_args__ = (Index("ix_metrics_name_value", "name", "value"),)

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(96), primary_key=True)
    dataset: Mapped[str] = mapped_column(String(200), primary_key=True, default="")
    value: Mapped[float]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    at: Mapped[datetime]


class LineageRow(Model):
    __tablename__ = "lineage"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    ref: Mapped[str] = mapped_column(String(200), primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"), index=True)


class DerivedRow(Model):
    """What was computed of the version with a digest, or of it and another one, by one recipe: see derived/."""

    __tablename__ = "derived"
    __table_args__ = (Index("ix_derived_state", "state", "share", "wanted_at"), Index("ix_derived_digest", "digest"))

    recipe: Mapped[str] = mapped_column(String(48), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    other: Mapped[str] = mapped_column(String(64), primary_key=True, default="")
    state: Mapped[str] = mapped_column(String(8), default="waiting")
    share: Mapped[str] = mapped_column(String(96))
    tries: Mapped[int] = mapped_column(default=0)
    wanted_at: Mapped[datetime]
    claimed_until: Mapped[datetime | None]
    reason: Mapped[str | None] = mapped_column(Text)
    body: Mapped[bytes | None] = mapped_column(LargeBinary)


class DownloadRow(Model):
    """One row per version, day and user: the primary key is what makes a second download not count."""

    __tablename__ = "downloads"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    visitor: Mapped[str] = mapped_column(String(64), primary_key=True)


class TermRow(Model):
    """A value that adapters are found by, e.g. ("base", "meta-llama/Llama-2-7b")."""

    __tablename__ = "terms"
    __table_args__ = (UniqueConstraint("field", "value"), Index("ix_terms_common", "field", "count"))

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    field: Mapped[str] = mapped_column(String(16))
    value: Mapped[str] = mapped_column(String(300))
    count: Mapped[int] = mapped_column(default=0)


class TermChunkRow(Model):
    """Which adapters have a term: bit i of chunk c is adapter c * CHUNK_BITS + i.  See facets.py."""

    __tablename__ = "term_chunks"

    term_id: Mapped[int] = mapped_column(ForeignKey("terms.id"), primary_key=True)
    chunk: Mapped[int] = mapped_column(primary_key=True)
    bits: Mapped[bytes] = mapped_column(LargeBinary)


class AuditRow(Model):
    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_namespace", "namespace", "id"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[datetime]
    user: Mapped[str | None] = mapped_column(String(96))
    action: Mapped[str] = mapped_column(String(48))
    target: Mapped[str] = mapped_column(String(300))
    namespace: Mapped[str | None] = mapped_column(String(96))
    source: Mapped[str | None] = mapped_column(String(64))
    token_id: Mapped[int | None] = mapped_column(BigInteger)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)


class WebhookRow(Model):
    __tablename__ = "webhooks"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespaces.id"), index=True)
    url: Mapped[str] = mapped_column(Text)
    secret: Mapped[str] = mapped_column(String(64))
    events: Mapped[list[str]]
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]


class DeliveryRow(Model):
    """The outbox: written in the transaction of the event, sent by any worker, kept until it got through."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("ix_deliveries_due", "state", "due_at"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"), index=True)
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16), default="waiting")
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    last_error: Mapped[str | None] = mapped_column(Text)


class RateBucketRow(Model):
    __tablename__ = "rate_buckets"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    tokens: Mapped[float]
    updated_at: Mapped[float]


class ServerValueRow(Model):
    """What all workers share, such as the key that signs URLs and cookies."""

    __tablename__ = "server_values"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
