"""Every error that lorahub raises, in one tree.

    HubError                          500  exit 1
    ├─ InvalidRequest                 400  exit 2
    │  └─ InvalidRef                  400  exit 2
    ├─ NotFound                       404  exit 3
    │  ├─ NamespaceNotFound  AdapterNotFound  VersionNotFound  AliasNotFound  FileNotFound
    │  └─ BaseNotFound  UserNotFound  UploadNotFound  TokenNotFound  WebhookNotFound
    ├─ AuthError                           exit 4
    │  ├─ Unauthenticated             401
    │  └─ Forbidden                   403
    │     └─ Gated                         (its card may be read by all, its files by members only)
    ├─ Conflict                       409  exit 5
    │  ├─ PreconditionFailed          412  (compare-and-swap lost)
    │  └─ UploadOffsetMismatch        409  (carries the right offset)
    ├─ IntegrityError                 422  exit 6
    │  ├─ DigestMismatch                   (bytes are not the ones that were named)
    │  ├─ InvalidAdapter                   (files that are not one whole, valid adapter)
    │  │  └─ InvalidSafetensors  UnsafeFile  DraftKept   (malformed; never stored; kept as a draft)
    │  └─ InvalidManifest
    ├─ Incompatible                   409  exit 7
    │  └─ Unsupported                      (a feature that we do not compute exactly)
    ├─ NetworkError                   503  exit 8
    │  └─ Offline
    ├─ TrainingDiverged               500  exit 1
    └─ Unavailable                    503  exit 1
       ├─ StorageFull                 507
       ├─ TooManyRequests             429
       └─ TooLarge                    413  (QuotaExceeded)

The registry raises them, the web layer writes `code` and `status`, the client raises the same class again, and the
command line prints the message and exits with `exit_code`.  A message says what, which, and the next step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar


class HubError(Exception):
    """The root of the tree.  `details` are JSON values that a program may read."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def to_json(self) -> dict[str, Any]:
        """Return the body that the API answers with: `{"error": {"code", "message", "details"}}`."""
        return {"error": {"code": self.code, "message": self.message, "details": self.details}}


class InvalidRequest(HubError):
    code, status, exit_code = "invalid_request", 400, 2


class InvalidRef(InvalidRequest):
    code = "invalid_ref"


class NotFound(HubError):
    code, status, exit_code = "not_found", 404, 3


class NamespaceNotFound(NotFound):
    code = "namespace_not_found"


class AdapterNotFound(NotFound):
    code = "adapter_not_found"


class VersionNotFound(NotFound):
    code = "version_not_found"


class AliasNotFound(NotFound):
    code = "alias_not_found"


class FileNotFound(NotFound):
    code = "file_not_found"


class BaseNotFound(NotFound):
    code = "base_not_found"


class UserNotFound(NotFound):
    code = "user_not_found"


class TokenNotFound(NotFound):
    code = "token_not_found"


class UploadNotFound(NotFound):
    code = "upload_not_found"


class WebhookNotFound(NotFound):
    code = "webhook_not_found"


class AuthError(HubError):
    code, status, exit_code = "auth", 401, 4


class Unauthenticated(AuthError):
    code = "unauthenticated"


class Forbidden(AuthError):
    code, status = "forbidden", 403


class Gated(Forbidden):
    code = "gated"


class Conflict(HubError):
    code, status, exit_code = "conflict", 409, 5


class PreconditionFailed(Conflict):
    code, status = "precondition_failed", 412


class UploadOffsetMismatch(Conflict):
    """`details["offset"]` is the number of bytes that the server has."""

    code = "upload_offset_mismatch"


class IntegrityError(HubError):
    code, status, exit_code = "integrity", 422, 6


class DigestMismatch(IntegrityError):
    code = "digest_mismatch"


class InvalidAdapter(IntegrityError):
    code = "invalid_adapter"


class InvalidSafetensors(InvalidAdapter):
    code = "invalid_safetensors"


class UnsafeFile(InvalidAdapter):
    code = "unsafe_file"


class DraftKept(InvalidAdapter):
    """What was committed is no version, and waits as `details["draft"]` for the rest."""

    code = "draft_kept"


class InvalidManifest(IntegrityError):
    code = "invalid_manifest"


class Incompatible(HubError):
    code, status, exit_code = "incompatible", 409, 7


class Unsupported(Incompatible):
    code = "unsupported"


class NetworkError(HubError):
    code, status, exit_code = "network", 503, 8


class Offline(NetworkError):
    code = "offline"


class TrainingDiverged(HubError):
    code = "training_diverged"


class Unavailable(HubError):
    code, status, exit_code = "unavailable", 503, 1


class StorageFull(Unavailable):
    code, status = "storage_full", 507


class TooManyRequests(Unavailable):
    """`details["retry_after_seconds"]` says when to try again."""

    code, status = "too_many_requests", 429


class TooLarge(Unavailable):
    code, status = "too_large", 413


class QuotaExceeded(TooLarge):
    code = "quota_exceeded"


def error_classes(root: type[HubError] = HubError) -> Iterator[type[HubError]]:
    """Yield `root` and every class below it that is part of this tree; what others derive is theirs alone."""
    if root.__module__ == __name__:
        yield root
    for child in root.__subclasses__():
        yield from error_classes(child)


def from_json(status: int, payload: object) -> HubError:
    """Return the error that `HubError.to_json` wrote, as the same class.

    An answer that some proxy made up becomes the class that fits its status.
    """
    body = payload.get("error") if isinstance(payload, Mapping) else None
    if not isinstance(body, Mapping) or not isinstance(body.get("message"), str):
        return _for_status(status)(f"The server answered {status} and gave no reason.")
    details = body.get("details")
    named = {c.code: c for c in error_classes()}.get(str(body.get("code")))
    kept = {str(k): v for k, v in details.items()} if isinstance(details, Mapping) else {}
    kept.pop("message", None)
    return (named or _for_status(status))(body["message"], **kept)


def _for_status(status: int) -> type[HubError]:
    by_status: dict[int, type[HubError]] = {
        401: Unauthenticated,
        403: Forbidden,
        404: NotFound,
        409: Conflict,
        412: PreconditionFailed,
        413: TooLarge,
        422: IntegrityError,
        429: TooManyRequests,
        507: StorageFull,
    }
    if status in by_status:
        return by_status[status]
    if status >= 500:
        return Unavailable
    return InvalidRequest if status >= 400 else HubError
