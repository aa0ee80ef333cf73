import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from backup import restore_plan, restorer
from backup.archiver import backup
from backup.drills import comparison
from backup.drills import drill as drill_module
from backup.drills.drill import run_drill
from backup.drills.faults import IN_APPLICATION, MISSING_WAL, NO_SCRATCH, PLANTS
from backup.drills.report import DrillProgress, DrillReport, DrillWishes, Verdict
from backup.errors import Interrupted, StorageError
from backup.pack import BlobKind
from backup.repository import Repository
from backup.restore_plan import RestorePlan
from backup.restorer import execute_restore
from backup.sources.files import FilesSource
from backup.storage.base import FileKind
from backup.storage.local import LocalStorage
from tests.backup.repositories import PASSWORD, FakeClock, create
from tests.backup.trees import make_nasty_tree


@dataclass
class Office:
    """A saved folder, its repository on disk, and scratch."""

    root: Path
    clock: FakeClock
    repository: Repository

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    @property
    def storage(self) -> LocalStorage:
        return LocalStorage(self.root / "repository")

    def save(self) -> str:
        source = FilesSource((str(self.source),))
        return backup(self.repository, source, job="docs", host="h", clock=self.clock, workers=0).snapshot_id

    def drill(self, **wishes: object) -> DrillReport:
        wishes = {"live_paths": [str(self.source)], "workers": 0, "job": "docs"} | wishes
        asked = DrillWishes(scratch=self.scratch, clock=self.clock, **wishes)  # type: ignore[arg-type]
        return run_drill(self.storage, PASSWORD, asked)

    def files(self, kind: FileKind) -> list[Path]:
        folder = {FileKind.DATA: "data", FileKind.INDEX: "index", FileKind.SNAPSHOT: "snapshots"}[kind]
        return [path for path in (self.root / "repository" / folder).rglob("*") if path.is_file()]

    def data_packs(self) -> list[Path]:
        index = self.repository.load_index()
        entries = [index.entry(number) for number in range(len(index))]
        packs = {index.lookup(e.kind, e.id).pack for e in entries if e.kind is BlobKind.DATA}  # type: ignore[union-attr]
        return [path for path in self.files(FileKind.DATA) if path.name in packs]


@pytest.fixture
def office(tmp_path: Path, clock: FakeClock) -> Office:
    (tmp_path / "source" / "folder").mkdir(parents=True)
    (tmp_path / "source" / "a").write_bytes(b"alpha")
    (tmp_path / "source" / "folder" / "b").write_bytes(os.urandom(100_000))
    office = Office(tmp_path, clock, create(LocalStorage(tmp_path / "repository"), clock))
    office.save()
    clock.advance(minutes=90)
    return office


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


# ---- passing


def test_a_drill_of_everything_a_file_system_holds_passes(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "source").mkdir()
    make_nasty_tree(tmp_path / "source")
    office = Office(tmp_path, clock, create(LocalStorage(tmp_path / "repository"), clock))
    office.save()
    report = office.drill(workers=2)
    assert (report.verdict, report.problems) == (Verdict.PASSED, ())
    assert report.compared.entries > 100
    assert report.compared.live_same > 50
    assert list(office.scratch.iterdir()) == []


def test_a_passed_drill_measures_and_leaves_nothing_behind(office: Office) -> None:
    report = office.drill(rto_objective=timedelta(minutes=5), rpo_objective=timedelta(hours=2))
    assert (report.verdict, report.files, report.bytes) == (Verdict.PASSED, 2, 100_005)
    assert report.rto_seconds is not None
    assert 0 < report.rto_seconds < 60
    assert report.rpo_seconds == 90 * 60
    assert (report.rto_met, report.rpo_met) == (True, True)
    assert report.compared.live_same == 2
    assert "every byte and field as saved" in report.message
    assert list(office.scratch.iterdir()) == []
    assert list(office.storage.list(FileKind.LOCK)) == []


def test_data_that_come_back_late_or_old_pass_and_say_so(office: Office) -> None:
    report = office.drill(rto_objective=timedelta(0), rpo_objective=timedelta(hours=1))
    assert (report.verdict, report.rto_met, report.rpo_met) == (Verdict.PASSED, False, False)
    assert report.message.startswith("too slow: objective 0 ms; too old: 1h 30m, objective 1h;")


def test_the_age_is_that_of_the_data_that_came_back_not_of_the_last_run(office: Office) -> None:
    first = office.repository.snapshots()[0].id
    office.save()
    assert office.drill().rpo_seconds == 0
    assert office.drill(snapshot=first[:8]).rpo_seconds == 90 * 60


def test_files_that_changed_since_are_no_mismatch(office: Office) -> None:
    (office.source / "a").write_bytes(b"other")
    (office.source / "folder" / "b").unlink()
    report = office.drill()
    assert report.verdict is Verdict.PASSED
    assert (report.compared.live_same, report.compared.live_changed, report.compared.live_gone) == (0, 1, 1)


def test_live_files_outside_the_given_paths_are_not_looked_at(office: Office) -> None:
    report = office.drill(live_paths=[])
    assert (report.verdict, report.compared.live_same, report.compared.live_gone) == (Verdict.PASSED, 0, 0)


def test_only_snapshots_of_the_job_are_drilled(office: Office) -> None:
    report = office.drill(job="other")
    assert report.verdict is Verdict.FAILED
    assert "there is none that is tagged job:other" in report.message


def test_the_evidence_holds_plain_values(office: Office) -> None:
    evidence = office.drill().evidence()
    assert (evidence["verdict"], evidence["files"], evidence["live_same"]) == ("PASSED", 2, 2)
    assert all(isinstance(value, str | int | float | list | None) for value in evidence.values())


def test_progress_goes_through_both_phases(office: Office) -> None:
    told: list[DrillProgress] = []
    office.drill(progress=told.append)
    assert [at.phase for at in told] == sorted((at.phase for at in told), reverse=True)
    assert {at.phase for at in told} == {"restoring", "comparing"}
    assert told[-1].bytes == told[-1].bytes_expected == 100_005


def test_a_drill_needs_only_to_read(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("could not write: access denied", permanent=True)

    monkeypatch.setattr(LocalStorage, "put", refuse)
    assert office.drill().verdict is Verdict.PASSED


# ---- failing, on a repository that is really damaged


def test_a_flipped_bit_fails_the_drill_and_is_named(office: Office) -> None:
    (pack,) = office.data_packs()
    flip(pack, 40_000)
    report = office.drill()
    assert report.verdict is Verdict.FAILED
    (problem,) = report.problems
    assert problem.path == f"{str(office.source)[1:]}/folder/b"
    assert pack.name[:8] in problem.reason
    assert pack.name[:8] in report.message
    assert report.rto_seconds is None
    assert list(office.scratch.iterdir()) == []


def test_a_missing_pack_fails_the_drill_and_is_named(office: Office) -> None:
    (pack,) = office.data_packs()
    pack.unlink()
    report = office.drill()
    assert report.verdict is Verdict.FAILED
    assert len(report.problems) == 2
    assert pack.name[:8] in report.message


@pytest.mark.parametrize("kind", [FileKind.INDEX, FileKind.SNAPSHOT])
def test_a_missing_index_or_snapshot_fails_the_drill(office: Office, kind: FileKind) -> None:
    for path in office.files(kind):
        path.unlink()
    report = office.drill()
    assert report.verdict is Verdict.FAILED
    assert report.message


def test_a_repository_that_is_not_there_fails_the_drill(office: Office) -> None:
    (office.root / "repository" / "config").unlink()
    assert office.drill().verdict is Verdict.FAILED


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("what", ["byte", "shorter", "mode", "time", "extra", "missing", "link", "attribute"])
def test_whatever_a_restore_got_wrong_is_seen(
    office: Office, monkeypatch: pytest.MonkeyPatch, what: str, big: bool
) -> None:
    monkeypatch.setattr(restore_plan, "BIG_FILE_BYTES", 1 if big else 1 << 40)
    monkeypatch.setattr(comparison, "_COMPARE_BYTES", 1)
    os.link(office.source / "a", office.source / "linked")
    os.setxattr(office.source / "folder", "user.note", b"x")
    office.clock.advance(minutes=1)
    office.save()

    def botched(plan: RestorePlan, *arguments: object, **wishes: object) -> restorer.RestoreReport:
        report = execute_restore(plan, *arguments, **wishes)  # type: ignore[arg-type]
        root = plan.target / str(office.source)[1:]
        target = root / "folder" / "b"
        status = target.stat()
        if what == "byte":
            flip(target, 99_999)
            target.chmod(status.st_mode)
            os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
        elif what == "shorter":
            os.truncate(target, 50_000)
        elif what == "mode":
            target.chmod(0o777)
        elif what == "time":
            os.utime(target, ns=(0, status.st_mtime_ns + 1))
        elif what == "extra":
            (root / "folder" / "extra").write_text("x")
        elif what == "missing":
            target.unlink()
        elif what == "link":
            copy = (root / "linked").read_bytes()
            a = (root / "a").stat()
            (root / "linked").unlink()
            (root / "linked").write_bytes(copy)
            (root / "linked").chmod(a.st_mode)
            os.utime(root / "linked", ns=(a.st_mtime_ns, a.st_mtime_ns))
        else:
            os.removexattr(root / "folder", "user.note")
        return report

    monkeypatch.setattr(drill_module, "execute_restore", botched)
    report = office.drill()
    assert report.verdict is Verdict.FAILED
    named = {
        "byte": "are not blob", "shorter": "its size is 50000 instead of",
        "mode": "its mode is 0777", "time": "modification time", "extra": "does not have it",
        "missing": "it is not there", "link": "no hard link to", "attribute": "attribute user.note differs",
    }  # fmt: skip
    assert any(named[what] in problem.reason for problem in report.problems)
    assert len({problem.path for problem in report.problems}) == len(report.problems)


def test_a_live_file_with_other_bytes_behind_unchanged_times_is_seen(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    (office.source / "a").write_bytes(b"ALPHA")
    monkeypatch.setattr(comparison, "_is_as_saved", lambda *_: True)  # nobody can set a ctime
    report = office.drill()
    assert report.verdict is Verdict.FAILED
    assert "same size and times as the snapshot, and other bytes" in report.message


# ---- nobody can say


def test_no_room_in_scratch_is_inconclusive(office: Office) -> None:
    report = office.drill(scratch_budget_bytes=100_000)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "the budget of scratch is 97.7 KiB" in report.message
    assert report.rto_seconds is None


def test_a_full_scratch_disk_is_inconclusive(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs

    def nearly_full(path: object) -> os.statvfs_result:
        fields = list(real(path))  # type: ignore[call-overload]
        fields[4] = 3
        return os.statvfs_result(fields)

    monkeypatch.setattr(drill_module.os, "statvfs", nearly_full)
    report = office.drill()
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "free" in report.message


def test_scratch_that_fills_up_on_the_way_is_inconclusive(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("backup.restoring.write_at", full)
    report = office.drill()
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "scratch was full" in report.message


def test_a_locked_repository_is_inconclusive(office: Office) -> None:
    with office.repository.lock(exclusive=True):
        report = office.drill()
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "lock" in report.message


def test_scratch_that_cannot_be_made_is_inconclusive(office: Office) -> None:
    office.scratch.write_text("a file is in the way")
    assert office.drill().verdict is Verdict.INCONCLUSIVE


# ---- planted faults


@pytest.mark.parametrize("fault", sorted({*PLANTS} - {*IN_APPLICATION, MISSING_WAL}))
def test_every_planted_fault_is_found_and_the_repository_stays_sound(office: Office, fault: str) -> None:
    report = office.drill(plant=fault, stale_after=timedelta(days=7))
    verdict = Verdict.INCONCLUSIVE if fault == NO_SCRATCH else Verdict.FAILED
    assert (report.verdict, report.plant_found) == (verdict, True)
    assert report.message.startswith("the planted fault was found")
    assert report.planted
    assert office.drill().verdict is Verdict.PASSED


def test_a_planted_fault_that_is_not_found_is_told(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backup.drills.faults.FaultyView.change", lambda *_: None)
    report = office.drill(plant="flipped-bit")
    assert (report.verdict, report.plant_found) == (Verdict.PASSED, False)
    assert report.message.startswith("the planted fault WAS NOT FOUND")


@pytest.mark.parametrize("fault", sorted({*IN_APPLICATION, MISSING_WAL}))
def test_a_drill_that_never_comes_to_its_planted_fault_has_not_passed(office: Office, fault: str) -> None:
    report = office.drill(plant=fault)
    assert (report.verdict, report.plant_found) == (Verdict.INCONCLUSIVE, None)
    assert (f"{fault} was not planted" in report.message, "--level" in report.hint) == (True, True)


def test_a_drill_that_fails_for_another_reason_did_not_find_the_planted_fault(office: Office) -> None:
    for path in office.files(FileKind.SNAPSHOT):
        path.unlink()
    report = office.drill(plant="missing-pack")
    assert (report.verdict, report.plant_found) == (Verdict.FAILED, None)


def test_an_unknown_fault_is_refused(office: Office) -> None:
    with pytest.raises(ValueError, match="known are flipped-bit"):
        office.drill(plant="gremlins")


# ---- scratch


def test_the_restored_files_are_kept_on_request(office: Office) -> None:
    report = office.drill(keep_scratch=True)
    assert report.scratch is not None
    assert (report.scratch / str(office.source)[1:] / "a").read_bytes() == b"alpha"
    assert report.scratch.parent == office.scratch


def test_what_a_killed_drill_left_behind_goes_first(office: Office) -> None:
    (office.scratch / "drill-docs-abcd1234" / "folder").mkdir(parents=True)
    (office.scratch / "drill-other-abcd1234").mkdir()
    office.drill()
    assert [path.name for path in office.scratch.iterdir()] == ["drill-other-abcd1234"]


@pytest.mark.parametrize("asked", [1, 2])
def test_a_drill_can_be_stopped_and_leaves_nothing_behind(office: Office, asked: int) -> None:
    left = [False] * (asked - 1) + [True] * 9
    stop: Callable[[], bool] = lambda: left.pop(0)  # noqa: E731
    with pytest.raises(Interrupted):
        office.drill(stop=stop)
    assert list(office.scratch.iterdir()) == []
