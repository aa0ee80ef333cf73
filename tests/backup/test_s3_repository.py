"""A repository in a bucket on bad days: a server that fails, and credentials that may not delete."""

import secrets
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from backup.archiver import BackupReport, backup
from backup.drills.drill import run_drill
from backup.drills.report import DrillWishes, Verdict
from backup.repository import Repository
from backup.sources.files import FilesSource
from backup.storage.base import FileKind, Storage
from backup.storage.retrying import Patience, Retrying
from backup.storage.s3 import S3Place, S3Storage
from backup.verify import verify
from tests.backup.repositories import CHEAP, PASSWORD, PROMPT, FakeClock, reopen
from tests.backup.s3_faults import FAULTS, FaultyProxy
from tests.backup.s3_servers import BUCKET, S3Server, with_keys
from tests.backup.storages import names

IMPATIENT = Patience(first_pause=timedelta(milliseconds=1), longest_pause=timedelta(milliseconds=4))


def through(proxy: FaultyProxy, prefix: str) -> Storage:
    return Retrying(S3Storage(S3Place(f"http://{proxy.address}", BUCKET, prefix), with_keys()), IMPATIENT)


def documents(folder: Path) -> Path:
    source = folder / "documents"
    for number in range(60):
        place = source / f"{number % 5}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"invoice-{number}").write_bytes(f"invoice {number}\n".encode() * 500)
    (source / "scan").write_bytes(secrets.token_bytes(5 << 20))
    return source


def back_up(repository: Repository, source: Path, clock: FakeClock, workers: int = 2) -> BackupReport:
    return backup(
        repository, FilesSource([str(source)]), job="documents", host="erp-1", clock=clock, workers=workers
    )  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_a_server_that_fails_three_times_in_ten_gets_a_sound_backup(
    rclone: S3Server, clock: FakeClock, tmp_path: Path, seed: int
) -> None:
    prefix, source = secrets.token_hex(8), documents(tmp_path)
    with FaultyProxy(rclone.address, seed=seed, share=0.3) as proxy:
        storage = through(proxy, prefix)
        repository = Repository.create(storage, PASSWORD, clock=clock, kdf=CHEAP, timing=PROMPT)
        first = back_up(repository, source, clock)
        (source / "new").write_bytes(secrets.token_bytes(100_000))
        second = back_up(reopen(storage, clock), source, clock)
        done = Counter(proxy.done)
    assert sum(done[fault] for fault in FAULTS) > 5, "the proxy did no harm"
    assert (first.partial, second.partial, second.files_new) == (False, False, 1)
    sound = reopen(rclone.storage(prefix), clock)
    with sound.lock(exclusive=True):
        assert list(verify(sound, read_data=True)) == []
    assert len(sound.snapshots()) == 2
    assert names(sound.storage, FileKind.LOCK) == []


def test_credentials_that_may_not_delete_are_enough_for_backups_and_drills(
    rclone: S3Server, clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prefix, source = secrets.token_hex(8), documents(tmp_path)
    with FaultyProxy(rclone.address, seed=1, share=0.0) as proxy:
        storage = through(proxy, prefix)
        repository = Repository.create(storage, PASSWORD, clock=clock, kdf=CHEAP, timing=PROMPT)
        proxy.deny("DELETE")
        back_up(repository, source, clock)
        assert "lock not released" in caplog.text
        assert len(names(storage, FileKind.LOCK)) == 1
        (source / "new").write_bytes(b"since then")
        clock.advance(hours=1)
        assert back_up(reopen(storage, clock), source, clock).files_new == 1
        assert "stale lock left" in caplog.text
        wishes = DrillWishes(job="documents", scratch=tmp_path / "scratch", clock=clock, workers=0)
        report = run_drill(storage, PASSWORD, wishes)
        assert report.verdict is Verdict.PASSED, report.message
        assert proxy.done["denied"] >= 3
    assert len(reopen(rclone.storage(prefix), clock).snapshots()) == 2
