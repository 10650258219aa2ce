"""The catalog's index: sets of adapters by facet, and full text.

Revision 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# SQLite hands out row ids by itself only for INTEGER keys.
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
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
    op.create_table(
        "term_chunks",
        sa.Column("term_id", BIG_ID, nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("bits", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["term_id"], ["terms.id"], name=op.f("fk_term_chunks_term_id_terms")),
        sa.PrimaryKeyConstraint("term_id", "chunk", name=op.f("pk_term_chunks")),
    )

    if op.get_bind().dialect.name == "sqlite":
        op.execute("CREATE VIRTUAL TABLE adapter_search USING fts5 (body, tokenize='unicode61 remove_diacritics 0')")
    else:
        op.execute("CREATE TABLE adapter_search (adapter_id BIGINT PRIMARY KEY, body tsvector NOT NULL)")
        op.execute("CREATE INDEX ix_adapter_search_body ON adapter_search USING gin (body) WITH (fastupdate = off)")


def downgrade() -> None:
    op.execute("DROP TABLE adapter_search")
    op.drop_table("term_chunks")
    op.drop_table("terms")
