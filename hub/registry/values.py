"""What the registry returns: immutable values, independent of SQL and HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from hub.errors import InvalidManifest
from hub.manifest import FileEntry, Manifest
from hub.refs import AdapterName, AdapterRef

Role = Literal["reader", "publisher", "owner"]
Scope = Literal["read", "publish", "admin"]
AccessStatus = Literal["pending", "accepted", "rejected"]
Sort = Literal["recent", "new", "downloads", "name"]


@dataclass(frozen=True, slots=True)
class Yanked:
    """Why a version should not be chosen any more, and since when."""

    reason: str
    at: datetime
    by: str | None


@dataclass(frozen=True, slots=True)
class Deprecated:
    """Why to move on, and where to: `successor` is a ref or None."""

    reason: str
    successor: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Metric:
    """One evaluation result of a version."""

    name: str
    value: float
    dataset: str
    by: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Lineage:
    """A version that another was made from.  `ref` is as it was given; `version` is set if it is ours."""

    kind: Literal["trained-from", "merged-from"]
    ref: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable version.

    size_bytes: all files together.  parameters: numbers of the adapter's tensors together.  rank: the effective one
    (patterns counted).  base: the canonical id of the base object, or None if the adapter names none.
    manifest_json: the canonical bytes; None in lists, where manifests are left out.  branch: None on `main`.
    """

    adapter: AdapterName
    number: int
    digest: str
    created_at: datetime
    created_by: str | None
    message: str
    task: str | None
    size_bytes: int
    file_count: int
    rank: int
    alpha: float
    method: str
    target_modules: tuple[str, ...]
    dtype: str
    parameters: int
    base: str | None
    downloads: int
    id: int
    yanked: Yanked | None = None
    deprecated: Deprecated | None = None
    aliases: tuple[str, ...] = ()
    lineage: tuple[Lineage, ...] = ()
    metrics: tuple[Metric, ...] = ()
    manifest_json: bytes | None = None
    branch: str | None = None

    @property
    def ref(self) -> AdapterRef:
        """`ns/name@vN`."""
        return self.adapter.at(self.number)

    @property
    def commit(self) -> str:
        """The digest's first 40 hex digits: the commit id on the Hugging Face wire."""
        return self.digest[:40]

    @property
    def manifest(self) -> Manifest:
        """The parsed manifest.  Raises InvalidManifest for a version out of a list, which carries none."""
        if self.manifest_json is None:
            raise InvalidManifest(f"{self.ref} was listed without its manifest: resolve the ref to get it.")
        return Manifest.parse(self.manifest_json)

    @property
    def trained_from(self) -> tuple[str, ...]:
        return tuple(parent.ref for parent in self.lineage if parent.kind == "trained-from")

    @property
    def merged_from(self) -> tuple[str, ...]:
        return tuple(parent.ref for parent in self.lineage if parent.kind == "merged-from")


@dataclass(frozen=True, slots=True)
class Alias:
    """A movable name of a version.  Only owners move a protected one."""

    name: str
    version: int
    protected: bool
    updated_at: datetime
    updated_by: str | None


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One entry of an alias's history.  `before` or `after` is None where the alias was not there."""

    alias: str
    before: int | None
    after: int | None
    at: datetime
    by: str | None


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter as the catalog shows it.  Rank to dtype are those of its latest version (None if it has none).

    gated: all may see it and read its card; its other files are for members of its namespace.
    """

    name: AdapterName
    id: int
    private: bool
    description: str
    task: str | None
    license: str | None
    tags: tuple[str, ...]
    base: str | None
    latest: int | None
    version_count: int
    downloads: int
    created_at: datetime
    updated_at: datetime
    rank: int | None = None
    alpha: float | None = None
    method: str | None = None
    dtype: str | None = None
    size_bytes: int | None = None
    target_modules: tuple[str, ...] = ()
    deprecated: Deprecated | None = None
    aliases: tuple[Alias, ...] = ()
    gated: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """The result of a publish.  `created` is False if the same content was there already."""

    version: Version
    created: bool


@dataclass(frozen=True, slots=True)
class MetricFilter:
    """`MetricFilter("accuracy", ">=", 0.9)`: the latest version has such a metric on some data set."""

    name: str
    operator: Literal[">=", "<=", ">", "<", "="]
    value: float


Having = Mapping[str, Sequence[str]]
"""A facet's name -> values, each as `Facet.term` writes it."""


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for.

    having: the wanted values of each facet; of some facets all must be there, of the others one (`Facet.all_of`).
    """

    text: str = ""
    having: Having = field(default_factory=dict)
    rank_max: int | None = None
    rank_min: int | None = None
    size_max: int | None = None
    metrics: tuple[MetricFilter, ...] = ()
    sort: Sort = "recent"
    limit: int = 20
    cursor: str | None = None
    with_facets: bool = True


@dataclass(frozen=True, slots=True)
class FacetValue:
    value: str
    count: int


@dataclass(frozen=True, slots=True)
class Page:
    """One page of adapters.  Give `next_cursor` back as `Query.cursor`; None on the last page.

    facets: field -> the commonest values among all matches.  A field's own filter does not narrow its own counts.
    """

    items: tuple[Adapter, ...]
    next_cursor: str | None
    total: int
    facets: Mapping[str, tuple[FacetValue, ...]]


@dataclass(frozen=True, slots=True)
class UploadPart:
    """One part of a direct upload: PUT the bytes to `url`, keep the answer's ETag."""

    number: int
    url: str


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in progress.

    mode "append": send bytes from `offset` on through `Registry.append`.
    mode "parts":  PUT each part of `part_size` bytes to its signed URL, then `Registry.complete_upload`.
    done: all bytes arrived, their sha256 matches, and the blob is stored.
    """

    id: str
    adapter: AdapterName
    sha256: str
    size: int
    offset: int
    expires_at: datetime
    mode: Literal["append", "parts"] = "append"
    part_size: int = 0
    parts: tuple[UploadPart, ...] = ()
    done: bool = False


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a version or draft, ready to send.

    open(start, stop) yields the bytes of that range.  signed_url: where the bytes may be had directly, or None.
    git_sha1: the id of the same bytes as a git blob; None above 16 MiB, where the HF wire speaks LFS.
    """

    entry: FileEntry
    version: int | None
    commit: str
    open: Callable[[int, int], Iterator[bytes]]
    signed_url: str | None = None
    local_path: str | None = None
    git_sha1: str | None = None
    yanked: Yanked | None = None
    version_id: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A token as its owner sees it; the secret itself is never kept."""

    id: int
    name: str
    user: str
    scopes: frozenset[Scope]
    namespace: str | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made.  `secret` is shown this once."""

    token: Token
    secret: str


@dataclass(frozen=True, slots=True)
class User:
    name: str
    admin: bool
    created_at: datetime
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    user: str
    role: Role


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace and, where the caller may know, its members.  Quotas of None are unlimited."""

    name: str
    kind: Literal["personal", "shared"]
    private: bool
    created_at: datetime
    adapter_count: int = 0
    used_bytes: int = 0
    quota_bytes: int | None = None
    quota_adapters: int | None = None
    members: tuple[Member, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A fingerprint that somebody claimed for a base.

    publishers: how many independent ones claim it.  pinned: by an operator.  holds: it is trusted to judge adapters.
    """

    kind: str
    value: str
    publishers: int
    pinned: bool
    holds: bool


@dataclass(frozen=True, slots=True)
class Base:
    """A base model as an object: its canonical id, other names, fingerprints, and the copies made of it.

    shapes, weights: the trusted fingerprints.  fingerprints: all claimed ones, the disputed included.
    """

    id: str
    revision: str | None
    aliases: tuple[str, ...]
    shapes: tuple[str, ...]
    weights: tuple[str, ...]
    parent: str | None
    children: tuple[str, ...]
    adapter_count: int
    created_at: datetime
    fingerprints: tuple[Fingerprint, ...] = ()

    @property
    def disputed(self) -> tuple[str, ...]:
        """The fingerprints that judge nothing, because publishers contradict each other."""
        return tuple(mark.value for mark in self.fingerprints if not mark.holds)


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One mutation: who did what to which thing."""

    id: int
    at: datetime
    user: str | None
    action: str
    target: str
    namespace: str | None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where events of a namespace are posted.  The secret signs the bodies and is shown only when made."""

    id: int
    namespace: str
    url: str
    events: tuple[str, ...]
    active: bool
    created_at: datetime
    failures: int = 0
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file at a revision.  `git_sha1` as in StoredFile."""

    path: str
    size: int
    sha256: str
    git_sha1: str | None


@dataclass(frozen=True, slots=True)
class Commit:
    """An accepted commit: a version, or a draft (version None) with what it still lacks.

    lane: the branch or draft that it was made on; None for `main`.
    """

    id: str
    parent: str | None
    title: str
    message: str
    author: str | None
    created_at: datetime
    version: int | None
    problem: str | None = None
    lane: str | None = None


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """A user who requested a gated adapter's files, or was granted access unasked.  id: 24 hex."""

    id: str
    user: str
    status: AccessStatus
    at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """One author's commits that are not a version yet.  ref: `refs/draft/<author>`.  problem: what it lacks."""

    ref: str
    author: str | None
    commit: str
    problem: str
    updated_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Branch:
    """A line of versions beside `main`, and the commit that it ends at."""

    name: str
    commit: str


@dataclass(frozen=True, slots=True)
class Tree:
    """All files at one revision."""

    adapter: Adapter
    commit: Commit
    files: tuple[TreeFile, ...]
    yanked: Yanked | None = None

    def file(self, path: str) -> TreeFile | None:
        return next((entry for entry in self.files if entry.path == path), None)


@dataclass(frozen=True, slots=True)
class DailyDownloads:
    day: str
    count: int


@dataclass(frozen=True, slots=True)
class Session:
    """A web login.  `secret` goes into the cookie; the database stores only its hash."""

    secret: str
    user: str
    expires_at: datetime
