"""What an S3 server or the way to it answered, in an operator's words: can it pass, and what is to be done.

Codes are those of "Error responses" in the S3 API reference; other servers use the same ones and some of their own.
Nothing secret is in a message: botocore's texts name hosts, buckets and keys, never credentials.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from backup.errors import FileMissing, StorageError, StorageFull

_KEYS: Final = "check access_key_id_file and secret_access_key_file, or AWS's environment, profile or role"
_CLOCK: Final = "set this machine's clock; S3 refuses requests that are more than 15 minutes off"
_REGION: Final = "set region to the one in which the bucket is"
_RIGHTS: Final = (
    "the credentials need s3:ListBucket on the bucket and s3:GetObject and s3:PutObject on its objects;"
    " s3:DeleteObject on locks/, and on everything for forget and prune"
)
_BUCKET: Final = "check the bucket's name in the URL, or make it there"

_REFUSED: Final[Mapping[str, str]] = {
    "AccessDenied": _RIGHTS,
    "AllAccessDisabled": _RIGHTS,
    "AccountProblem": "see what the provider says of the account",
    "AuthorizationHeaderMalformed": _REGION,
    "BucketAlreadyExists": "somebody else has a bucket of this name; choose another",
    "ExpiredToken": "renew the session's token",
    "IllegalLocationConstraintException": _REGION,
    "InvalidAccessKeyId": _KEYS,
    "InvalidBucketName": _BUCKET,
    "InvalidObjectState": "the object lies in an archive class; restore it there first",
    "InvalidRequest": "does the bucket have Object Lock, if object_lock is set?",
    "InvalidSecurity": _KEYS,
    "InvalidStorageClass": "write a storage_class that this server has",
    "InvalidToken": "renew the session's token",
    "KMS.NotFoundException": "check server_side_encryption_key_id",
    "MethodNotAllowed": "is this the address of an S3 server?",
    "NotImplemented": "this server cannot do what the settings ask for",
    "ObjectLockConfigurationNotFoundError": "make the bucket with Object Lock, or leave object_lock out",
    "PermanentRedirect": _REGION,
    "RequestTimeTooSkewed": _CLOCK,
    "SignatureDoesNotMatch": _KEYS,
    "UnauthorizedAccess": _KEYS,
}
_FULL: Final = {"QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull", "EntityTooLarge", "TooManyBuckets"}
_PASSING: Final = {
    "BadDigest", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout", "RequestTimeTooSlow",
    "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests",
    "XAmzContentSHA256Mismatch", "InvalidDigest", "NoSuchUpload",
}  # fmt: skip
_PASSING_STATUS: Final = {408, 425, 429}
_MISSING: Final = {"NoSuchKey", "404", "NotFound"}


class BucketMissing(FileMissing):
    """There is no such bucket; to a repository that is the same as an empty one, until it is made."""


@contextmanager
def told(doing: str, place: str) -> Iterator[None]:
    """Turn what botocore raises in the block into a StorageError that says "could not <doing> <place>"."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        raise failure(doing, place, error) from error


def failure(doing: str, place: str, error: Exception) -> StorageError:
    """Turn botocore's exception into ours. ``doing`` as in "could not <doing> <place>".

    Whatever it does not know, an exception that is no failure of storage included, it raises again.
    """
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as Unreached

    message = f"could not {doing} {place}"
    if isinstance(error, ClientError):
        return _answered(message, error.response)
    if isinstance(error, HTTPClientError | Unreached):
        return _unreached(message, error)
    if isinstance(error, BotoCoreError):
        return _unsent(message, error)
    if isinstance(error, ValueError):  # an endpoint that is no web address
        return StorageError(f"{message}: {_lower(str(error))}", permanent=True, hint="check the repository's url")
    if isinstance(error, OSError):
        return StorageError(f"{message}: {_lower(error.strerror or str(error))}")
    raise error


def refusal(doing: str, place: str, told: Mapping[str, Any]) -> StorageError | None:
    """Turn what an answer about many objects says of one into ours; None when it only was not there."""
    error = _answered(f"could not {doing} {place}", {"Error": told})
    return None if isinstance(error, FileMissing) else error


def _answered(message: str, response: Mapping[str, Any]) -> StorageError:
    told = response.get("Error", {})
    code = str(told.get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    text = _lower(str(told.get("Message", "")).strip().rstrip("."))
    reason = f"{text} ({code or status})" if text else f"the server answered {code or status}"
    if code == "NoSuchBucket":
        return BucketMissing(f"{message}: there is no such bucket", hint=_BUCKET)
    if code in _MISSING:
        return FileMissing(f"{message}: no such object")
    if code in _FULL or status == 507:
        return StorageFull(f"{message}: {reason}")
    if code in _REFUSED:
        return StorageError(f"{message}: {reason}", permanent=True, hint=_REFUSED[code])
    if code in _PASSING or status in _PASSING_STATUS or status >= 500 or status == 200:
        return StorageError(f"{message}: {reason}", hint="the server is overloaded or ill; it is tried again")
    if status in (401, 403):
        return StorageError(f"{message}: {reason}", permanent=True, hint=f"{_KEYS}; {_RIGHTS}; {_CLOCK}")
    if status in (301, 307, 308):
        return StorageError(f"{message}: {reason}", permanent=True, hint=_REGION)
    return StorageError(f"{message}: {reason}", permanent=True, hint="is this the address of an S3 server?")


def _unreached(message: str, error: Exception) -> StorageError:
    from botocore.exceptions import EndpointConnectionError, ProxyConnectionError, SSLError

    reason = str(error)
    if isinstance(error, SSLError):
        untrusted = "certificate verify failed" in reason.lower()
        why = _after_last(reason, "SSL:", "]") if untrusted else reason
        hint = "the server's certificate is not trusted here; AWS_CA_BUNDLE names the file of your own authority"
        if "wrong version number" in reason.lower():
            untrusted, hint = True, "the server does not speak TLS there; write s3:http://..."
        return StorageError(f"{message}: TLS failed: {why}", permanent=untrusted, hint=hint)
    if isinstance(error, EndpointConnectionError | ProxyConnectionError):
        cause = str(error.kwargs.get("error", "")).lower()
        if "resolve" in cause or "name or service" in cause or "nodename" in cause:
            return StorageError(f"{message}: the host name has no address", hint="check the URL's host, and DNS")
        return StorageError(f"{message}: {_lower(reason)}", hint="is the server up, and the port right?")
    return StorageError(f"{message}: {_lower(reason)}", hint="the connection broke; it is tried again")


def _unsent(message: str, error: Exception) -> StorageError:
    from botocore.exceptions import IncompleteReadError, NoCredentialsError, ProfileNotFound

    reason = _lower(str(error))
    if isinstance(error, NoCredentialsError):
        hint = "set access_key_id_file and secret_access_key_file, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return StorageError(f"{message}: no credentials were found", permanent=True, hint=hint)
    if isinstance(error, ProfileNotFound):
        return StorageError(f"{message}: {reason}", permanent=True, hint="see ~/.aws/config of this user")
    if isinstance(error, IncompleteReadError):
        return StorageError(f"{message}: the answer was cut off")
    passing = type(error).__name__ in {"CredentialRetrievalError", "MetadataRetrievalError", "ResponseParserError"}
    return StorageError(f"{message}: {reason}", permanent=not passing, hint="" if passing else _KEYS)


def _after_last(text: str, start: str, end: str) -> str:
    rest = text.rpartition(start)[2] or text
    return _lower(rest.rpartition(end)[2].strip(" )") if end in rest and len(rest) > 200 else rest.strip(" )"))


def _lower(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].lower() + text[1:] if not text[:2].isupper() else text
