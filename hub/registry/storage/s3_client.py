"""The S3 client: retries, timeouts, and the translation of errors.

A request that S3 throttles or does not answer is sent three times at most, each time with the timeouts below.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.parsers import ResponseParserError
from s3transfer.exceptions import S3CopyFailedError

from hub.errors import StorageFull, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 30.0
ATTEMPTS = 3
ABSENT = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NotFound"})
FULL = frozenset({"507", "InsufficientStorage", "XMinioStorageFull", "QuotaExceeded"})
CONFLICTS = frozenset({"409", "412", "ConditionalRequestConflict", "OperationAborted", "PreconditionFailed"})
BROKEN_BODY = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)


def connect(endpoint: str | None, region: str | None) -> S3Client:
    """Return a client of Amazon's S3, or of the store at `endpoint`."""
    # A few attempts, then a clear error: a caller waiting for a dead store blocks a worker's thread.
    config = Config(
        signature_version="s3v4",
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        max_pool_connections=64,
        s3={"addressing_style": "path"} if endpoint else {},
    )
    return boto3.client("s3", endpoint_url=endpoint, region_name=region or "us-east-1", config=config)


def error_code(error: ClientError) -> str:
    """Return S3's own name of an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise StorageFull and Unavailable for what goes wrong in the block."""
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        if code in FULL:
            raise StorageFull(
                "The object store is full: nothing was stored. Free some space, then try again."
            ) from error
        raise Unavailable(
            f"The object store refused {error.operation_name} ({code}): nothing was stored. Try again in a moment."
        ) from error
    except (BotoCoreError, Boto3Error, ResponseParserError, S3CopyFailedError, OSError) as error:
        reason = type(error).__name__
        raise Unavailable(f"The object store does not answer ({reason}). Try again in a moment.") from error
