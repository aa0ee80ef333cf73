"""A repository in a bucket that is far away: what does not depend on an answer does not wait for it.

The server lets requests of a kind pass only together, so that a test cannot be passed by asking one after the other,
however quick or slow the machine is. Times are looked at in the campaign.
"""

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.archiver import backup
from backup.pack import BlobKind
from backup.repository import Repository
from backup.restore_plan import plan_restore
from backup.restorer import execute_restore
from backup.sources.files import FilesSource
from backup.storage.reading_ahead import AHEAD, ReadingAhead
from backup.storage.retrying import Retrying
from backup.storage.s3 import S3Place, S3Storage
from tests.backup.repositories import FakeClock, back_up, commit, create, reopen, save_folder
from tests.backup.s3_faults import FaultyProxy
from tests.backup.s3_servers import BUCKET, S3Server, with_keys

Far = Callable[[FaultyProxy], Repository]


@pytest.fixture
def near(rclone: S3Server, clock: FakeClock) -> Repository:
    return create(rclone.storage(secrets.token_hex(8)), clock)


@pytest.fixture
def far(near: Repository, clock: FakeClock) -> Far:
    """Open the same repository through a proxy."""
    prefix = near.storage.properties.location.rpartition("/")[2]

    def open_through(proxy: FaultyProxy) -> Repository:
        storage = S3Storage(S3Place(f"http://{proxy.address}", BUCKET, prefix), with_keys())
        return reopen(ReadingAhead(Retrying(storage)), clock)

    return open_through


def keep_snapshots(repository: Repository, clock: FakeClock, count: int) -> None:
    with repository.lock():
        repository.load_index()
        tree = save_folder(repository, {"invoice": b"paid"})
        for _ in range(count):
            clock.advance(hours=1)
            commit(repository, tree)


def test_snapshots_are_read_several_at_once_and_each_once(
    rclone: S3Server, near: Repository, far: Far, clock: FakeClock
) -> None:
    keep_snapshots(near, clock, 3 * AHEAD)
    with FaultyProxy(rclone.address) as proxy:
        repository = far(proxy)
        proxy.let_pass_together("GET snapshots", AHEAD)
        assert len(repository.snapshots()) == 3 * AHEAD
        assert repository.snapshots() == sorted(near.snapshots(), key=lambda snapshot: snapshot.time)
        assert proxy.asked["GET snapshots"] == 3 * AHEAD


def test_index_files_and_packs_are_on_their_way_while_one_is_worked_on(
    rclone: S3Server, near: Repository, far: Far
) -> None:
    contents = [secrets.token_bytes(300_000) for _ in range(4)]
    for content in contents:
        back_up(near, {"scan": content})
    with FaultyProxy(rclone.address) as proxy:
        repository = far(proxy)
        proxy.let_pass_together("GET index", 4)
        index = repository.load_index()
        entries = (index.entry(record) for record in range(len(index)))
        names = [entry.id for entry in entries if entry.kind is BlobKind.DATA]
        proxy.let_pass_together("GET data", 2)
        assert sorted(content for _, content in repository.load_blobs(BlobKind.DATA, names)) == sorted(contents)
        assert proxy.asked["GET data"] == 4


def test_packs_are_sent_two_at_once(
    rclone: S3Server, near: Repository, far: Far, clock: FakeClock, tmp_path: Path
) -> None:
    (tmp_path / "film").write_bytes(secrets.token_bytes(36 << 20))  # two full packs, the rest, and one of trees
    with FaultyProxy(rclone.address) as proxy:
        repository = far(proxy)
        proxy.let_pass_together("PUT data", 2)
        source = FilesSource([str(tmp_path)])
        backup(repository, source, job="films", host="erp-1", clock=clock, workers=0)
        assert proxy.asked["PUT data"] == 4


def test_the_trees_of_many_folders_take_few_requests(
    rclone: S3Server, near: Repository, far: Far, clock: FakeClock, tmp_path: Path
) -> None:
    for number in range(40):
        folder = tmp_path / "documents" / f"{number % 5}" / f"{number}"
        folder.mkdir(parents=True)
        (folder / "invoice").write_bytes(b"paid %d" % number)
    source = [str(tmp_path / "documents")]
    with FaultyProxy(rclone.address) as proxy:
        backup(far(proxy), FilesSource(source), job="documents", host="erp-1", clock=clock, workers=0)
        assert proxy.asked["GET data"] == 0
        backup(far(proxy), FilesSource(source), job="documents", host="erp-1", clock=clock, workers=0)
        assert proxy.asked["GET data"] == 1, "the pack of trees, for 46 folders"
        repository = far(proxy)
        repository.load_index()
        plan = plan_restore(repository, repository.find_snapshot("latest"), tmp_path / "back")
        assert execute_restore(plan, repository, workers=0).problems == ()
        assert proxy.asked["GET data"] <= 5, "besides trees, one pack of small files"


@pytest.mark.campaign
def test_reading_from_far_away_takes_a_fraction_of_one_after_the_other(
    rclone: S3Server, near: Repository, far: Far, clock: FakeClock
) -> None:
    count, latency = 60, 0.2
    keep_snapshots(near, clock, count)
    with FaultyProxy(rclone.address, latency_seconds=latency) as proxy:
        repository = far(proxy)
        began = time.monotonic()
        assert len(repository.snapshots()) == count
        assert time.monotonic() - began < count * latency / 2
