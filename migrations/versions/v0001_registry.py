"""The registry's tables: users, namespaces, adapters, versions, blobs, the catalog's index, webhooks.

Revision 0001, after None.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite assigns row ids automatically only for INTEGER keys.
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_audit()
    _create_bases()
    _create_blobs()
    _create_namespaces()
    _create_rate_buckets()
    _create_server_values()
    _create_users()
    _create_adapters()
    _create_base_aliases()
    _create_base_fingerprints()
    _create_base_claims()
    _create_blob_grants()
    _create_members()
    _create_tokens()
    _create_uploads()
    _create_alias_moves()
    _create_versions()
    _create_web_sessions()
    _create_aliases()
    _create_commits()
    _create_access_requests()
    _create_lanes()
    _create_downloads()
    _create_lineage()
    _create_manifests()
    _create_metrics()
    _create_version_files()
    _create_commit_files()
    _create_terms()
    _create_term_chunks()
    _create_adapter_search()
    _create_webhooks()
    _create_deliveries()
    _create_derived()


def downgrade() -> None:
    op.drop_table("derived")
    op.drop_table("deliveries")
    op.drop_table("webhooks")
    op.execute("DROP TABLE adapter_search")
    op.drop_table("term_chunks")
    op.drop_table("terms")
    op.drop_table("commit_files")
    op.drop_table("version_files")
    op.drop_table("metrics")
    op.drop_table("manifests")
    op.drop_table("lineage")
    op.drop_table("downloads")
    op.drop_table("lanes")
    op.drop_table("access_requests")
    op.drop_table("commits")
    op.drop_table("aliases")
    op.drop_table("web_sessions")
    op.drop_table("versions")
    op.drop_table("alias_moves")
    op.drop_table("uploads")
    op.drop_table("tokens")
    op.drop_table("members")
    op.drop_table("blob_grants")
    op.drop_table("base_fingerprints")
    op.drop_table("base_aliases")
    op.drop_table("base_claims")
    op.drop_table("adapters")
    op.drop_table("users")
    op.drop_table("server_values")
    op.drop_table("rate_buckets")
    op.drop_table("namespaces")
    op.drop_table("blobs")
    op.drop_table("bases")
    op.drop_table("audit")


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user", sa.String(length=96), nullable=True),
        sa.Column("action", sa.String(length=48), nullable=False),
        sa.Column("target", sa.String(length=300), nullable=False),
        sa.Column("namespace", sa.String(length=96), nullable=True),
        sa.Column("source", sa.String(length=64), nullable=True),
        sa.Column("token_id", sa.BigInteger(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_namespace", "audit", ["namespace", "id"], unique=False)


def _create_bases() -> None:
    op.create_table(
        "bases",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("revision", sa.String(length=100), nullable=True),
        sa.Column("parent_id", BIG_ID, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["bases.id"], name=op.f("fk_bases_parent_id_bases")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bases")),
        sa.UniqueConstraint("name", name=op.f("uq_bases_name")),
    )
    op.create_index(op.f("ix_bases_parent_id"), "bases", ["parent_id"], unique=False)


def _create_blobs() -> None:
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("git_sha1", sa.String(length=40), nullable=True),
        sa.Column("touched_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blobs")),
    )
    op.create_index(op.f("ix_blobs_touched_at"), "blobs", ["touched_at"], unique=False)


def _create_namespaces() -> None:
    op.create_table(
        "namespaces",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), nullable=False),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=True),
        sa.Column("quota_adapters", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_namespaces")),
        sa.UniqueConstraint("name", name=op.f("uq_namespaces_name")),
    )


def _create_rate_buckets() -> None:
    op.create_table(
        "rate_buckets",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_rate_buckets")),
    )


def _create_server_values() -> None:
    op.create_table(
        "server_values",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_server_values")),
    )


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("admin", sa.Boolean(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
    )


def _create_adapters() -> None:
    op.create_table(
        "adapters",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("namespace_id", BIG_ID, nullable=False),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("full_name", sa.String(length=96), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.Column("latest_number", sa.Integer(), nullable=True),
        sa.Column("recent_id", sa.BigInteger(), nullable=False),
        sa.Column("version_count", sa.Integer(), nullable=False),
        sa.Column("head", sa.String(length=40), nullable=True),
        sa.Column("downloads", sa.Integer(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("gated", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.String(length=96), nullable=True),
        sa.Column("license", sa.String(length=96), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("base_id", BIG_ID, nullable=True),
        sa.Column("rank", sa.Integer(), nullable=True),
        sa.Column("alpha", sa.Double(), nullable=True),
        sa.Column("method", sa.String(length=32), nullable=True),
        sa.Column("dtype", sa.String(length=32), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("target_modules", sa.JSON(), nullable=False),
        sa.Column("deprecated_reason", sa.Text(), nullable=True),
        sa.Column("deprecated_successor", sa.String(length=200), nullable=True),
        sa.Column("deprecated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_adapters_base_id_bases")),
        sa.ForeignKeyConstraint(["namespace_id"], ["namespaces.id"], name=op.f("fk_adapters_namespace_id_namespaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapters")),
    )
    op.create_index(
        "ux_adapters_living",
        "adapters",
        ["namespace_id", "name"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index("ix_adapters_named", "adapters", ["namespace_id", "name"], unique=False)
    op.create_index(op.f("ix_adapters_base_id"), "adapters", ["base_id"], unique=False)
    op.create_index("ix_adapters_downloads", "adapters", ["downloads", "id"], unique=False)
    op.create_index("ix_adapters_full_name", "adapters", ["full_name", "id"], unique=False)
    op.create_index("ix_adapters_recent", "adapters", ["recent_id", "id"], unique=False)
    op.create_index("ix_adapters_size_bytes", "adapters", ["size_bytes", "id"], unique=False)


def _create_base_aliases() -> None:
    op.create_table(
        "base_aliases",
        sa.Column("alias", sa.String(length=300), nullable=False),
        sa.Column("base_id", BIG_ID, nullable=False),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_base_aliases_base_id_bases")),
        sa.PrimaryKeyConstraint("alias", name=op.f("pk_base_aliases")),
    )
    op.create_index(op.f("ix_base_aliases_base_id"), "base_aliases", ["base_id"], unique=False)


def _create_base_fingerprints() -> None:
    op.create_table(
        "base_fingerprints",
        sa.Column("base_id", BIG_ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("value", sa.String(length=128), nullable=False),
        sa.Column("sketch", sa.Text(), nullable=True),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_base_fingerprints_base_id_bases")),
        sa.PrimaryKeyConstraint("base_id", "kind", "value", name=op.f("pk_base_fingerprints")),
    )
    op.create_index("ix_base_fingerprints_value", "base_fingerprints", ["kind", "value"], unique=False)


def _create_base_claims() -> None:
    op.create_table(
        "base_claims",
        sa.Column("base_id", BIG_ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("value", sa.String(length=128), nullable=False),
        sa.Column("adapter_id", BIG_ID, nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_base_claims_adapter_id_adapters")),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_base_claims_base_id_bases")),
        sa.PrimaryKeyConstraint("base_id", "kind", "value", "adapter_id", name=op.f("pk_base_claims")),
    )
    op.create_index("ix_base_claims_value", "base_claims", ["kind", "value"], unique=False)
    op.create_index(op.f("ix_base_claims_adapter_id"), "base_claims", ["adapter_id"], unique=False)


def _create_blob_grants() -> None:
    op.create_table(
        "blob_grants",
        sa.Column("adapter", sa.String(length=96), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("namespace_id", BIG_ID, nullable=False),
        sa.Column("counted_bytes", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["sha256"], ["blobs.sha256"], name=op.f("fk_blob_grants_sha256_blobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["namespace_id"], ["namespaces.id"], name=op.f("fk_blob_grants_namespace_id_namespaces")
        ),
        sa.PrimaryKeyConstraint("adapter", "sha256", name=op.f("pk_blob_grants")),
    )
    op.create_index(op.f("ix_blob_grants_sha256"), "blob_grants", ["sha256"], unique=False)
    op.create_index(op.f("ix_blob_grants_namespace_id"), "blob_grants", ["namespace_id"], unique=False)


def _create_members() -> None:
    op.create_table(
        "members",
        sa.Column("namespace_id", BIG_ID, nullable=False),
        sa.Column("user_id", BIG_ID, nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["namespace_id"], ["namespaces.id"], name=op.f("fk_members_namespace_id_namespaces")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_members_user_id_users")),
        sa.PrimaryKeyConstraint("namespace_id", "user_id", name=op.f("pk_members")),
    )
    op.create_index(op.f("ix_members_user_id"), "members", ["user_id"], unique=False)


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("user_id", BIG_ID, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("namespace", sa.String(length=96), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tokens_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_tokens_secret_sha256")),
    )
    op.create_index(op.f("ix_tokens_user_id"), "tokens", ["user_id"], unique=False)


def _create_uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("adapter", sa.String(length=96), nullable=False),
        sa.Column("namespace_id", BIG_ID, nullable=True),
        sa.Column("user_id", BIG_ID, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("store_key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["namespace_id"], ["namespaces.id"], name=op.f("fk_uploads_namespace_id_namespaces")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_uploads_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index(op.f("ix_uploads_expires_at"), "uploads", ["expires_at"], unique=False)
    op.create_index(op.f("ix_uploads_namespace_id"), "uploads", ["namespace_id"], unique=False)
    op.create_index("ix_uploads_open", "uploads", ["user_id", "done"], unique=False)
    op.create_index("ix_uploads_wanted", "uploads", ["adapter", "sha256", "user_id"], unique=False)


def _create_alias_moves() -> None:
    op.create_table(
        "alias_moves",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("adapter_id", BIG_ID, nullable=False),
        sa.Column("alias", sa.String(length=96), nullable=False),
        sa.Column("before", sa.Integer(), nullable=True),
        sa.Column("after", sa.Integer(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", BIG_ID, nullable=True),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_alias_moves_adapter_id_adapters")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_alias_moves_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alias_moves")),
    )
    op.create_index("ix_alias_moves_adapter", "alias_moves", ["adapter_id", "id"], unique=False)


def _create_versions() -> None:
    op.create_table(
        "versions",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("adapter_id", BIG_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("content_key", sa.String(length=64), nullable=False),
        sa.Column("branch", sa.String(length=96), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("task", sa.String(length=96), nullable=True),
        sa.Column("license", sa.String(length=96), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("file_count", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("method", sa.String(length=32), nullable=False),
        sa.Column("target_modules", sa.JSON(), nullable=False),
        sa.Column("dtype", sa.String(length=32), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column("base_id", BIG_ID, nullable=True),
        sa.Column("created_by", BIG_ID, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("downloads", sa.Integer(), nullable=False),
        sa.Column("yanked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("yanked_by", BIG_ID, nullable=True),
        sa.Column("yanked_reason", sa.Text(), nullable=True),
        sa.Column("deprecated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deprecated_reason", sa.Text(), nullable=True),
        sa.Column("deprecated_successor", sa.String(length=200), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_versions_adapter_id_adapters")),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name=op.f("fk_versions_base_id_bases")),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_versions_created_by_users")),
        sa.ForeignKeyConstraint(["yanked_by"], ["users.id"], name=op.f("fk_versions_yanked_by_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_versions")),
        sa.UniqueConstraint("adapter_id", "number", name=op.f("uq_versions_adapter_id_number")),
    )
    op.create_index("ix_versions_adapter_content", "versions", ["adapter_id", "content_key"], unique=False)
    op.create_index("ix_versions_adapter_digest", "versions", ["adapter_id", "digest"], unique=False)
    op.create_index(op.f("ix_versions_base_id"), "versions", ["base_id"], unique=False)


def _create_web_sessions() -> None:
    op.create_table(
        "web_sessions",
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("user_id", BIG_ID, nullable=False),
        sa.Column("token_id", BIG_ID, nullable=True),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("namespace", sa.String(length=96), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], name=op.f("fk_web_sessions_token_id_tokens")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_web_sessions_user_id_users")),
        sa.PrimaryKeyConstraint("secret_sha256", name=op.f("pk_web_sessions")),
    )
    op.create_index(op.f("ix_web_sessions_expires_at"), "web_sessions", ["expires_at"], unique=False)
    op.create_index(op.f("ix_web_sessions_user_id"), "web_sessions", ["user_id"], unique=False)


def _create_aliases() -> None:
    op.create_table(
        "aliases",
        sa.Column("adapter_id", BIG_ID, nullable=False),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("version_id", BIG_ID, nullable=False),
        sa.Column("protected", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", BIG_ID, nullable=True),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_aliases_adapter_id_adapters")),
        sa.ForeignKeyConstraint(["updated_by"], ["users.id"], name=op.f("fk_aliases_updated_by_users")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_aliases_version_id_versions")),
        sa.PrimaryKeyConstraint("adapter_id", "name", name=op.f("pk_aliases")),
    )
    op.create_index("ix_aliases_version", "aliases", ["version_id"], unique=False)


def _create_commits() -> None:
    op.create_table(
        "commits",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("adapter_id", BIG_ID, nullable=False),
        sa.Column("commit", sa.String(length=40), nullable=False),
        sa.Column("parent", sa.String(length=40), nullable=True),
        sa.Column("version_id", BIG_ID, nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("lane", sa.String(length=200), nullable=True),
        sa.Column("counted_bytes", sa.BigInteger(), nullable=False),
        sa.Column("user_id", BIG_ID, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_commits_adapter_id_adapters")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_commits_user_id_users")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_commits_version_id_versions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commits")),
    )
    op.create_index("ix_commits_adapter_commit", "commits", ["adapter_id", "commit"], unique=False)
    op.create_index(op.f("ix_commits_version_id"), "commits", ["version_id"], unique=False)


def _create_access_requests() -> None:
    op.create_table(
        "access_requests",
        sa.Column("adapter_id", BIG_ID, nullable=False),
        sa.Column("user_id", BIG_ID, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_access_requests_adapter_id_adapters")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_access_requests_user_id_users")),
        sa.PrimaryKeyConstraint("adapter_id", "user_id", name=op.f("pk_access_requests")),
    )


def _create_lanes() -> None:
    op.create_table(
        "lanes",
        sa.Column("adapter_id", BIG_ID, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("head", sa.String(length=40), nullable=False),
        sa.Column("base", sa.String(length=40), nullable=True),
        sa.Column("user_id", BIG_ID, nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_lanes_adapter_id_adapters")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_lanes_user_id_users")),
        sa.PrimaryKeyConstraint("adapter_id", "name", name=op.f("pk_lanes")),
    )
    op.create_index(op.f("ix_lanes_updated_at"), "lanes", ["updated_at"], unique=False)


def _create_downloads() -> None:
    op.create_table(
        "downloads",
        sa.Column("version_id", BIG_ID, nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("visitor", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_downloads_version_id_versions")),
        sa.PrimaryKeyConstraint("version_id", "day", "visitor", name=op.f("pk_downloads")),
    )


def _create_lineage() -> None:
    op.create_table(
        "lineage",
        sa.Column("version_id", BIG_ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("ref", sa.String(length=200), nullable=False),
        sa.Column("parent_id", BIG_ID, nullable=True),
        sa.ForeignKeyConstraint(["parent_id"], ["versions.id"], name=op.f("fk_lineage_parent_id_versions")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_lineage_version_id_versions")),
        sa.PrimaryKeyConstraint("version_id", "kind", "ref", name=op.f("pk_lineage")),
    )
    op.create_index(op.f("ix_lineage_parent_id"), "lineage", ["parent_id"], unique=False)


def _create_manifests() -> None:
    op.create_table(
        "manifests",
        sa.Column("version_id", BIG_ID, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_manifests_version_id_versions")),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_manifests")),
    )


def _create_metrics() -> None:
    op.create_table(
        "metrics",
        sa.Column("version_id", BIG_ID, nullable=False),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("dataset", sa.String(length=200), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("user_id", BIG_ID, nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_metrics_user_id_users")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_metrics_version_id_versions")),
        sa.PrimaryKeyConstraint("version_id", "name", "dataset", name=op.f("pk_metrics")),
    )
    op.create_index("ix_metrics_name_value", "metrics", ["name", "value"], unique=False)


def _create_version_files() -> None:
    op.create_table(
        "version_files",
        sa.Column("version_id", BIG_ID, nullable=False),
        sa.Column("path", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_version_files_sha256_blobs")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_version_files_version_id_versions")),
        sa.PrimaryKeyConstraint("version_id", "path", name=op.f("pk_version_files")),
    )
    op.create_index(op.f("ix_version_files_sha256"), "version_files", ["sha256"], unique=False)


def _create_commit_files() -> None:
    op.create_table(
        "commit_files",
        sa.Column("commit_id", BIG_ID, nullable=False),
        sa.Column("path", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["commit_id"], ["commits.id"], name=op.f("fk_commit_files_commit_id_commits")),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_commit_files_sha256_blobs")),
        sa.PrimaryKeyConstraint("commit_id", "path", name=op.f("pk_commit_files")),
    )
    op.create_index(op.f("ix_commit_files_sha256"), "commit_files", ["sha256"], unique=False)


def _create_terms() -> None:
    op.create_table(
        "terms",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("field", sa.String(length=16), nullable=False),
        sa.Column("value", sa.String(length=300), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_terms")),
        sa.UniqueConstraint("field", "value", name=op.f("uq_terms_field_value")),
    )
    op.create_index("ix_terms_common", "terms", ["field", "count"], unique=False)


def _create_term_chunks() -> None:
    op.create_table(
        "term_chunks",
        sa.Column("term_id", BIG_ID, nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("bits", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["term_id"], ["terms.id"], name=op.f("fk_term_chunks_term_id_terms")),
        sa.PrimaryKeyConstraint("term_id", "chunk", name=op.f("pk_term_chunks")),
    )


def _create_adapter_search() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("CREATE VIRTUAL TABLE adapter_search USING fts5 (body, tokenize='unicode61 remove_diacritics 0')")
    else:
        op.execute("CREATE TABLE adapter_search (adapter_id BIGINT PRIMARY KEY, body tsvector NOT NULL)")
        op.execute("CREATE INDEX ix_adapter_search_body ON adapter_search USING gin (body) WITH (fastupdate = off)")


def _create_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("namespace_id", BIG_ID, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["namespace_id"], ["namespaces.id"], name=op.f("fk_webhooks_namespace_id_namespaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index(op.f("ix_webhooks_namespace_id"), "webhooks", ["namespace_id"], unique=False)


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("webhook_id", BIG_ID, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("fk_deliveries_webhook_id_webhooks"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    op.create_index("ix_deliveries_due", "deliveries", ["state", "due_at"], unique=False)
    op.create_index(op.f("ix_deliveries_webhook_id"), "deliveries", ["webhook_id"], unique=False)


def _create_derived() -> None:
    op.create_table(
        "derived",
        sa.Column("recipe", sa.String(48), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("other", sa.String(64), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("share", sa.String(96), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("wanted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("recipe", "digest", "other", name=op.f("pk_derived")),
    )
    op.create_index("ix_derived_state", "derived", ["state", "share", "wanted_at"])
    op.create_index("ix_derived_digest", "derived", ["digest"])
