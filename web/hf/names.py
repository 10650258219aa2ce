"""Names on the Hugging Face wire: repositories, revisions, and the tree that a revision names.

| on the wire              | here                                                        |
|--------------------------|-------------------------------------------------------------|
| model repository         | adapter                                                     |
| branch `main`            | the version that was last made `main`; the newest that isn't yanked where that one is |
| another branch           | versions that are never the latest                          |
| `refs/draft/<author>`    | what an author has sent that is no version yet              |
| tag `v2`, tag `prod`     | version 2, an alias                                         |
| commit id                | the first 40 hex digits of a version's digest, or a draft's id |
| LFS file                 | a `.safetensors` file, or any file above 10 MB              |
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from hub.errors import AdapterNotFound, InvalidRef, VersionNotFound
from hub.refs import AdapterName, parse_selector
from hub.registry.rights.access import Actor
from hub.registry.values import Tree, TreeFile

from ..http.identity import registry, settings

MAIN = "main"
MAX_REGULAR_BYTES = 10 * 1024 * 1024
"""Above this, clients must send a file through LFS or Xet: a regular one comes as base64 inside the commit."""

_REF_PREFIXES = ("refs/heads/", "refs/tags/", "refs/draft/")


def repo_name(namespace: str, name: str) -> AdapterName:
    """Return the adapter's name for `namespace/name`.  Raises AdapterNotFound if it can't be one."""
    try:
        return AdapterName.parse(f"{namespace}/{name}")
    except InvalidRef as error:
        raise AdapterNotFound(f"There is no repository {namespace}/{name} here: {error.message}") from error


def tree_at(actor: Actor, name: AdapterName, revision: str) -> Tree:
    """Return all files at a revision.  Raises AdapterNotFound or VersionNotFound."""
    return registry().commits.tree(actor, name, plain_revision(revision))


def plain_revision(revision: str) -> str:
    """Return `refs/tags/v2` as `v2`, `refs/heads/main` as `main`, `refs/draft/me` as `draft/me`, others as they are.

    Raises VersionNotFound for a ref that can't exist here, e.g. a pull request's.
    """
    prefix = next((each for each in _REF_PREFIXES if revision.startswith(each)), "")
    plain = revision.removeprefix("refs/" if prefix == "refs/draft/" else prefix)
    try:
        return parse_selector(plain)
    except InvalidRef as error:
        raise VersionNotFound(f"There is no revision {plain[:80]!r}: {error.message}") from error


def has_object_store() -> bool:
    """Whether clients transfer bytes directly from and to an object store, by signed URLs."""
    return settings().store.startswith("s3:")


def wire_time(moment: datetime | None) -> str | None:
    """Write a time as the Hub does: UTC, milliseconds, `Z`."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def is_lfs(path: str, size: int) -> bool:
    return path.endswith(".safetensors") or size > MAX_REGULAR_BYTES


@dataclass(frozen=True, slots=True)
class WireFile:
    """A file with its names on the wire: git's id, and the ETag without quotes."""

    path: str
    size: int
    sha256: str
    git_sha1: str | None

    @classmethod
    def of(cls, file: TreeFile) -> WireFile:
        return cls(file.path, file.size, file.sha256, file.git_sha1)

    @property
    def is_lfs(self) -> bool:
        return self.git_sha1 is None or is_lfs(self.path, self.size)

    @property
    def oid(self) -> str:
        """The git blob id of the bytes or, for an LFS file, of its pointer."""
        if self.git_sha1 is not None and not self.is_lfs:
            return self.git_sha1
        return git_blob_id(lfs_pointer(self.sha256, self.size))

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.oid

    def to_json(self) -> dict[str, object]:
        """Return the entry of `tree` and `paths-info`."""
        entry: dict[str, object] = {"type": "file", "path": self.path, "size": self.size, "oid": self.oid}
        if self.is_lfs:
            entry["lfs"] = self.lfs_json()
        return entry

    def lfs_json(self) -> dict[str, object]:
        return {"oid": self.sha256, "size": self.size, "pointerSize": len(lfs_pointer(self.sha256, self.size))}


def git_blob_id(data: bytes) -> str:
    """Return git's name for these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    """Return the text that git stores in place of an LFS file.  Source: git-lfs, docs/spec.md."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
