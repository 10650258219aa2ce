"""Blobs in S3, or anything that speaks its protocol.

    s3://bucket/prefix[?endpoint=https://s3.local:9000][&public_endpoint=https://files.example.com][&region=…]

      PREFIX/blobs/ab/abcdef…      one object per blob, named by its sha256
      PREFIX/uploads/<32 hex>      bytes that gather: multipart uploads, whose parts clients PUT to signed URLs

Those parts never pass through us, so a finished upload is read back and hashed before it becomes a blob by a copy
inside the store.  A signed URL of a part is dead once its upload is complete: nobody can swap the bytes in between.
An upload's key is `<32 hex>:<S3's upload id>`.  Credentials come from the environment, as for every AWS client.

Every step is idempotent, so a client may retry one whose answer was lost (s3_client.py has our own retries).
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from botocore.exceptions import ClientError

from hub.errors import FileNotFound, HubError, InvalidRequest, Unavailable, UploadNotFound
from hub.formats.readable import SHA256_HEX
from hub.registry.storage.hashing import BlobHash
from hub.registry.storage.s3_client import (
    ABSENT,
    ATTEMPTS,
    BROKEN_BODY,
    CONFLICTS,
    connect,
    error_code,
    translated_errors,
)
from hub.registry.storage.store import Staged, StoredBlob
from hub.registry.storage.streams import CHUNK_BYTES, ByteStream, chunks
from hub.registry.values import UploadPart

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

MIN_PART_BYTES = 16 * 1024 * 1024
MAX_PARTS = 9_000
UPLOAD_URL_SECONDS = 24 * 3600
DOWNLOAD_URL_SECONDS = 3600
_KEY = re.compile(r"([0-9a-f]{32}):(.{1,1024})\Z", re.DOTALL)
_OPTIONS = frozenset({"endpoint", "public_endpoint", "region"})


class S3Store:
    """See the module."""

    takes_parts = True

    def __init__(self, client: S3Client, signer: S3Client, bucket: str, prefix: str) -> None:
        self._client = client
        self._signer = signer
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    @classmethod
    def from_url(cls, url: str) -> S3Store:
        """Raises InvalidRequest for a URL that names no bucket or has unknown options."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        if not parts.netloc or not set(options) <= _OPTIONS:
            raise InvalidRequest("An S3 store is s3://bucket/prefix, with ?endpoint=… for other servers than Amazon's.")
        client = connect(options.get("endpoint"), options.get("region"))
        public = options.get("public_endpoint")
        signer = connect(public, options.get("region")) if public else client
        return cls(client, signer, parts.netloc, parts.path)

    def begin(self, size: int) -> str:
        name = secrets.token_hex(16)
        with translated_errors():
            made = self._client.create_multipart_upload(Bucket=self._bucket, Key=self._upload_object(name))
        return f"{name}:{made['UploadId']}"

    def offset(self, key: str) -> int:
        return sum(size for _, _, size in self._list_parts(key))

    def can_resume(self, key: str, size: int) -> bool:
        try:
            return 0 < self.offset(key) < size
        except UploadNotFound:
            return False

    def append(self, key: str, offset: int, stream: ByteStream, limit: int) -> int:
        raise InvalidRequest("This registry takes uploads in parts, at the addresses that it gave for them.")

    def parts(self, key: str, size: int) -> tuple[int, tuple[UploadPart, ...]]:
        name, upload_id = _split(key)
        part_size = part_size_for(size)
        there = {number for number, _, _ in self._list_parts(key)}
        missing = [number for number in range(1, max(1, -(-size // part_size)) + 1) if number not in there]
        target = {"Bucket": self._bucket, "Key": self._upload_object(name), "UploadId": upload_id}
        return part_size, tuple(
            UploadPart(
                number,
                self._signer.generate_presigned_url(
                    "upload_part", Params={**target, "PartNumber": number}, ExpiresIn=UPLOAD_URL_SECONDS
                ),
            )
            for number in missing
        )

    def join(self, key: str, parts: Sequence[tuple[int, str]]) -> None:
        name, upload_id = _split(key)
        source = self._upload_object(name)
        try:
            there = self._list_parts(key)
        except UploadNotFound:
            if self._object_size(source) is None:
                raise
            return  # joined by a request that failed later, or whose answer was lost
        etags = {number: etag for number, etag, _ in there}
        for number, etag in parts:
            if etags.get(number, "").strip('"') != etag.strip('"'):
                raise InvalidRequest(f"Part {number} is not there, or not with this ETag. Send it again.", part=number)
        if not there:
            raise InvalidRequest("No part was sent yet.")
        with translated_errors():
            try:
                self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=source,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": [{"PartNumber": number, "ETag": etag} for number, etag, _ in there]},
                )
            except ClientError as error:
                # On a retry after a lost answer, S3 no longer knows the upload: see whether the object exists.
                if error_code(error) not in ABSENT or self._object_size(source) != sum(size for _, _, size in there):
                    raise

    def verify(self, key: str, sha256: str | None, size: int | None) -> Staged:
        name, _ = _split(key)
        source = self._upload_object(name)
        with translated_errors():
            try:
                found = self._get(source)
            except ClientError as error:
                if error_code(error) in ABSENT:
                    raise _no_upload() from error
                raise
            digest = BlobHash(found["ContentLength"])
            for piece in self._body(found, source):
                digest.update(piece)
        digest.check(sha256, size)
        return Staged(key, digest.sha256, digest.count, digest.git_sha1)

    def stage(self, stream: ByteStream, sha256: str | None, size: int | None, limit: int) -> Staged:
        key = self.begin(size or 0)
        try:
            digest = self._send(key, stream, size, limit if size is None else min(size + 1, limit))
            digest.check(sha256, size)
            self.join(key, ())
            if not digest.is_complete:
                return self.verify(key, sha256, size)
        except BaseException:
            # A failing store may fail to delete, too: garbage collection removes the rest, which is not a blob.
            with suppress(HubError):
                self.drop(key)
            raise
        return Staged(key, digest.sha256, digest.count, digest.git_sha1)

    def _send(self, key: str, stream: ByteStream, size: int | None, limit: int) -> BlobHash:
        """Send a stream as parts; S3 checks each by the checksum that the client library adds."""
        name, upload_id = _split(key)
        digest = BlobHash(size)
        for number, part in enumerate(_grouped(chunks(stream, limit), part_size_for(size or limit)), start=1):
            digest.update(part)
            with translated_errors():
                self._client.upload_part(
                    Bucket=self._bucket,
                    Key=self._upload_object(name),
                    UploadId=upload_id,
                    PartNumber=number,
                    Body=part,
                )
        return digest

    def precopy(self, staged: Staged) -> Staged:
        self.keep(staged)
        return replace(staged, is_precopied=True)

    def keep(self, staged: Staged) -> None:
        if staged.is_precopied and self.size(staged.sha256) == staged.size:
            return
        name, _ = _split(staged.key)
        source = self._upload_object(name)
        if self._object_size(source) is None:
            if self.size(staged.sha256) is None:
                raise Unavailable("The uploaded bytes are gone from the store. Send the file again.")
            return
        for attempt in range(1, ATTEMPTS + 1):
            if self._copy(source, staged, last=attempt == ATTEMPTS):
                return
            time.sleep(0.1 * attempt)

    def _copy(self, source: str, staged: Staged, *, last: bool) -> bool:
        """Copy an upload to its blob.  Returns False for a conflict that may pass, unless this is the last attempt."""
        with translated_errors():
            try:
                # A managed copy: above 5 GB, S3 copies in parts.
                target = self._blob_object(staged.sha256)
                self._client.copy({"Bucket": self._bucket, "Key": source}, self._bucket, target)
            except ClientError as error:
                if error_code(error) not in CONFLICTS:
                    raise
                # Somebody else is writing this name, and so the same bytes: one of the two is enough.
                there = self.size(staged.sha256) == staged.size
                if last and not there:
                    raise
                return there
        return True

    def drop(self, key: str) -> None:
        try:
            name, upload_id = _split(key)
        except UploadNotFound:
            return
        bucket, source = self._bucket, self._upload_object(name)
        with translated_errors():
            try:
                self._client.abort_multipart_upload(Bucket=bucket, Key=source, UploadId=upload_id)
            except ClientError as error:
                if error_code(error) not in ABSENT:
                    raise
            self._client.delete_object(Bucket=bucket, Key=source)

    def size(self, sha256: str) -> int | None:
        return self._object_size(self._blob_object(sha256))

    def _object_size(self, name: str) -> int | None:
        with translated_errors():
            try:
                return self._client.head_object(Bucket=self._bucket, Key=name)["ContentLength"]
            except ClientError as error:
                if error_code(error) in ABSENT:
                    return None
                raise

    def read(self, sha256: str, offset: int, size: int) -> bytes:
        return b"".join(self.stream(sha256, offset, offset + size))

    def stream(self, sha256: str, start: int, stop: int) -> Iterator[bytes]:
        if start >= stop:
            return
        source = self._blob_object(sha256)
        with translated_errors():
            try:
                found = self._get(source, start, stop)
            except ClientError as error:
                if error_code(error) in ABSENT:
                    raise FileNotFound(f"The blob {sha256[:12]}… is not in the store. Run: lorahub fsck") from error
                if error_code(error) == "InvalidRange":  # the range starts beyond the end: nothing to read
                    return
                raise
            yield from self._body(found, source, start, stop)

    def _get(self, name: str, start: int = 0, stop: int | None = None) -> GetObjectOutputTypeDef:
        if start == 0 and stop is None:  # an empty object has no valid range
            return self._client.get_object(Bucket=self._bucket, Key=name)
        span = f"bytes={start}-{'' if stop is None else stop - 1}"
        return self._client.get_object(Bucket=self._bucket, Key=name, Range=span)

    def _body(
        self, found: GetObjectOutputTypeDef, name: str, start: int = 0, stop: int | None = None
    ) -> Iterator[bytes]:
        """Yield a response's bytes; if it breaks off, request the rest, which is safe because objects never change."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                for piece in found["Body"].iter_chunks(CHUNK_BYTES):
                    start += len(piece)
                    yield piece
                return
            except BROKEN_BODY:
                if attempt == ATTEMPTS:
                    raise
            found = self._get(name, start, stop)

    def signed_url(self, sha256: str, filename: str) -> str | None:
        plain = re.sub(r"[^\w.-]", "_", filename)
        return self._signer.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self._bucket,
                "Key": self._blob_object(sha256),
                "ResponseContentDisposition": f'attachment; filename="{plain}"',
                "ResponseContentType": "application/octet-stream",
            },
            ExpiresIn=DOWNLOAD_URL_SECONDS,
        )

    def path(self, sha256: str) -> str | None:
        return None

    def delete(self, sha256: str) -> None:
        with translated_errors():
            self._client.delete_object(Bucket=self._bucket, Key=self._blob_object(sha256))

    def blobs(self) -> Iterator[StoredBlob]:
        for item in self._list_objects(f"{self._prefix}blobs/"):
            name = item["Key"].rpartition("/")[2]
            if SHA256_HEX.match(name):
                yield StoredBlob(name, item["Size"], item["LastModified"])

    def stale_uploads(self, older_than: datetime) -> Iterator[str]:
        prefix = f"{self._prefix}uploads/"
        for item in self._list_objects(prefix):
            if item["LastModified"] < older_than:
                yield f"{item['Key'].rpartition('/')[2]}:-"
        with translated_errors():
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
            for page in pages:
                for upload in page.get("Uploads", []):
                    if upload["Initiated"] < older_than:
                        yield f"{upload['Key'].rpartition('/')[2]}:{upload['UploadId']}"

    def check(self) -> None:
        with translated_errors():
            self._client.head_bucket(Bucket=self._bucket)

    def _list_objects(self, prefix: str) -> Iterator[Any]:
        with translated_errors():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                yield from page.get("Contents", [])

    def _list_parts(self, key: str) -> list[tuple[int, str, int]]:
        """Return (number, etag, size) of the parts that arrived.  Raises UploadNotFound."""
        name, upload_id = _split(key)
        with translated_errors():
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self._bucket, Key=self._upload_object(name), UploadId=upload_id
            )
            try:
                return [(p["PartNumber"], p["ETag"], p["Size"]) for page in pages for p in page.get("Parts", [])]
            except ClientError as error:
                if error_code(error) in ABSENT:
                    raise _no_upload() from error
                raise

    def _upload_object(self, name: str) -> str:
        return f"{self._prefix}uploads/{name}"

    def _blob_object(self, sha256: str) -> str:
        if not SHA256_HEX.match(sha256):
            raise FileNotFound("No blob has this name.")
        return f"{self._prefix}blobs/{sha256[:2]}/{sha256}"


def part_size_for(size: int) -> int:
    """Return the size of an upload's parts: 16 MiB, or more where that would make too many."""
    mebibyte = 1024 * 1024
    return max(MIN_PART_BYTES, -(-size // MAX_PARTS // mebibyte) * mebibyte)


def _grouped(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Join pieces into parts of exactly `size` bytes, the last one shorter.  At least one part, if an empty one."""
    buffer = bytearray()
    sent = False
    for piece in pieces:
        buffer += piece
        while len(buffer) >= size:
            yield bytes(buffer[:size])
            del buffer[:size]
            sent = True
    if buffer or not sent:
        yield bytes(buffer)


def _split(key: str) -> tuple[str, str]:
    found = _KEY.match(key)
    if found is None:
        raise _no_upload()
    return found[1], found[2]


def _no_upload() -> UploadNotFound:
    return UploadNotFound("There is no such upload: it was finished, or it expired. Start a new one.")
