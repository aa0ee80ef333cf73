"""What S3 has beyond the contract of every storage: refusals in words, Object Lock, parts, pages, processes."""

import hashlib
import multiprocessing
import os
import pickle
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from pydantic import SecretStr

from backup.errors import CutOff, FileMissing, StorageError, StorageFull
from backup.retaining import extend_retention
from backup.storage.base import CONFIG_NAME, FileKind
from backup.storage.counting import Counting
from backup.storage.open import open_configured, open_storage, parse_s3
from backup.storage.reading_ahead import ReadingAhead
from backup.storage.retrying import Retrying
from backup.storage.s3 import S3Options, S3Place, S3Storage
from backup.storage.s3_errors import BucketMissing, failure
from config.jobs import RepositorySettings
from tests.backup import s3_servers
from tests.backup.s3_faults import FaultyProxy
from tests.backup.s3_servers import BUCKET, S3Server, with_keys

NAME, OTHER = "ab" * 32, "cd" * 32
NOW = datetime.now(UTC).replace(microsecond=0)


def at(server: S3Server, bucket: str = BUCKET, **options: Any) -> S3Storage:
    place = S3Place(server.endpoint, bucket, "erp-1")
    return S3Storage(place, with_keys(region="us-east-1", **options), clock=lambda: NOW)


def client_of(server: S3Server) -> Any:
    return boto3.client(
        "s3", endpoint_url=server.endpoint, region_name="us-east-1",
        aws_access_key_id=s3_servers.KEY_ID, aws_secret_access_key=s3_servers.SECRET_KEY,
    )  # fmt: skip


@contextmanager
def refused() -> Iterator[list[StorageError]]:
    """Expect a permanent StorageError, and give it in a list."""
    found: list[StorageError] = []
    with pytest.raises(StorageError) as raised:
        yield found
    found.append(raised.value)
    assert raised.value.permanent
    assert str(raised.value).startswith("could not")


# ---- where it is


@pytest.mark.parametrize(
    ("written", "endpoint", "bucket", "prefix"),
    [
        ("https://s3.example.com/bucket/a/b", "https://s3.example.com", "bucket", "a/b"),
        ("http://127.0.0.1:9000/bucket/", "http://127.0.0.1:9000", "bucket", ""),
        ("s3.example.com:444/bucket//a/./b/", "https://s3.example.com:444", "bucket", "a/b"),
        ("//s3.example.com/bucket", "https://s3.example.com", "bucket", ""),
        ("s3.amazonaws.com/bucket/a", None, "bucket", "a"),
        ("https://[::1]:9000/bucket/x", "https://[::1]:9000", "bucket", "x"),
    ],
)
def test_a_url_is_read_as_restic_writes_it(written: str, endpoint: str | None, bucket: str, prefix: str) -> None:
    assert parse_s3(written) == S3Place(endpoint, bucket, prefix)


@pytest.mark.parametrize("written", ["", "bucket", "https://host", "https://host/", "https://id:key@host/bucket"])
def test_a_url_that_names_no_place_is_refused_without_being_shown(written: str) -> None:
    with refused() as [*_]:
        open_storage(f"s3:{written}")


def test_settings_become_a_storage_that_tries_again(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("AKIA\n")
    (tmp_path / "key").write_text("hunter2hunter2\n")
    settings = RepositorySettings.model_validate({
        "url": "s3:https://host/bucket", "password_file": "/p", "access_key_id_file": str(tmp_path / "id"),
        "secret_access_key_file": str(tmp_path / "key"), "upload_limit": "1 MiB/s", "object_lock": "30d",
    })  # fmt: skip
    storage = open_configured(settings, clock=lambda: NOW)
    assert isinstance(storage, ReadingAhead)
    retrying = vars(storage)["_storage"]
    assert isinstance(retrying, Retrying)
    assert "hunter2" not in repr(storage) + repr(vars(retrying)) + repr(vars(vars(retrying)["_storage"]))
    assert storage.properties.location == "s3:https://host/bucket"


def test_boto3_is_imported_for_the_first_request_only() -> None:
    code = "import sys; from backup.storage.open import open_storage; open_storage('s3:http://127.0.0.1:1/bucket');"
    code += "assert not {'boto3', 'botocore'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# ---- refusals in words


def test_wrong_keys_no_bucket_and_no_server_are_told_apart(rclone: S3Server) -> None:
    wrong = S3Options(access_key_id=SecretStr(s3_servers.KEY_ID), secret_access_key=SecretStr("x" * 40))
    with refused() as found:
        S3Storage(S3Place(rclone.endpoint, BUCKET), wrong).get(FileKind.CONFIG, CONFIG_NAME)
    assert "access_key_id_file" in found[0].hint
    with refused() as found:
        list(at(rclone, "no-such-bucket").list(FileKind.SNAPSHOT))
    assert isinstance(found[0], BucketMissing)
    with pytest.raises(StorageError) as raised:
        S3Storage(S3Place(f"http://127.0.0.1:{s3_servers.free_port()}", BUCKET), with_keys()).stat(FileKind.LOCK, NAME)
    assert not raised.value.permanent
    assert "is the server up" in raised.value.hint
    with pytest.raises(StorageError) as raised:
        S3Storage(S3Place("http://no-such-host.invalid", BUCKET), with_keys()).stat(FileKind.LOCK, NAME)
    assert "DNS" in raised.value.hint


def test_tls_where_there_is_none_is_said(rclone: S3Server) -> None:
    with refused() as found:
        S3Storage(S3Place(rclone.endpoint.replace("http:", "https:"), BUCKET), with_keys()).stat(FileKind.LOCK, NAME)
    assert "s3:http://" in found[0].hint


def test_no_credentials_anywhere_are_said(rclone: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in s3_servers.aws_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with refused() as found:
        S3Storage(S3Place(rclone.endpoint, BUCKET), S3Options(region="a")).stat(FileKind.LOCK, NAME)
    assert "AWS_ACCESS_KEY_ID" in found[0].hint
    with refused() as found:
        S3Storage(S3Place(rclone.endpoint, BUCKET), S3Options(profile="none")).stat(FileKind.LOCK, NAME)
    assert "config" in found[0].hint


def test_credentials_come_from_the_environment_or_a_profile(
    rclone: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in s3_servers.aws_environment().items():
        monkeypatch.setenv(name, value)
    place = S3Place(rclone.endpoint, BUCKET, secrets.token_hex(8))
    S3Storage(place, S3Options(region="from-environment")).put(FileKind.LOCK, NAME, b"x")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    file.write_text(
        f"[backup]\naws_access_key_id = {s3_servers.KEY_ID}\naws_secret_access_key = {s3_servers.SECRET_KEY}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert S3Storage(place, S3Options(profile="backup", region="x")).get(FileKind.LOCK, NAME) == b"x"


CODES = [
    # code, status, permanent, a word of the hint
    ("AccessDenied", 403, True, "s3:GetObject"),
    ("InvalidAccessKeyId", 403, True, "access_key_id_file"),
    ("SignatureDoesNotMatch", 403, True, "secret_access_key_file"),
    ("RequestTimeTooSkewed", 403, True, "clock"),
    ("PermanentRedirect", 301, True, "region"),
    ("AuthorizationHeaderMalformed", 400, True, "region"),
    ("403", 403, True, "access_key_id_file"),
    ("301", 301, True, "region"),
    ("Teapot", 418, True, "S3 server"),
    ("SlowDown", 503, False, "overloaded"),
    ("InternalError", 500, False, "tried again"),
    ("503", 503, False, "tried again"),
    ("RequestTimeout", 400, False, "tried again"),
    ("BadDigest", 400, False, "tried again"),
    ("429", 429, False, "tried again"),
]


@pytest.mark.parametrize(("code", "status", "permanent", "hint"), CODES)
def test_a_servers_code_says_whether_it_passes_and_what_to_do(
    code: str, status: int, permanent: bool, hint: str
) -> None:
    told = failure("read", "it", client_error(code, status))
    assert (told.permanent, hint in told.hint) == (permanent, True), told.hint


def test_a_full_server_is_full_and_a_bug_stays_a_bug() -> None:
    assert isinstance(failure("write", "it", client_error("QuotaExceeded", 403)), StorageFull)
    assert isinstance(failure("write", "it", client_error("XMinioStorageFull", 507)), StorageFull)
    with pytest.raises(KeyError):
        failure("write", "it", KeyError("x"))


def client_error(code: str, status: int) -> Exception:
    from botocore.exceptions import ClientError

    said: Any = {"Error": {"Code": code, "Message": "Planted."}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(said, "GetObject")


# ---- objects


def test_objects_lie_where_restic_looks_for_them(rclone: S3Server) -> None:
    prefix = secrets.token_hex(8)
    storage = rclone.storage(prefix)
    storage.put(FileKind.CONFIG, CONFIG_NAME, b"c")
    for kind in (FileKind.KEY, FileKind.DATA, FileKind.INDEX, FileKind.SNAPSHOT, FileKind.LOCK):
        storage.put(kind, NAME, b"x")
    root = rclone.folder / BUCKET / prefix
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    folders = {"keys", "data/ab", "index", "snapshots", "locks"}
    assert found == {"config", *(f"{folder}/{NAME}" for folder in folders)}


def test_other_objects_beside_ours_are_not_listed(rclone: S3Server) -> None:
    prefix = secrets.token_hex(8)
    storage = rclone.storage(prefix)
    storage.put(FileKind.DATA, NAME, b"x")
    for key in (f"data/cd/{NAME}", f"data/{OTHER}", f"data/ab/{NAME}-tmp-1", "data/readme"):
        client_of(rclone).put_object(Bucket=BUCKET, Key=f"{prefix}/{key}", Body=b"y")
    assert [file.name for file in storage.list(FileKind.DATA)] == [NAME]


def test_a_large_file_goes_in_parts_and_is_whole(moto: S3Server) -> None:
    bucket = secrets.token_hex(8)
    part = 5 << 20  # the least that S3 takes
    place = S3Place(moto.endpoint, bucket, "erp-1")
    storage = S3Storage(place, with_keys(region="us-east-1"), multipart_above=part, part_bytes=part)
    storage.create()
    content = os.urandom(2 * part + 7)
    storage.put(FileKind.DATA, NAME, content)
    assert storage.get(FileKind.DATA, NAME) == content
    assert "-3" in client_of(moto).head_object(Bucket=bucket, Key=f"erp-1/data/ab/{NAME}")["ETag"]
    storage.put(FileKind.DATA, NAME, content)
    with pytest.raises(StorageError, match="other bytes"):
        storage.put(FileKind.DATA, NAME, content[:-1] + b"?")
    assert client_of(moto).list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_a_broken_upload_in_parts_leaves_none_behind(moto: S3Server) -> None:
    bucket, part = secrets.token_hex(8), 5 << 20
    at(moto, bucket).create()
    with FaultyProxy(moto.address, seed=1, share=0.0) as proxy:
        place = S3Place(f"http://{proxy.address}", bucket, "erp-1")
        storage = S3Storage(place, with_keys(region="us-east-1"), multipart_above=part, part_bytes=part)
        proxy.refuse_writes_after(1)
        with pytest.raises(StorageError):
            storage.put(FileKind.DATA, NAME, bytes(3 * part))
    assert client_of(moto).list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    assert list(at(moto, bucket).list(FileKind.DATA)) == []


def test_more_files_than_a_page_holds_are_all_listed(tmp_path: Path) -> None:
    folder = tmp_path / "objects" / BUCKET / "erp-1" / "index"
    folder.mkdir(parents=True)
    names = {f"{number:064x}" for number in range(1005)}
    for name in names:
        (folder / name).write_bytes(b"x")
    with s3_servers.rclone_server(tmp_path) as server:
        storage = server.storage("erp-1")
        assert {file.name for file in storage.list(FileKind.INDEX)} == names
        page, token = storage.list_page(FileKind.INDEX, "")
        assert (len(page), bool(token)) == (1000, True)


@pytest.mark.parametrize("fault", ["truncated", "reset after", "internal error", "slow down"])
def test_an_answer_that_is_cut_short_is_a_passing_error_never_short_content(rclone: S3Server, fault: str) -> None:
    prefix = secrets.token_hex(8)
    rclone.storage(prefix).put(FileKind.DATA, NAME, bytes(100_000))
    with FaultyProxy(rclone.address, seed=1, share=1.0, faults=(fault,)) as proxy:
        storage = S3Storage(S3Place(f"http://{proxy.address}", BUCKET, prefix), with_keys())
        for offset, length in ((0, None), (10, 50_000)):
            with pytest.raises(StorageError) as raised:
                storage.get(FileKind.DATA, NAME, offset, length)
            assert not raised.value.permanent


def test_what_came_before_an_answer_broke_off_is_not_asked_for_again(rclone: S3Server) -> None:
    prefix, content = secrets.token_hex(8), os.urandom(32 << 20)  # more than sockets hold
    rclone.storage(prefix).put(FileKind.DATA, NAME, content)
    with FaultyProxy(rclone.address, seed=1, share=1.0, faults=("truncated",)) as proxy:
        storage = S3Storage(S3Place(f"http://{proxy.address}", BUCKET, prefix), with_keys())
        with pytest.raises(CutOff) as raised:
            storage.get(FileKind.DATA, NAME, 1000, 30 << 20)
        came = raised.value.content
        assert len(came) >= 1 << 20
        assert content[1000:].startswith(came)
        counting = Counting(storage)
        whole = Retrying(counting, sleep=lambda _: setattr(proxy, "share", 0.0)).get(FileKind.DATA, NAME)
    assert whole == content
    assert counting.meter.figures()["request_bytes_get"] == len(content)


def _put_in_child(storage: S3Storage) -> None:
    storage.put(FileKind.DATA, OTHER, b"child")
    os._exit(0)


def test_a_forked_worker_makes_a_client_of_its_own(rclone: S3Server) -> None:
    storage = rclone.storage(secrets.token_hex(8))
    storage.put(FileKind.DATA, NAME, b"parent")
    worker = multiprocessing.get_context("fork").Process(target=_put_in_child, args=(storage,))
    worker.start()
    worker.join(30)
    assert worker.exitcode == 0
    assert storage.get(FileKind.DATA, OTHER) == b"child"
    assert pickle.loads(pickle.dumps(storage)).get(FileKind.DATA, NAME) == b"parent"


def test_many_are_deleted_with_one_request_or_one_by_one_where_the_server_knows_no_better(rclone: S3Server) -> None:
    names = [f"{number:064x}" for number in range(20)]
    with FaultyProxy(rclone.address, seed=1, share=0.0) as proxy:
        storage = S3Storage(S3Place(f"http://{proxy.address}", BUCKET, secrets.token_hex(8)), with_keys())
        for denied, requests in (((), 1), (("POST",), len(names))):
            for name in names:
                storage.put(FileKind.DATA, name, b"pack")
            proxy.deny(*denied)
            before = proxy.done["passed"]
            storage.delete_all(FileKind.DATA, names)
            assert proxy.done["passed"] - before == requests
            assert list(storage.list(FileKind.DATA)) == []
        proxy.deny("POST", "DELETE")
        with refused():
            storage.delete_all(FileKind.DATA, names)


# ---- how they are kept


def test_small_files_named_by_their_hash_are_put_and_single_ones_deleted_without_a_look(rclone: S3Server) -> None:
    from backup.storage.s3_client import client_of as client_within

    options, asked = with_keys(), list[str]()
    storage = S3Storage(S3Place(rclone.endpoint, BUCKET, "looks"), options)

    def note(model: Any, **_: Any) -> None:
        asked.append(model.name)

    events = client_within(os.getpid(), rclone.endpoint, options).meta.events
    events.register("before-call.s3", note)
    try:
        small, large = b"a lock", secrets.token_bytes(300_000)
        named = hashlib.sha256(small).hexdigest()
        for _ in range(2):
            storage.put(FileKind.LOCK, named, small)
        storage.put(FileKind.DATA, hashlib.sha256(large).hexdigest(), large)
        storage.put(FileKind.SNAPSHOT, NAME, small)
        storage.delete_all(FileKind.LOCK, [named])
        storage.delete_all(FileKind.LOCK, [named])  # gone already
    finally:
        events.unregister("before-call.s3", note)
    look = ["HeadObject", "PutObject"]
    assert asked == ["PutObject", "PutObject", *look, *look, "DeleteObject", "DeleteObject"]
    assert storage.get(FileKind.SNAPSHOT, NAME) == small
    with pytest.raises(StorageError, match="there already with other bytes"):
        storage.put(FileKind.SNAPSHOT, NAME, b"other bytes")


def test_everything_but_locks_is_retained_and_only_packs_change_class(moto: S3Server) -> None:
    bucket = secrets.token_hex(8)
    storage = at(
        moto, bucket, retention=timedelta(days=30), storage_class="STANDARD_IA", server_side_encryption="AES256"
    )
    storage.create()
    storage.put(FileKind.CONFIG, CONFIG_NAME, b"c")
    for kind in (FileKind.KEY, FileKind.DATA, FileKind.INDEX, FileKind.SNAPSHOT, FileKind.LOCK):
        storage.put(kind, NAME, b"x")
    client, until = client_of(moto), NOW + timedelta(days=30)
    for key in ("config", f"keys/{NAME}", f"data/ab/{NAME}", f"index/{NAME}", f"snapshots/{NAME}", f"locks/{NAME}"):
        head = client.head_object(Bucket=bucket, Key=f"erp-1/{key}")
        lock = key.startswith("locks")
        assert head.get("ObjectLockRetainUntilDate") == (None if lock else until), key
        assert head.get("ObjectLockMode") == (None if lock else "GOVERNANCE"), key
        assert head.get("StorageClass", "STANDARD") == ("STANDARD_IA" if key.startswith("data") else "STANDARD"), key
        assert head["ServerSideEncryption"] == "AES256", key
    storage.delete(FileKind.LOCK, NAME)


def test_retention_is_renewed_and_never_shortened(moto: S3Server) -> None:
    bucket = secrets.token_hex(8)
    storage = Retrying(at(moto, bucket, retention=timedelta(days=30)))
    storage.create()
    storage.put(FileKind.DATA, NAME, b"x")
    storage.put(FileKind.SNAPSHOT, NAME, b"x")
    storage.put(FileKind.LOCK, NAME, b"x")

    def held(key: str) -> datetime:
        return client_of(moto).head_object(Bucket=bucket, Key=f"erp-1/{key}")["ObjectLockRetainUntilDate"]

    assert extend_retention(storage, NOW + timedelta(days=60), lambda: False) == 2
    assert held(f"data/ab/{NAME}") == held(f"snapshots/{NAME}") == NOW + timedelta(days=60)
    assert extend_retention(storage, NOW + timedelta(days=40), lambda: False) == 2
    assert held(f"data/ab/{NAME}") == NOW + timedelta(days=60)
    with pytest.raises(FileMissing):
        storage.retain(FileKind.DATA, OTHER, NOW + timedelta(days=60))


def test_retention_without_a_clock_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="clock"):
        S3Storage(S3Place(None, BUCKET), S3Options(retention=timedelta(days=1)))
