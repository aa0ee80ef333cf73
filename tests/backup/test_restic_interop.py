"""Both directions with the real restic: it reads, checks and changes ours; we read, check and change its own."""

import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.crypto import Sealer
from backup.errors import RepositoryLocked, UnsupportedRepository, WrongPassword
from backup.forget import execute_forget, plan_forget
from backup.keys import add_key, change_password, list_keys, open_master_key, remove_key
from backup.pack import BlobKind
from backup.prune import execute_prune, plan_prune
from backup.repository import Repository
from backup.storage.base import FileKind
from backup.storage.local import LocalStorage
from backup.unpacked import UnpackedFiles
from backup.verify import verify
from config.jobs import KeepSettings
from tests.backup.repositories import CHEAP, PASSWORD, back_up, read_back

Restic = Callable[..., subprocess.CompletedProcess[str]]
FILES = {"a.txt": b"text " * 1000, "folder": {"b.bin": os.urandom(40_000), "empty": b""}}


def real_now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "repository")


@pytest.fixture
def ours(storage: LocalStorage) -> Repository:
    return Repository.create(storage, PASSWORD, clock=real_now, kdf=CHEAP)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "deep/er").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"hello " * 500)
    (folder / "deep/big.bin").write_bytes(os.urandom(3_000_000))
    (folder / "deep/er/\udcff odd \n").write_bytes(b"odd name")
    (folder / "link").symlink_to("a.txt")
    return folder


def open_theirs(storage: LocalStorage) -> Repository:
    return Repository.open(storage, PASSWORD, clock=real_now)


def expected(source: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in source.rglob("*") if path.is_file() and not path.is_symlink()}


# ---- restic on ours


def test_restic_checks_lists_and_restores_ours(ours: Repository, restic: Restic, tmp_path: Path) -> None:
    snapshot = back_up(ours, FILES, tags=("job:docs",))
    restic("check", "--read-data")
    assert json.loads(restic("cat", "config").stdout)["chunker_polynomial"] == f"{ours.config.chunker_polynomial:x}"
    (listed,) = json.loads(restic("snapshots", "--json", "--tag", "job:docs").stdout)
    assert (listed["id"], listed["paths"], listed["hostname"]) == (snapshot, ["/srv"], "erp-1")
    restic("restore", "latest", "--verify", "--target", str(tmp_path / "restored"))
    assert (tmp_path / "restored/folder/b.bin").read_bytes() == FILES["folder"]["b.bin"]  # type: ignore[index, call-overload]


def test_restic_appends_tags_forgets_and_prunes_ours_and_it_stays_sound(
    ours: Repository, restic: Restic, source: Path
) -> None:
    first = back_up(ours, FILES)
    restic("backup", str(source))
    restic("tag", "--add", "new", first)
    restic("forget", "--keep-last", "1", "--group-by", "host", "--host", "erp-1")
    restic("prune", "--max-unused", "0")
    assert list(verify(ours, read_data=True)) == []
    tagged = ours.find_snapshot("latest", hostname="erp-1")
    assert (tagged.original, tagged.tags) == (first, ("new",))
    assert read_back(ours, tagged.id)["/a.txt"] == FILES["a.txt"]


def test_passwords_of_either_program_open_for_both(ours: Repository, restic: Restic, tmp_path: Path) -> None:
    (tmp_path / "second").write_text("second")
    restic("key", "add", "--new-password-file", str(tmp_path / "second"))
    theirs = open_master_key(ours.storage, "second").master  # restic has cleared the bits of r that Poly1305 ignores
    assert Sealer(theirs).open(Sealer(ours.key).seal(b"sealed by one")) == b"sealed by one"
    third = add_key(ours.storage, ours.key, "third", now=real_now(), username="root", hostname="erp-1", kdf=CHEAP)
    assert len(json.loads(restic("key", "list", "--json", password="third").stdout)) == 3
    assert len(list_keys(ours.storage)) == 3
    remove_key(ours.storage, third, current=ours.opened_key.id)
    assert restic("key", "list", check=False, password="third").returncode != 0
    change_password(ours.storage, ours.opened_key, "fourth", now=real_now(), username="", hostname="", kdf=CHEAP)
    restic("check", password="fourth")
    with pytest.raises(WrongPassword):
        open_master_key(ours.storage, PASSWORD)


def test_our_forget_and_prune_leave_restic_nothing_to_complain_about(ours: Repository, restic: Restic) -> None:
    for number in range(3):
        back_up(ours, {**FILES, "changing": os.urandom(10_000 + number)})
    with ours.lock(exclusive=True):
        execute_forget(ours, plan_forget(ours, KeepSettings(last=1), real_now()))
        execute_prune(ours, plan_prune(ours, max_unused=0))
    output = restic("check", "--read-data").stdout
    assert "no errors were found" in output
    assert "not referenced" not in output


# ---- ours on restic's


@pytest.mark.parametrize("version", [1, 2])
def test_we_read_and_verify_what_restic_wrote(
    storage: LocalStorage, restic: Restic, source: Path, version: int
) -> None:
    restic("init", "--repository-version", str(version))
    restic("backup", str(source))
    theirs = open_theirs(storage)
    assert theirs.version == version
    assert list(verify(theirs, read_data=True)) == []
    assert read_back(theirs, theirs.find_snapshot("latest").id) == expected(source)


def test_a_version_1_repository_is_locked_as_restic_does_and_never_written(
    storage: LocalStorage, restic: Restic, source: Path
) -> None:
    restic("init", "--repository-version", "1")
    theirs = open_theirs(storage)
    with theirs.lock(exclusive=True):
        assert "locked" in restic("backup", str(source), check=False).stderr
        theirs.load_index()
        with pytest.raises(UnsupportedRepository):
            theirs.save_blob(BlobKind.DATA, b"x")


def test_we_append_forget_and_prune_in_a_repository_of_restic(
    storage: LocalStorage, restic: Restic, source: Path
) -> None:
    restic("init")
    restic("backup", str(source))
    kept = json.loads(restic("snapshots", "--json").stdout)[0]["id"]
    (source / "deep/big.bin").write_bytes(os.urandom(2_000_000))
    restic("backup", str(source))
    theirs = open_theirs(storage)
    back_up(theirs, FILES)
    with theirs.lock(exclusive=True):
        theirs.delete_snapshots([kept])
        plan = plan_prune(theirs, max_unused=0)
        execute_prune(theirs, plan)
    assert plan.freed_bytes > 2_900_000
    assert list(verify(theirs, read_data=True)) == []
    assert "no errors were found" in restic("check", "--read-data").stdout
    assert len(json.loads(restic("snapshots", "--json").stdout)) == 2
    assert read_back(theirs, theirs.snapshots()[0].id) == expected(source)


def test_plain_json_in_a_version_2_repository_is_read_by_both(ours: Repository, restic: Restic) -> None:
    snapshot = back_up(ours, FILES)
    plainly = UnpackedFiles(ours.storage, ours.key, compress=False)
    for kind in (FileKind.INDEX, FileKind.SNAPSHOT):
        for file in list(ours.storage.list(kind)):
            document = UnpackedFiles(ours.storage, ours.key).load(kind, file.name)
            name = plainly.save(kind, document)
            assert Sealer(ours.key).open(ours.storage.get(kind, name)) == document
            ours.storage.delete(kind, file.name)
            assert hashlib.sha256(ours.storage.get(kind, name)).hexdigest() == name
    (left,) = ours.snapshots()
    assert left.id != snapshot
    assert read_back(ours, left.id)["/a.txt"] == FILES["a.txt"]
    restic("check", "--read-data")


# ---- locks


@contextmanager
def restic_at_work(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A restic that holds a shared lock until the end of the block, where it finishes unless it was killed."""
    environment = os.environ | {"RESTIC_PASSWORD": PASSWORD, "HOME": str(tmp_path)}
    command = ["restic", "--no-cache", "-r", str(tmp_path / "repository"), "backup", "--stdin"]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        deadline, pause = time.monotonic() + 60, threading.Event()
        # restic writes it under another name first, and that is no lock yet
        while not any(len(lock.name) == 64 for lock in (tmp_path / "repository/locks").iterdir()):
            assert time.monotonic() < deadline, "restic took no lock"
            pause.wait(0.02)
        yield process
    finally:
        process.communicate(b"the end", timeout=60)


def test_our_exclusive_lock_keeps_restic_out_and_our_shared_one_only_its_exclusive_work(
    ours: Repository, restic: Restic, source: Path
) -> None:
    back_up(ours, FILES)
    with ours.lock(exclusive=True):
        refused = restic("backup", str(source), check=False)
        assert refused.returncode != 0
        assert "repository is already locked exclusively" in refused.stderr
    with ours.lock():
        restic("snapshots")
        restic("backup", str(source))
        for command in (["check"], ["forget", "latest"], ["prune"]):
            refused = restic(*command, check=False)
            assert refused.returncode != 0
            assert "already locked" in refused.stderr
    restic("check")


def test_restics_shared_lock_keeps_out_our_exclusive_one_only(
    ours: Repository, tmp_path: Path
) -> None:
    with restic_at_work(tmp_path) as restic:
        with pytest.raises(RepositoryLocked, match="shared lock of"):
            ours.lock(exclusive=True)
        back_up(ours, FILES)
    assert restic.returncode == 0
    with ours.lock(exclusive=True):
        assert len(ours.snapshots()) == 2


def test_restic_unlock_neither_kills_us_nor_takes_our_lock(ours: Repository, restic: Restic) -> None:
    """Its probe is SIGHUP to the process in the lock, which ends a program without a handler."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with ours.lock(exclusive=True) as lock:
            restic("unlock")
            lock.check()
            assert len(list(ours.storage.list(FileKind.LOCK))) == 1
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_lock_that_a_killed_restic_left_is_cleared(ours: Repository, tmp_path: Path) -> None:
    with restic_at_work(tmp_path) as restic:
        restic.kill()
        restic.wait(60)
    assert len(list(ours.storage.list(FileKind.LOCK))) == 1
    with ours.lock(exclusive=True):
        assert len(list(ours.storage.list(FileKind.LOCK))) == 1
    assert list(ours.storage.list(FileKind.LOCK)) == []
