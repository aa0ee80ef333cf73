"""A backup in a process of its own is killed at moments that nobody chose; what it leaves must be sound."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from backup.archiver import backup
from backup.sources.files import FilesSource
from backup.storage.base import FileKind
from backup.storage.local import LocalStorage
from tests.backup.repositories import PASSWORD, FakeClock, create, reopen
from tests.backup.trees import picture

Restic = Callable[..., subprocess.CompletedProcess[str]]
CHILD = """
import sys
from datetime import UTC, datetime
from backup.archiver import backup
from backup import assembly
from backup.repository import Repository
from backup.sources.files import FilesSource
from backup.storage.local import LocalStorage
assembly.BATCH_FILES = 8
clock = lambda: datetime.now(UTC)
repository = Repository.open(LocalStorage(sys.argv[1]), sys.argv[2], clock=clock)
sys.stdout.write("begin")
sys.stdout.flush()
backup(repository, FilesSource((sys.argv[3],)), job="j", host="h", clock=clock, workers=2)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    rng = random.Random(5)
    for folder in range(12):
        (root / str(folder)).mkdir(parents=True)
        for number in range(20):
            (root / str(folder) / str(number)).write_bytes(rng.randbytes(rng.randrange(300_000)))
    (root / "big").write_bytes(rng.randbytes(20 << 20))
    return root


@pytest.mark.parametrize("share", [0.1, 0.45, 0.8])
def test_a_killed_backup_leaves_a_sound_repository_and_the_next_one_succeeds(
    tmp_path: Path, source: Path, clock: FakeClock, restic: Restic, share: float
) -> None:
    storage = LocalStorage(tmp_path / "repository")
    repository = create(storage, clock)
    earlier = backup(repository, FilesSource((str(source / "1"),)), job="j", host="h", clock=clock, workers=0)
    child = start(tmp_path, source)
    target = int((os.path.getsize(source / "big") + 12 * 20 * 150_000) * share)
    wait_until(lambda: child.poll() is not None or sum(f.size for f in storage.list(FileKind.DATA)) > target)
    workers = psutil.Process(child.pid).children(recursive=True) if child.poll() is None else []
    child.send_signal(signal.SIGKILL)
    child.wait(20)
    wait_until(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))

    again = reopen(storage, clock)
    snapshots = [snapshot.id for snapshot in again.snapshots()]
    assert snapshots[0] == earlier.snapshot_id
    assert len(snapshots) == 1 or share > 0.5, "it ended before it could be killed"
    report = backup(again, FilesSource((str(source),)), job="j", host="h", clock=clock, workers=2)
    assert not report.partial
    assert "no errors were found" in restic("check", "--read-data").stdout
    restic("restore", report.snapshot_id, "--target", str(tmp_path / "back"))
    assert picture(tmp_path / "back" / str(source)[1:]) == picture(source)


def start(tmp_path: Path, source: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", CHILD, str(tmp_path / "repository"), PASSWORD, str(source)]
    child = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout as output:
        assert output.read(5) == b"begin"
    return child


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 40
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)
