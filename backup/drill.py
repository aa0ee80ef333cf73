"""The restore drill: proves that a snapshot comes back, and measures how long that takes.

It opens the repository as one would after a disaster, restores everything into a scratch folder under the clock, then
compares every byte and every field with the snapshot, and with what of the live source has not changed since. It
needs only to read the repository (and takes a lock where it may write one), and leaves nothing behind.

Verdicts: PASSED, everything came back as it was saved. FAILED, something did not, and is named. INCONCLUSIVE, nobody
can say: no room in scratch, the repository locked by somebody else. How long it took and how old the data are is
reported beside the verdict, each with whether the objective was met: bytes that come back too late are still proven
bytes, and being late is an alert of its own.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from backup.comparison import Compared, CompareFolders, ComparingBench
from backup.crew import Crew
from backup.errors import BackupError, Interrupted, RepositoryLocked, RestoreError, StorageError
from backup.faults import MISSING_INDEX, PLANTS, WRONG_PASSWORD, FaultyView, Planted, plant_in_index, plant_in_pack
from backup.pack import BlobKind
from backup.repository import Repository
from backup.restore_plan import RestorePlan, plan_restore
from backup.restorer import RestoreProgress, execute_restore
from backup.snapshot import Snapshot
from backup.sources.base import Problem
from backup.storage.base import Storage
from backup.tree import parse_tree
from config.units import format_duration, format_size

_COMPARE_FOLDERS = 32
_COMPARE_BYTES = 32 << 20
_PROBLEMS_KEPT = 100
_SPARE_BYTES = 64 << 20
"""Room that a drill leaves in scratch, so that it never fills the disk it measures on."""
_NO_ROOM = ("no space left on device", "disk quota exceeded")


class Verdict(StrEnum):
    """What a drill found."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class DrillProgress:
    """Where a drill is. ``phase``: ``restoring`` or ``comparing``."""

    phase: str
    files: int
    bytes: int
    files_expected: int
    bytes_expected: int


@dataclass(frozen=True, slots=True)
class DrillReport:
    """What a drill found and measured."""

    job: str
    snapshot_id: str
    """Empty when there was none to restore."""
    level: str
    verdict: Verdict
    started_at: datetime
    ended_at: datetime
    message: str
    """One line: what was compared, or what failed, by name."""
    hint: str = ""
    rto_seconds: float | None = None
    """From opening the repository to the last byte and its metadata; None when not everything came back."""
    rpo_seconds: float | None = None
    """Age of the data that came back, at the drill's start."""
    rto_met: bool | None = None
    """Whether the objective was met; None without an objective or a measurement."""
    rpo_met: bool | None = None
    files: int = 0
    bytes: int = 0
    compared: Compared = field(default_factory=Compared)
    problems: tuple[Problem, ...] = ()
    """What failed, the first hundred."""
    planted: str | None = None
    """The fault that was planted, and where."""
    plant_found: bool | None = None
    """Whether the drill named it; None when nothing was planted."""
    scratch: Path | None = None
    """Where the restored files still are, when they were to be kept."""

    def evidence(self) -> dict[str, object]:
        """What the journal keeps: plain values, enough to repeat the drill and to judge it."""
        compared = self.compared
        return {
            "job": self.job,
            "snapshot": self.snapshot_id,
            "level": self.level,
            "verdict": self.verdict.value,
            "started_at": self.started_at.isoformat(),
            "ended_at": self.ended_at.isoformat(),
            "message": self.message,
            "rto_seconds": self.rto_seconds,
            "rpo_seconds": self.rpo_seconds,
            "rto_met": self.rto_met,
            "rpo_met": self.rpo_met,
            "files": self.files,
            "bytes": self.bytes,
            "compared_entries": compared.entries,
            "compared_bytes": compared.bytes,
            "live_same": compared.live_same,
            "live_changed": compared.live_changed,
            "live_gone": compared.live_gone,
            "problems": [[problem.path, problem.reason] for problem in self.problems],
            "planted": self.planted,
            "plant_found": self.plant_found,
        }


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What the caller asked for."""

    password: str
    job: str
    snapshot: str
    scratch: Path
    clock: Callable[[], datetime]
    live_paths: Sequence[str]
    rto_objective: timedelta | None
    rpo_objective: timedelta | None
    scratch_budget_bytes: int | None
    progress: Callable[[DrillProgress], None] | None
    plant: str | None
    keep_scratch: bool
    workers: int | None
    stop: Callable[[], bool] | None
    lock_wait: timedelta


def run_drill(
    storage: Storage,
    password: str,
    *,
    job: str,
    scratch: Path,
    clock: Callable[[], datetime],
    snapshot: str = "latest",
    live_paths: Sequence[str] = (),
    rto_objective: timedelta | None = None,
    rpo_objective: timedelta | None = None,
    scratch_budget_bytes: int | None = None,
    progress: Callable[[DrillProgress], None] | None = None,
    plant: str | None = None,
    keep_scratch: bool = False,
    workers: int | None = None,
    stop: Callable[[], bool] | None = None,
    lock_wait: timedelta = timedelta(0),
) -> DrillReport:
    """Restore a snapshot of ``job`` (an id, a prefix, or ``latest``) below ``scratch``, compare, and report.

    ``live_paths`` are the source's paths where it lives on this machine. ``plant`` is one of :data:`PLANTS`. Whatever
    goes wrong with the restore is a verdict; raises only Interrupted when ``stop`` turned true, and ValueError for a
    fault that is not known.
    """
    if plant is not None and plant not in PLANTS:
        raise ValueError(f"unknown fault {plant!r}; known are {', '.join(PLANTS)}")
    wishes = _Wishes(
        password, job, snapshot, scratch, clock, live_paths, rto_objective, rpo_objective, scratch_budget_bytes,
        progress, plant, keep_scratch, workers, stop, lock_wait,
    )  # fmt: skip
    return _Drill(wishes, storage).run()


class _Drill:
    """One drill."""

    def __init__(self, wishes: _Wishes, storage: Storage) -> None:
        self._wishes = wishes
        self._view = FaultyView(storage) if wishes.plant else None
        self._storage: Storage = self._view or storage
        self._planted: Planted | None = None
        self._started = time.monotonic()
        self._planting_seconds = 0.0
        self._report = DrillReport(
            wishes.job, "", "restore", Verdict.INCONCLUSIVE, wishes.clock(), wishes.clock(), "it was not carried out"
        )

    def run(self) -> DrillReport:
        """Carry it out."""
        try:
            with self._scratch() as folder:
                self._carry_out(folder)
        except Interrupted:
            raise
        except RepositoryLocked as error:
            self._conclude(Verdict.INCONCLUSIVE, str(error), error.hint)
        except RestoreError as error:
            self._conclude(Verdict.INCONCLUSIVE, str(error), error.hint)
        except BackupError as error:
            self._conclude(Verdict.FAILED, str(error), error.hint)
        except OSError as error:
            reason = f"could not work in scratch {self._wishes.scratch}: {error.strerror or error}"
            self._conclude(Verdict.INCONCLUSIVE, reason, "look at the rights and the free space there")
        return self._judge_plant(replace(self._report, ended_at=self._wishes.clock()))

    def _carry_out(self, folder: Path) -> None:
        wishes = self._wishes
        self._started = time.monotonic()
        repository = self._open()
        with self._lock(repository):
            snapshot = repository.find_snapshot(wishes.snapshot, tags=self._tags())
            taken_at = snapshot.summary.backup_start if snapshot.summary else snapshot.time
            self._note(snapshot_id=snapshot.id, rpo_seconds=(self._report.started_at - taken_at).total_seconds())
            self._plant_before(repository, snapshot)
            repository.load_index()
            plan = plan_restore(repository, snapshot, folder)
            if lack := self._lacks_room(plan):
                self._conclude(Verdict.INCONCLUSIVE, lack, "free space there, or point drills to a larger disk")
                return
            self._plant_after(repository, plan)
            restored = execute_restore(
                plan, repository, progress=self._on_restore, workers=wishes.workers, stop=wishes.stop
            )
            took = time.monotonic() - self._started - self._planting_seconds
            self._note(files=restored.files, bytes=restored.bytes)
            if restored.problems:
                self._fail(restored.problems, "did not come back")
                return
            self._note(rto_seconds=took)
            compared = self._compare(repository, plan)
        self._note(compared=compared)
        if compared.mismatches:
            self._fail(tuple(compared.mismatches), "came back different")
        elif compared.unjudged:
            first = compared.unjudged[0]
            message = f"{len(compared.unjudged)} restored files cannot be read back, first {first.path}: {first.reason}"
            self._conclude(Verdict.INCONCLUSIVE, message, "run the drill as root")
        else:
            self._pass(plan, compared)

    # ---- steps

    def _open(self) -> Repository:
        password = self._wishes.password
        if self._wishes.plant == WRONG_PASSWORD:
            self._planted = Planted(WRONG_PASSWORD, "another password is used", "password")
            password += " is not it"
        return Repository.open(self._storage, password, clock=self._wishes.clock)

    @contextmanager
    def _lock(self, repository: Repository) -> Iterator[None]:
        """Lock where we may; a drill only reads, and may do so with credentials that cannot write."""
        try:
            lock = repository.lock(retry_for=self._wishes.lock_wait)
        except StorageError as error:
            if not error.permanent:
                raise
            yield
            return
        with lock:
            yield

    def _tags(self) -> list[str]:
        return [f"job:{self._wishes.job}"] if self._wishes.job else []

    def _plant_before(self, repository: Repository, snapshot: Snapshot) -> None:
        if self._view is not None and self._wishes.plant == MISSING_INDEX:
            with self._off_the_clock():
                self._planted = plant_in_index(self._view, repository, snapshot.tree)

    def _plant_after(self, repository: Repository, plan: RestorePlan) -> None:
        if self._view is None or self._wishes.plant in (MISSING_INDEX, WRONG_PASSWORD):
            return
        with self._off_the_clock():
            blobs = [blob for _, node in plan.big_files for blob in node.content or ()]
            for folder in plan.folders:
                if folder.leaves:
                    nodes = parse_tree(repository.load_blob(BlobKind.TREE, folder.tree))
                    blobs += [blob for place in folder.leaves for blob in nodes[place].content or ()]
            try:
                self._planted = plant_in_pack(self._view, self._wishes.plant or "", repository.index, blobs)
            except ValueError as error:
                raise RestoreError(f"could not plant a fault: {error}") from None

    @contextmanager
    def _off_the_clock(self) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._planting_seconds += time.monotonic() - started

    def _lacks_room(self, plan: RestorePlan) -> str:
        """Say what scratch lacks for this plan; empty when there is room."""
        needed = plan.bytes + 4096 * (plan.files + plan.folder_count)
        budget = self._wishes.scratch_budget_bytes
        if budget is not None and needed > budget:
            return f"the restore needs {format_size(needed)}, and the budget of scratch is {format_size(budget)}"
        room = os.statvfs(self._wishes.scratch)
        free = room.f_bavail * room.f_frsize
        if needed + _SPARE_BYTES > free:
            return f"the restore needs {format_size(needed)}, and {self._wishes.scratch} has {format_size(free)} free"
        if room.f_files and plan.files + plan.folder_count > room.f_favail:
            return f"the restore needs {plan.files} inodes, and {self._wishes.scratch} has {room.f_favail} free"
        return ""

    def _compare(self, repository: Repository, plan: RestorePlan) -> Compared:
        def make_bench() -> ComparingBench:
            return ComparingBench(repository, os.fspath(plan.target), self._wishes.live_paths)

        total = Compared()
        with closing(Crew[CompareFolders](make_bench, self._wishes.workers)) as crew:
            batch: list[tuple[bytes, bytes]] = []
            size = 0
            for folder in plan.folders:
                batch.append((folder.path, folder.tree))
                size += sum(folder.sizes)
                if len(batch) >= _COMPARE_FOLDERS or size >= _COMPARE_BYTES:
                    crew.submit(CompareFolders(tuple(batch)), None)
                    self._collect(crew, total, plan, block=False)
                    batch, size = [], 0
            if batch:
                crew.submit(CompareFolders(tuple(batch)), None)
            while crew.busy:
                self._collect(crew, total, plan, block=True)
        for first, other in plan.links:
            status, linked = (os.lstat(os.path.join(os.fsencode(plan.target), path)) for path in (first, other))
            if (status.st_ino, status.st_dev) != (linked.st_ino, linked.st_dev):
                reason = f"it is no hard link to {os.fsdecode(first)}"
                total.mismatches.append(Problem(os.fsdecode(other), reason))
        return total

    def _collect(self, crew: Crew[CompareFolders], total: Compared, plan: RestorePlan, *, block: bool) -> None:
        for _, result in crew.results(block=block):
            if isinstance(result, Compared):
                total.add(result)
        if self._wishes.stop is not None and self._wishes.stop():
            raise Interrupted("the drill was stopped")
        if self._wishes.progress is not None:
            expected = plan.files + plan.folder_count
            self._wishes.progress(DrillProgress("comparing", total.entries, total.bytes, expected, plan.bytes))

    def _on_restore(self, at: RestoreProgress) -> None:
        if self._wishes.progress is not None:
            self._wishes.progress(
                DrillProgress("restoring", at.files, at.bytes, at.files_expected, at.bytes_expected)
            )

    # ---- scratch

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """Lend an empty folder of our own; whatever a drill of this job that was killed left behind goes first."""
        scratch = self._wishes.scratch
        scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        prefix = f"drill-{self._wishes.job or 'any'}-"
        for leftover in scratch.glob(f"{prefix}????????"):
            remove_tree(leftover)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=scratch))
        kept = False
        try:
            yield folder
            if self._wishes.keep_scratch:
                stamp = f"{self._report.started_at:%Y%m%dT%H%M%S}"
                self._note(scratch=folder.rename(scratch / f"kept-{self._wishes.job or 'any'}-{stamp}"))
                kept = True
        finally:
            if not kept:
                remove_tree(folder)

    # ---- conclusions

    def _note(self, **fields: object) -> None:
        self._report = replace(self._report, **fields)  # type: ignore[arg-type]  # names of its own fields

    def _conclude(self, verdict: Verdict, message: str, hint: str) -> None:
        self._note(verdict=verdict, message=message, hint=hint)

    def _fail(self, problems: tuple[Problem, ...], what: str) -> None:
        first = problems[0]
        no_room = next((problem for problem in problems if problem.reason in _NO_ROOM), None)
        self._note(problems=problems[:_PROBLEMS_KEPT])
        if no_room is not None:
            message = f"scratch was full before everything came back: {no_room.path}: {no_room.reason}"
            self._conclude(Verdict.INCONCLUSIVE, message, "free space there, or point drills to a larger disk")
            return
        count = "1 file" if len(problems) == 1 else f"{len(problems)} files"
        message = f"{count} {what}, first {first.path}: {first.reason}"
        self._conclude(Verdict.FAILED, message, "run `keepwatch verify --read-data` for the whole extent")

    def _pass(self, plan: RestorePlan, compared: Compared) -> None:
        wishes, report = self._wishes, self._report
        rto_met = _met(report.rto_seconds, wishes.rto_objective)
        rpo_met = _met(report.rpo_seconds, wishes.rpo_objective)
        message = (
            f"{plan.files} files, {format_size(plan.bytes)} back in {format_duration(report.rto_seconds or 0)}, every"
            f" byte and field as saved; live source: {compared.live_same} unchanged files have the same bytes,"
            f" {compared.live_changed} changed since, {compared.live_gone} gone"
        )
        if rpo_met is False and wishes.rpo_objective is not None:
            age = format_duration(report.rpo_seconds or 0)
            message = f"too old: {age}, objective {format_duration(wishes.rpo_objective)}; {message}"
        if rto_met is False and wishes.rto_objective is not None:
            message = f"too slow: objective {format_duration(wishes.rto_objective)}; {message}"
        self._note(rto_met=rto_met, rpo_met=rpo_met)
        self._conclude(Verdict.PASSED, message, "")

    def _judge_plant(self, report: DrillReport) -> DrillReport:
        """A drill with a planted fault has to fail, and to name it."""
        if self._wishes.plant is None:
            return report
        if self._planted is None:
            return replace(report, planted=self._wishes.plant, plant_found=None)
        said = [report.message, *(problem.reason for problem in report.problems)]
        found = report.verdict is Verdict.FAILED and any(self._planted.trace in text for text in said)
        told = "was found" if found else "WAS NOT FOUND"
        message = f"the planted fault {told} ({self._planted.description}); {report.message}"
        return replace(report, planted=self._planted.description, plant_found=found, message=message)


def _met(seconds: float | None, objective: timedelta | None) -> bool | None:
    return None if seconds is None or objective is None else seconds <= objective.total_seconds()


def remove_tree(folder: Path) -> None:
    """Remove a restored tree, whatever modes it came with. Raises OSError when something stays."""
    if os.geteuid() != 0:
        for path, folders, _ in os.walk(folder):
            for below in (os.path.join(path, name) for name in folders):
                if not os.path.islink(below):
                    with suppress(OSError):
                        os.chmod(below, 0o700)
    shutil.rmtree(folder)
