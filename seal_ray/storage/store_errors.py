"""What a store's exceptions mean: what passes by itself, what says that an object is there, what to tell a person."""

import errno

from seal_ray.errors import Missing, StorageError
from seal_ray.redaction import redact

PASSING_CODES = {
    "408", "409", "425", "429", "500", "502", "503", "504",
    "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "ThrottlingException", "Throttling",
    "OperationAborted", "ConditionalRequestConflict", "BandwidthLimitExceeded", "TooManyRequests",
    "XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody",
}  # fmt: skip
EXPIRED_CODES = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired", "InvalidToken"}
PASSING_ERRNO = {
    errno.EBUSY, errno.EREMOTEIO, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED,
    errno.ECONNABORTED, errno.EPIPE, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ESTALE, errno.EINTR,
}  # fmt: skip
PASSING_NAMES = {
    "HTTPClientError", "ConnectionClosedError", "EndpointConnectionError", "ReadTimeoutError", "ConnectTimeoutError",
    "ResponseStreamingError", "IncompleteRead", "IncompleteReadError", "ClientPayloadError", "ResponseParserError",
    "ServerDisconnectedError", "ClientOSError", "ClientConnectorError", "FSTimeoutError", "ContentLengthError",
    "ProxyConnectionError", "HttpError", "FlexibleChecksumError",
}  # fmt: skip


class UploadGone(StorageError):
    """The store knows nothing of an upload in parts: it was completed, or given up."""


def code(error: BaseException) -> str:
    """The store's own word for what is wrong, where it gave one."""
    for one in (error, error.__cause__):
        answer = getattr(one, "response", None)
        if isinstance(answer, dict):
            said = str(answer.get("Error", {}).get("Code") or "")
            return said or str(answer.get("ResponseMetadata", {}).get("HTTPStatusCode") or "")
    return ""


def is_expired(error: BaseException) -> bool:
    return code(error) in EXPIRED_CODES


def may_be_expired(error: BaseException) -> bool:
    """Whether a store may mean an expired token: some say that access is denied, and a HEAD has no words at all."""
    return code(error) in {"AccessDenied", "Forbidden", "403", "400", "BadRequest"} or (
        isinstance(error, PermissionError) and not isinstance(error.__cause__, OSError)
    )


def is_passing(error: BaseException) -> bool:
    """Whether the same call may work in a moment."""
    said = code(error)
    if said:
        return said in PASSING_CODES
    if PASSING_NAMES & {c.__name__ for c in type(error).__mro__} or isinstance(error, (TimeoutError, ConnectionError)):
        return True
    return isinstance(error, OSError) and error.errno in PASSING_ERRNO


def says_exists(error: BaseException) -> bool:
    """Whether a create-only write failed because something is there."""
    return isinstance(error, FileExistsError) or code(error) in {"PreconditionFailed", "412"}


def translate(error: BaseException, operation: str, uri: str, *, temporary: bool = False) -> StorageError:
    """Our error for theirs: what, where, and what to do next."""
    said = code(error)
    plain = str(error) or type(error).__name__
    detail = redact(plain if said in plain else f"{said}: {plain}")
    message = f"{operation} {uri}: {detail}"
    if said == "NoSuchBucket":
        return StorageError(f"{operation} {uri}: there is no such bucket", hint="create the bucket, or correct the URI")
    if said == "NoSuchUpload":
        return UploadGone(f"{operation} {uri}: the store knows of no such upload")
    if isinstance(error, FileNotFoundError) or said in {"NoSuchKey", "404"}:
        return Missing(f"{operation} {uri}: nothing is there")
    number = error.errno if isinstance(error, OSError) else None
    if is_expired(error):
        hint = "renew the credentials; the same command then goes on where it stopped"
    elif said in {"InvalidAccessKeyId", "SignatureDoesNotMatch"} or "credentials" in detail.lower():
        hint = "set credentials (environment, profile or the machine's role) that are valid for this store"
    elif said == "RequestTimeTooSkewed":
        hint = "set this machine's clock: it differs too much from the store's"
    elif temporary:
        hint = (
            "the credentials are temporary and may have expired: renew them, and the same command goes on where it "
            "stopped; if they are fresh, allow this account to list, read, write and delete there"
        )
    elif isinstance(error, PermissionError) or number in {errno.EACCES, errno.EPERM, errno.EROFS}:
        hint = "allow this account to list, read, write and delete there, or choose another run.uri"
    elif number in {errno.ENOSPC, errno.EDQUOT}:
        hint = "make room on the disk; the same command then goes on where it stopped"
    elif number in {errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}:
        hint = "this store lacks what create-only writes need (hard links or conditional puts); choose another run.uri"
    elif number in {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}:
        hint = "correct the URI: a file stands where a folder should be, or the name is too long"
    elif is_passing(error):
        hint = "the store did not answer in time; check endpoint and network, then start the same command again"
    else:
        hint = "check the URI, storage.endpoint and storage.region"
    return StorageError(message, hint=hint)
