"""A log's age is judged by the job's RPO; gaps, switches and what waits are told; snapshots of logs are no backups."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.forget import all_together, execute_forget, plan_forget
from backup.repository import Repository
from backup.storage.local import LocalStorage
from backup.wal.names import Segment, segment_name
from backup.wal.reading import Log
from backup.wal.writing import WalWriter
from config.jobs import KeepSettings
from config.settings import Settings
from keepwatch import bridge
from keepwatch.duties import duties_of
from keepwatch.metric_families import backup_families
from keepwatch.view import DutyView, JobView, View
from keepwatch.wal.status import WalStatus, together
from keepwatch.wal.tidying import tidy
from monitor.result import Result, Status
from tests.backup.repositories import FakeClock, commit, create, save_folder

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
JOB = "ledger"


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


BASED = DutyView("full", "local", "daily", NOW, ago(60), ago(60), 3 * 86400.0)
WELL = WalStatus(NOW, covered_until=ago(1), last_file="000000010000000000000007", files=7, timeline=1)
LEDGER = JobView(
    name=JOB, source="postgres", repositories=("local",), configured_at=ago(9999), rpo_seconds=300.0, rto_seconds=None,
    duties=(BASED,), running=None, last_run=None, last_backup=None, last_drill=None, newest_snapshot=None,
    log=WELL, keeps_log=True,
)  # fmt: skip


def judged(log: WalStatus | None) -> Result:
    found = bridge.results([replace(LEDGER, log=log)], [], {}, NOW)
    return next(result for result in found if result.check == f"log {JOB}")


def test_a_log_that_is_archived_is_well() -> None:
    assert judged(WELL).status is Status.OK


@pytest.mark.parametrize(
    ("log", "status", "said"),
    [
        (WELL.but(covered_until=ago(6)), Status.CRITICAL, "archived up to 6m ago, allowed 5m"),
        (WELL.but(covered_until=None), Status.CRITICAL, "allowed 5m"),
        (WELL.but(gap="00000001000000000000000A", gap_at=ago(30)), Status.CRITICAL, "00000001000000000000000A"),
        (WELL.but(spooled_files=3, spooled_bytes=3 << 24, problem="no route"), Status.WARNING, "spool: 3, 48 MiB"),
        (WELL.but(problem="user 7 is not among wal_users"), Status.WARNING, "user 7"),
        (WELL.but(switched_at=ago(30), timeline=2), Status.WARNING, "timeline 2"),
        (WELL.but(updated_at=ago(5)), Status.WARNING, "its receiver says nothing"),
        (None, Status.CRITICAL, "its receiver says nothing"),
    ],
)
def test_what_is_wrong_with_a_log_is_told(log: WalStatus | None, status: Status, said: str) -> None:
    result = judged(log)
    assert (result.status, said in result.message) == (status, True), result.message


def exported(job: JobView) -> dict[str, float]:
    page = "".join(backup_families(View("h", "0", NOW, NOW, "UTC", jobs=(job,))))
    found = re.findall(r'^keepwatch_log_(\w+)\{job="ledger"\} (\S+)$', page, re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_prometheus_is_told_what_its_rules_judge_a_log_by_from_the_first_day() -> None:
    gap = replace(LEDGER, log=WELL.but(gap="x", gap_at=ago(30)))
    assert exported(gap) == {
        "archived_timestamp_seconds": ago(1).timestamp(), "configured_timestamp_seconds": ago(9999).timestamp(),
        "max_age_seconds": 300, "gap": 1, "spooled_bytes": 0, "spooled_files": 0,
    }  # fmt: skip
    assert exported(replace(LEDGER, log=None, rpo_seconds=None)) == {
        "configured_timestamp_seconds": ago(9999).timestamp(), "max_age_seconds": 3600, "gap": 0,
    }  # fmt: skip


def test_a_base_backup_that_began_later_heals_gap_and_switch() -> None:
    assert judged(WELL.but(gap="x", gap_at=ago(90), switched_at=ago(80), timeline=2)).status is Status.OK


def test_a_job_without_a_log_has_no_such_check() -> None:
    assert not exported(replace(LEDGER, keeps_log=False))
    assert not [r for r in bridge.results([replace(LEDGER, keeps_log=False)], [], {}, NOW) if r.check == f"log {JOB}"]


def test_the_rpo_is_kept_by_the_log_and_not_by_base_backups() -> None:
    def limits(**source: str) -> set[timedelta | None]:
        settings = Settings.model_validate({
            "repositories": {"local": {"url": "/r", "password_file": "/p"}},
            "jobs": {JOB: {"source": {"type": "postgres", "dsn": "service=x", **source}, "repositories": ["local"],
                           "incremental": "every 1h", "rpo": "5m"}},
        })  # fmt: skip
        return {duty.max_age for duty in duties_of(settings, NOW, UTC) if duty.kind == "incremental"}

    assert limits() == {timedelta(minutes=5)}
    assert limits(wal="push") == {timedelta(hours=2, minutes=5)}


def test_a_group_stands_as_badly_as_the_worst_of_its_logs() -> None:
    behind = WELL.but(covered_until=ago(9), spooled_files=2, spooled_bytes=2 << 24, problem="no route")
    gapped = WELL.but(gap="binlog.000007", gap_at=ago(3))
    found = together({"office:books": behind, "office:ledger": gapped, "office:third": WELL})
    assert found is not None
    assert (found.covered_until, found.spooled_files, found.problem) == (ago(9), 2, "office:books: no route")
    assert (found.gap, found.gap_at) == ("office:ledger: binlog.000007", ago(3))
    assert together({"office:books": WELL, "office:ledger": None}) is None
    assert together({"ledger": WELL}) is WELL
    assert together({}) is None


# ---- snapshots that hold a log


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return create(LocalStorage(tmp_path / "repository"), FakeClock(NOW))


@pytest.fixture
def writer(repository: Repository) -> Iterator[WalWriter]:
    made = WalWriter(repository, JOB, "erp-1")
    yield made
    made.close()


def manifest(start: str) -> bytes:
    return (
        '{"format": 1, "kind": "postgres", "version": "15", "taken_at": "2026-03-10T12:00:00+00:00", "position": "0/0",'
        ' "size_bytes": 0, "tables": {}, "details": {"method": "physical", "timeline": 1,'
        f' "wal_segment_bytes": 16777216, "start_position": "{start}"}}}}'
    ).encode()


def base(repository: Repository, start: str) -> str:
    with repository.lock(load_index=True):
        tree = save_folder(repository, {JOB: {"manifest.json": manifest(start)}})
        return commit(repository, tree, tags=(f"job:{JOB}",), path=f"/{JOB}")


def store(repository: Repository, writer: WalWriter, *numbers: int) -> None:
    with repository.lock():
        for number in numbers:
            at = NOW + timedelta(minutes=number)
            writer.store(segment_name(Segment(1, number)), memoryview(bytes([number]) * 5000), at)


def test_latest_forget_and_their_likes_never_see_a_log(repository: Repository, writer: WalWriter) -> None:
    kept = base(repository, "0/3000028")
    store(repository, writer, 3, 4, 5)
    assert repository.find_snapshot("latest").id == kept
    with repository.lock(exclusive=True):
        plan = plan_forget(repository, KeepSettings(last=1), NOW + timedelta(days=9), group_by=all_together)
        assert [snapshot.id for snapshot in plan.kept] == [kept]
        assert execute_forget(repository, plan) == ()
    assert len(repository.snapshots()) == 4


def test_the_log_is_folded_by_base_backup_and_goes_with_the_oldest(repository: Repository, writer: WalWriter) -> None:
    first = base(repository, "0/3000028")
    store(repository, writer, 3, 4, 5)
    base(repository, "0/6000028")
    store(repository, writer, 6, 7, 8)
    with repository.lock(load_index=True):
        assert tidy(repository, JOB, "erp-1") == (5, 0)  # the newest stays single
    log = Log.of(repository.snapshots(), JOB)
    assert [segment.number for segment in log.segments] == [3, 4, 5, 6, 7, 8]
    assert len({holder.id for holder in log.files.values()}) == 3
    with repository.lock(exclusive=True):
        repository.delete_snapshots([first])
    with repository.lock(load_index=True):
        assert tidy(repository, JOB, "erp-1") == (0, 1)
    assert [segment.number for segment in Log.of(repository.snapshots(), JOB).segments] == [6, 7, 8]


def test_without_any_base_backup_nothing_of_the_log_goes(repository: Repository, writer: WalWriter) -> None:
    store(repository, writer, 3, 4, 5)
    with repository.lock(load_index=True):
        tidy(repository, JOB, "erp-1")
    assert [segment.number for segment in Log.of(repository.snapshots(), JOB).segments] == [3, 4, 5]
