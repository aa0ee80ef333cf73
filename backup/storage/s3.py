"""A repository in a bucket, of AWS or of any server that speaks S3, laid out as restic does.

One request for one operation: it neither tries again (`retrying` does, and botocore's own ways are off) nor limits
beyond asking its pace. botocore, the half of boto3 that talks, is imported when the first request is made, and each
process makes a client of its own (`s3_client`), since clients survive neither a fork nor pickling. What the storage
itself holds is a few words.

Checksums: every upload carries Content-MD5, which Object Lock demands and every server knows; botocore's newer ones
are sent and validated only where an operation requires them, since it holds the checksum of a whole object against a
part of it, and other servers do not know them. What is read is proven by the repository, blob by blob.

It refuses to take a name that holds other bytes, and to delete what is retained; it makes the bucket in `create` only.
"""

import base64
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from backup.errors import CutOff, FileMissing, StorageError
from backup.storage.base import (
    CONFIG_NAME,
    Buffer,
    FileKind,
    StorageProperties,
    StoredFile,
    as_buffers,
    is_file_name,
)
from backup.storage.limited import AT_ONCE, Pace, PacedBody, read_paced
from backup.storage.s3_errors import failure, refusal, told

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

MULTIPART_ABOVE: Final = 200 << 20
"""Bytes; below this a file is one request, as with restic."""
PART_BYTES: Final = 64 << 20
_SMALL_BYTES: Final = 256 << 10
_MOST_EXPECTED_BYTES: Final = 64 << 20
"""No server makes us take more memory than this before it has sent anything."""
_DELETED_AT_ONCE: Final = 1000
"""The most that the S3 API knows."""
_REQUESTS_AT_ONCE: Final = 8
_FOLDER: Final = {
    FileKind.KEY: "keys/",
    FileKind.DATA: "data/",
    FileKind.INDEX: "index/",
    FileKind.SNAPSHOT: "snapshots/",
    FileKind.LOCK: "locks/",
}
_TYPE: Final = "application/octet-stream"
_AWS: Final = "s3.amazonaws.com"


@dataclass(frozen=True, slots=True)
class S3Place:
    """Which bucket, where."""

    endpoint: str | None
    """``https://host[:port]``; None for AWS's own."""
    bucket: str
    prefix: str = ""
    """Without slashes at its ends."""

    def __str__(self) -> str:
        path = f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket
        return f"s3:{self.endpoint or _AWS}/{path}"


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to talk to it and how to store; every default is the server's or AWS's own."""

    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    profile: str | None = None
    region: str | None = None
    addressing: str = "auto"
    storage_class: str | None = None
    server_side_encryption: str | None = None
    server_side_encryption_key_id: str | None = None
    retention: timedelta | None = None
    """Object Lock from the moment of storing; None for what the bucket does by itself."""
    retention_mode: str = "governance"


class S3Storage:
    """Storage in a bucket. ``clock`` is asked only where retention is set. Can be pickled; no request is made yet."""

    def __init__(
        self,
        place: S3Place,
        options: S3Options = S3Options(),
        *,
        pace: Pace | None = None,
        clock: Callable[[], datetime] | None = None,
        multipart_above: int = MULTIPART_ABOVE,
        part_bytes: int = PART_BYTES,
    ) -> None:
        if options.retention is not None and clock is None:
            raise ValueError("retention needs a clock")
        self._place, self._options, self._pace, self._clock = place, options, pace, clock
        self._multipart_above, self._part_bytes = multipart_above, part_bytes

    def __repr__(self) -> str:
        return f"S3Storage({str(self._place)!r})"

    @property
    def properties(self) -> StorageProperties:
        """Where it is. A bucket does not say how much still fits."""
        return StorageProperties(str(self._place), None)

    def create(self) -> None:
        """Make the bucket unless it is there, with Object Lock where retention is set. Folders need no making in S3."""
        with suppress(FileMissing), told("look at", str(self._place)):
            self._client.head_bucket(Bucket=self._place.bucket)
            return
        arguments: dict[str, Any] = {"Bucket": self._place.bucket}
        if self._options.retention is not None:
            arguments["ObjectLockEnabledForBucket"] = True
        region = self._client.meta.region_name
        if self._place.endpoint is None and region != "us-east-1":
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": region}
        with told("make the bucket of", str(self._place)):
            self._client.create_bucket(**arguments)
        log.info("bucket made", extra={"place": str(self._place)})

    # ---- writing

    def put(self, kind: FileKind, name: str, content: Buffer | Sequence[Buffer]) -> None:
        """Look whether the name is free, and upload in one request, or in parts above 200 MiB.

        Nobody looks where few bytes are named by their hash: what may lie there can only be the same. S3's own
        condition (``If-None-Match``) is no help, since servers that do not know it write over what is there.
        """
        key = self._key(kind, name)
        buffers = as_buffers(content)
        body = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))
        digest = hashlib.md5(body, usedforsecurity=False)
        if not _is_named_by_hash(name, body) and self._is_there(kind, name, body, digest.hexdigest()):
            return
        arguments: dict[str, Any] = {"Bucket": self._place.bucket, "Key": key, "ContentType": _TYPE}
        arguments |= self._how_to_store(kind)
        with told("write", self._shown(key)):
            if len(body) > self._multipart_above:
                self._put_parts(key, body, arguments)
            else:
                md5 = base64.b64encode(digest.digest()).decode()
                self._client.put_object(**arguments, Body=self._paced(body), ContentMD5=md5)

    def _is_there(self, kind: FileKind, name: str, body: memoryview, digest: str) -> bool:
        """Whether these very bytes are stored already. Raises StorageError (permanent) when others are."""
        key = self._key(kind, name)
        try:
            with told("look at", self._shown(key)):
                head = self._client.head_object(Bucket=self._place.bucket, Key=key)
        except FileMissing:
            return False
        # An ETag is the MD5 of an object put whole; of one put in parts or encrypted by KMS it is something else.
        if head["ContentLength"] == len(body) and (
            head.get("ETag", "").strip('"') == digest or self.get(kind, name) == body
        ):
            return True
        raise StorageError(
            f"refused to write {self._shown(key)}: it is there already with other bytes",
            permanent=True,
            hint="the stored file may be damaged; run `keepwatch verify --read-data`",
        )

    def _how_to_store(self, kind: FileKind) -> dict[str, Any]:
        options, how = self._options, dict[str, Any]()
        if options.storage_class is not None and kind is FileKind.DATA:
            how["StorageClass"] = options.storage_class
        if options.server_side_encryption is not None:
            how["ServerSideEncryption"] = options.server_side_encryption
        if options.server_side_encryption_key_id is not None:
            how["SSEKMSKeyId"] = options.server_side_encryption_key_id
        if options.retention is not None and self._clock is not None and kind is not FileKind.LOCK:
            how["ObjectLockMode"] = options.retention_mode.upper()
            how["ObjectLockRetainUntilDate"] = self._clock() + options.retention
        return how

    def _put_parts(self, key: str, body: memoryview, arguments: dict[str, Any]) -> None:
        target: dict[str, Any] = {"Bucket": self._place.bucket, "Key": key}
        upload = self._client.create_multipart_upload(**arguments)["UploadId"]
        try:
            parts: list[Any] = []
            for number, start in enumerate(range(0, len(body), self._part_bytes), 1):
                part = body[start : start + self._part_bytes]
                md5 = base64.b64encode(hashlib.md5(part, usedforsecurity=False).digest()).decode()
                done = self._client.upload_part(
                    **target, UploadId=upload, PartNumber=number, Body=self._paced(part), ContentMD5=md5
                )
                parts.append({"PartNumber": number, "ETag": done["ETag"]})
            self._client.complete_multipart_upload(
                **target, UploadId=upload, MultipartUpload={"Parts": parts}
            )
        except BaseException:
            try:
                self._client.abort_multipart_upload(**target, UploadId=upload)
            except Exception as error:  # noqa: BLE001 - the first failure is the one to tell; the rest costs only space
                log.warning("multipart upload left", extra={"key": key, "upload": upload, "reason": str(error)})
            raise

    def _paced(self, body: memoryview) -> Any:
        """Give the body as it is to be sent: at the pace, and without a second copy of a large one."""
        if self._pace is not None and self._pace.portion(sending=True) is not None:
            return PacedBody(body, self._pace)
        return bytes(body) if len(body) <= _SMALL_BYTES else PacedBody(body, AT_ONCE)

    # ---- reading

    def get(self, kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read with a ranged request, and make sure that all of the range came. Raises CutOff with what did."""
        key = self._key(kind, name)
        if length == 0:
            self.stat(kind, name)
            return b""
        arguments: dict[str, Any] = {"Bucket": self._place.bucket, "Key": key}
        ranged = offset > 0 or length is not None
        if ranged:
            arguments["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
        came = BytesIO()
        began = not ranged
        try:
            answer = self._client.get_object(**arguments)
            expected = answer["ContentLength"]
            told_range: str | None = answer.get("ContentRange")
            began = began or (told_range or "").startswith(f"bytes {offset}-")
            body: Any = answer["Body"]
            # of the very size, it never moves while it is filled, and gives what it holds without a copy
            came = BytesIO(bytes(min(expected, _MOST_EXPECTED_BYTES)))
            for part in read_paced(body, expected, self._pace or AT_ONCE):
                came.write(part)
        except Exception as error:
            if _is_behind_the_end(error):
                return b""
            broken = failure("read", self._shown(key), error)
            if came.tell() and began and not broken.permanent:
                raise CutOff(str(broken), _taken(came), hint=broken.hint or "") from error
            raise broken from error
        content = _taken(came)
        if len(content) != expected:
            message = f"could not read {self._shown(key)}: {len(content)} of {expected} bytes came"
            raise CutOff(message, content) if began else StorageError(message)
        if ranged and told_range is None:  # the server gave everything; take what was asked for
            content = content[offset:] if length is None else content[offset : offset + length]
        elif told_range is not None and ranged:
            self._require_range(key, told_range, len(content), offset, length)
        return content

    def _require_range(self, key: str, told: str, came: int, offset: int, length: int | None) -> None:
        """Raise StorageError when a ranged answer is not what was asked for. ``told``: ``bytes 0-99/1000``."""
        span, _, total = told.removeprefix("bytes ").partition("/")
        rest = int(total) - offset if total.isdecimal() else came
        wanted = rest if length is None else min(length, rest)
        if not span.startswith(f"{offset}-") or came != wanted:
            raise StorageError(f"could not read {self._shown(key)}: {wanted} bytes from {offset} wanted, {told} came")

    def list(self, kind: FileKind) -> Iterator[StoredFile]:
        """Ask for page after page."""
        token, more = "", True
        while more:
            page, token = self.list_page(kind, token)
            yield from page
            more = bool(token)

    def list_page(self, kind: FileKind, token: str) -> tuple[Sequence[StoredFile], str]:
        """See Paged; a page has up to a thousand names."""
        if kind is FileKind.CONFIG:
            try:
                return [self.stat(kind, CONFIG_NAME)], ""
            except FileMissing:
                return [], ""
        folder = self._join(_FOLDER[kind])
        arguments: dict[str, Any] = {"Bucket": self._place.bucket, "Prefix": folder}
        if token:
            arguments["ContinuationToken"] = token
        with told("list", self._shown(folder)):
            answer = self._client.list_objects_v2(**arguments)
        next_token = answer.get("NextContinuationToken", "") if answer["IsTruncated"] else ""
        if answer["IsTruncated"] and not next_token:
            raise StorageError(f"could not list {self._shown(folder)}: the server says there is more, not where")
        found = []
        for entry in answer.get("Contents", ()):
            name = entry["Key"].rpartition("/")[2]
            if is_file_name(kind, name) and entry["Key"] == self._key(kind, name):
                found.append(StoredFile(name, entry["Size"]))
        return found, next_token

    def stat(self, kind: FileKind, name: str) -> StoredFile:
        """Ask for the object's head."""
        key = self._key(kind, name)
        with told("look at", self._shown(key)):
            return StoredFile(name, self._client.head_object(Bucket=self._place.bucket, Key=key)["ContentLength"])

    # ---- deleting and keeping from it

    def delete(self, kind: FileKind, name: str) -> None:
        """Remove an object; S3 itself would not say that there was none. Older versions stay where the bucket keeps."""
        self.stat(kind, name)
        self._delete_object(self._key(kind, name))

    def delete_all(self, kind: FileKind, names: Sequence[str]) -> None:
        """See Sweeping. A server that cannot remove many at once is asked for each, several at a time."""
        if len(names) == 1:
            self._delete_object(self._key(kind, names[0]))
            return
        for start in range(0, len(names), _DELETED_AT_ONCE):
            keys = [self._key(kind, name) for name in names[start : start + _DELETED_AT_ONCE]]
            try:
                self._delete_objects(keys)
            except StorageError as error:
                if not error.permanent:
                    raise
                self._delete_object(keys[0])  # alone, since it is told what is told to all
                with ThreadPoolExecutor(_REQUESTS_AT_ONCE, thread_name_prefix="delete") as pool:
                    list(pool.map(self._delete_object, keys[1:]))

    def _delete_objects(self, keys: Sequence[str]) -> None:
        wanted: Any = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        with told("delete", self._shown(f"{keys[0]} and {len(keys) - 1} others")):
            answer = self._client.delete_objects(Bucket=self._place.bucket, Delete=wanted)
        for refused in answer.get("Errors", ()):
            if error := refusal("delete", self._shown(refused.get("Key", "")), refused):
                raise error

    def _delete_object(self, key: str) -> None:
        with suppress(FileMissing), told("delete", self._shown(key)):  # most servers do not even say that it was gone
            self._client.delete_object(Bucket=self._place.bucket, Key=key)

    def retain(self, kind: FileKind, name: str, until: datetime) -> None:
        """See Retaining. An object that is retained longer already is left so."""
        key = self._key(kind, name)
        target: dict[str, Any] = {"Bucket": self._place.bucket, "Key": key}
        with told("retain", self._shown(key)):
            head: Mapping[str, Any] = self._client.head_object(**target)
            held = head.get("ObjectLockRetainUntilDate")
            if held is None or held < until:
                mode = head.get("ObjectLockMode") or self._options.retention_mode.upper()
                kept: Any = {"Mode": mode, "RetainUntilDate": until}
                self._client.put_object_retention(**target, Retention=kept)

    # ---- names and the client

    def _key(self, kind: FileKind, name: str) -> str:
        if not is_file_name(kind, name):
            raise ValueError(f"{name!r} does not name a {kind} file")
        if kind is FileKind.CONFIG:
            return self._join(CONFIG_NAME)
        shard = f"{name[:2]}/" if kind is FileKind.DATA else ""
        return self._join(f"{_FOLDER[kind]}{shard}{name}")

    def _join(self, path: str) -> str:
        return f"{self._place.prefix}/{path}" if self._place.prefix else path

    def _shown(self, key: str) -> str:
        return f"s3:{self._place.endpoint or _AWS}/{self._place.bucket}/{key}"

    @property
    def _client(self) -> "S3Client":
        from backup.storage.s3_client import client_of

        with told("open", str(self._place)):
            return client_of(os.getpid(), self._place.endpoint, self._options)


def _is_named_by_hash(name: str, body: memoryview) -> bool:
    """Whether the name is the content's hash. Said of small contents only: to hash a pack costs more than to ask."""
    return len(body) <= _SMALL_BYTES and hashlib.sha256(body).hexdigest() == name


def _taken(came: BytesIO) -> bytes:
    came.truncate()
    return came.getvalue()


def _is_behind_the_end(error: Exception) -> bool:
    from botocore.exceptions import ClientError

    return isinstance(error, ClientError) and (
        error.response.get("Error", {}).get("Code") == "InvalidRange"
        or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 416
    )
