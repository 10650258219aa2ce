"""A registry of any size to measure: rows written in bulk, the catalog's index built from them as after a restore.

Ten versions per adapter, a thousand namespaces; bases, tasks, licenses and tags are drawn as skewed as they are on the
public hubs (a few are everywhere, most are rare).  Every version has its files, manifest and digest of its own; the
files' blobs are shared, because no query reads their bytes.
"""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Table, insert, text

from hub.registry.db.database import Database
from hub.registry.db.models import (
    AdapterRow,
    BaseRow,
    BlobRow,
    ManifestRow,
    Model,
    NamespaceRow,
    VersionFileRow,
    VersionRow,
)
from hub.registry.search import facets

VERSIONS_PER_ADAPTER = 10
NAMESPACES = 1_000
BATCH = 5_000
BASES = [f"org-{number % 40}/model-{number}" for number in range(300)]
TASKS = ["qa", "sentiment", "sql", "chat", "summarize", "translate", "code", "classify", "extract", "rerank"]
LICENSES = ["apache-2.0", "mit", "llama3", "cc-by-4.0", "gemma", "other"]
TAGS = [f"tag{number}" for number in range(400)]
WORDS = [f"word{number}" for number in range(3_000)]
TARGETS = [["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]]
START = datetime(2026, 1, 1, tzinfo=UTC)
MANIFEST = zlib.compress(b'{"base":{},"config":{"peft_type":"LORA","r":8},"files":[],"schema":1,"tensors":[]}')


def fill(database: Database, versions: int) -> None:
    """Write `versions` versions into an empty database."""
    draw = random.Random(versions)
    adapters = max(1, versions // VERSIONS_PER_ADAPTER)
    _write(database, NamespaceRow, _namespaces())
    _write(database, BaseRow, _bases())
    _write(database, BlobRow, _blobs())
    _write(database, AdapterRow, _adapters(draw, adapters))
    _write(database, VersionRow, _versions(draw, adapters))
    _write(database, ManifestRow, ({"version_id": number, "body": MANIFEST} for number in _numbers(adapters)))
    _write(database, VersionFileRow, _files(adapters))
    database.transact(facets.rebuild)
    _settle(database)


def _write(database: Database, model: type[Model], rows: Iterator[dict[str, Any]]) -> None:
    table = model.__table__
    assert isinstance(table, Table)
    batch: list[dict[str, Any]] = []
    with database.write() as session:
        for row in rows:
            batch.append(row)
            if len(batch) == BATCH:
                session.connection().execute(insert(table), batch)
                batch = []
        if batch:
            session.connection().execute(insert(table), batch)


def _settle(database: Database) -> None:
    """Update the planner's statistics, as a running server's maintenance would."""
    with database.engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()
        if not database.is_sqlite:
            for name in ("namespaces", "bases", "adapters", "versions"):
                top = f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}))"
                connection.execute(text(top))
            connection.commit()


def _skewed(draw: random.Random, values: list[str]) -> str:
    return values[min(int(draw.paretovariate(0.7)) - 1, len(values) - 1)]


def _numbers(adapters: int) -> range:
    return range(1, adapters * VERSIONS_PER_ADAPTER + 1)


def _namespaces() -> Iterator[dict[str, Any]]:
    for number in range(1, NAMESPACES + 1):
        yield {
            "id": number,
            "name": f"space-{number}",
            "kind": "shared",
            "private": False,
            "description": "",
            "used_bytes": 0,
            "created_at": START,
        }


def _bases() -> Iterator[dict[str, Any]]:
    for number, name in enumerate(BASES, start=1):
        yield {"id": number, "name": name, "created_at": START}


def _blobs() -> Iterator[dict[str, Any]]:
    for name in ("config", "weights"):
        yield {"sha256": hashlib.sha256(name.encode()).hexdigest(), "size": 1_000, "touched_at": START}


def _adapters(draw: random.Random, count: int) -> Iterator[dict[str, Any]]:
    for number in range(1, count + 1):
        space = 1 + number % NAMESPACES
        described = " ".join(_skewed(draw, WORDS) for _ in range(12))
        yield {
            "id": number,
            "namespace_id": space,
            "name": f"adapter-{number}",
            "full_name": f"space-{space}/adapter-{number}",
            "private": number % 20 == 0,
            "gated": False,
            "last_number": VERSIONS_PER_ADAPTER,
            "latest_number": VERSIONS_PER_ADAPTER,
            "recent_id": number * VERSIONS_PER_ADAPTER,
            "version_count": VERSIONS_PER_ADAPTER,
            "revision": 1,
            "downloads": int(draw.paretovariate(0.6)) % 1_000_000,
            "description": described,
            "task": _skewed(draw, TASKS),
            "license": _skewed(draw, LICENSES),
            "tags": sorted({_skewed(draw, TAGS) for _ in range(3)}),
            "base_id": 1 + BASES.index(_skewed(draw, BASES)),
            "rank": draw.choice([4, 8, 8, 16, 16, 32, 64, 128]),
            "alpha": float(draw.choice([16, 16, 32])),
            "method": draw.choice(["lora"] * 8 + ["rslora", "dora"]),
            "dtype": draw.choice(["BF16", "F16", "F32"]),
            "size_bytes": 1_000 + draw.randrange(10**9),
            "target_modules": draw.choice(TARGETS),
            "created_at": START + timedelta(seconds=number),
            "updated_at": START + timedelta(seconds=number),
        }


def _versions(draw: random.Random, adapters: int) -> Iterator[dict[str, Any]]:
    for number in _numbers(adapters):
        adapter, place = divmod(number - 1, VERSIONS_PER_ADAPTER)
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        yield {
            "id": number,
            "adapter_id": adapter + 1,
            "number": place + 1,
            "digest": digest,
            "content_key": digest,
            "message": "",
            "tags": [],
            "description": "",
            "size_bytes": 2_000,
            "file_count": 2,
            "rank": 8,
            "alpha": 16.0,
            "method": "lora",
            "target_modules": TARGETS[0],
            "dtype": "BF16",
            "parameters": 1_000_000,
            "base_id": 1 + draw.randrange(len(BASES)),
            "created_at": START + timedelta(seconds=number),
            "downloads": 0,
        }


def _files(adapters: int) -> Iterator[dict[str, Any]]:
    names = {
        "adapter_config.json": hashlib.sha256(b"config").hexdigest(),
        "adapter_model.safetensors": hashlib.sha256(b"weights").hexdigest(),
    }
    for number in _numbers(adapters):
        for path, sha256 in names.items():
            yield {"version_id": number, "path": path, "sha256": sha256}
