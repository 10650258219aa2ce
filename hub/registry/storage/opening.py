"""Open the store that a setting names."""

from __future__ import annotations

from urllib.parse import urlsplit

from hub.errors import InvalidRequest
from hub.registry.storage.local_store import LocalStore
from hub.registry.storage.store import BlobStore


def open_store(location: str) -> BlobStore:
    """Open `s3://bucket/prefix`, or a local folder (made if it isn't there).  Raises InvalidRequest."""
    scheme = urlsplit(location).scheme if "://" in location else ""
    if scheme == "s3":
        try:
            from hub.registry.storage.s3_store import S3Store
        except ImportError as error:
            raise InvalidRequest("An S3 store needs its driver: install lorahub-registry[s3].") from error
        return S3Store.from_url(location)
    if scheme not in {"", "file"}:
        raise InvalidRequest(f"A blob store is a folder or s3://bucket/prefix, not {scheme}://….")
    return LocalStore(location.removeprefix("file://"))
