"""The restore drill: proves that a snapshot comes back, and measures how long that takes.

It opens the repository as one would after a disaster and climbs as far as its level says: the snapshot's structure, its
packs, a sample, everything restored into a scratch folder under the clock and compared byte by byte and field by field
with the snapshot and with what of the live source has not changed since, the application started on it, or replayed to
a moment. It needs only to read the repository (and takes a lock where it may write one), and leaves nothing behind.

Verdicts: PASSED, everything came back as it was saved. FAILED, something did not, and is named. INCONCLUSIVE, nobody
can say: no room in scratch, a program missing, the repository locked by somebody else. How long it took and how old the
data are is reported beside the verdict, each with whether the objective was met: bytes that come back too late are
still proven bytes, and being late is an alert of its own.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from backup.applications import memory
from backup.applications.base import RecoveryTarget
from backup.applications.together import goals
from backup.drills.bringing_up import Outcome, bring_up, run_commands
from backup.drills.comparison import Compared, compare_restored
from backup.drills.levels import RUNS_APPLICATION, WHOLE, Level
from backup.drills.planting import Planting
from backup.drills.report import RANDOM_MOMENT, DrillProgress, DrillReport, DrillWishes, Verdict, describe_target
from backup.drills.sampling import choose_moment, choose_snapshot, sample
from backup.drills.staleness import unchanged_since
from backup.errors import BackupError, Interrupted, LogIncomplete, RepositoryLocked, RestoreError, StorageError
from backup.proofs import PackProof
from backup.repository import Repository
from backup.restore_plan import RestorePlan, plan_restore
from backup.restorer import RestoreProgress, execute_restore
from backup.snapshot import Snapshot
from backup.sources.base import Problem
from backup.storage.base import Storage
from backup.verify import Severity, verify
from config.said import Said, chained, numbered
from config.units import format_duration, format_size

_PROBLEMS_KEPT = 100
_SPARE_BYTES = 64 << 20
"""Room that a drill leaves in scratch, so that it never fills the disk it measures on."""
_NO_ROOM = ("no space left on device", "disk quota exceeded")
_APPLICATION_SECONDS = 3600.0
_DEEPER = "run `keepwatch verify --read-data` for the whole extent"


class _Over(Exception):  # noqa: N818 - no error
    """The verdict stands; what is left of the drill need not be done."""


def run_drill(storage: Storage, password: str, wishes: DrillWishes) -> DrillReport:
    """Drill a snapshot as ``wishes`` say, and report.

    Whatever goes wrong with the restore is a verdict; raises only Interrupted when ``stop`` turned true, and ValueError
    for a fault that is not known.
    """
    return _Drill(storage, password, wishes).run()


class _Drill:
    """One drill."""

    def __init__(self, storage: Storage, password: str, wishes: DrillWishes) -> None:
        self._wishes = wishes
        self._planting = Planting(wishes.plant, storage, password)
        self._began = time.monotonic()
        self._off_clock_seconds = 0.0
        now = wishes.clock()
        self._report = DrillReport(
            wishes.job, "", wishes.level, Verdict.INCONCLUSIVE, now, now, "it was not carried out",
            chosen=wishes.snapshot, seed=wishes.seed,
        )  # fmt: skip

    def run(self) -> DrillReport:
        """Carry it out."""
        try:
            with self._scratch() as folder, suppress(_Over):
                self._climb(folder)
        except Interrupted as error:
            if not self._is_late:
                raise
            limit = format_duration(self._wishes.timeout_seconds or 0)
            self._conclude(Verdict.INCONCLUSIVE, f"it took longer than {limit}", error.hint)
        except LogIncomplete as error:
            self._conclude(Verdict.FAILED, str(error), error.hint)
        except (RepositoryLocked, RestoreError) as error:
            self._conclude(Verdict.INCONCLUSIVE, str(error), error.hint)
        except BackupError as error:
            self._conclude(Verdict.FAILED, str(error), error.hint)
        except OSError as error:
            reason = f"could not work in scratch {self._wishes.scratch}: {error.strerror or error}"
            self._conclude(Verdict.INCONCLUSIVE, reason, "look at the rights and the free space there")
        return self._planting.judge(replace(self._report, ended_at=self._wishes.clock()))

    def _climb(self, folder: Path) -> None:
        wishes = self._wishes
        self._began = time.monotonic()
        repository = Repository.open(self._planting.storage, self._planting.password, clock=wishes.clock)
        with self._lock(repository):
            tags = [f"job:{wishes.job}"] if wishes.job else []
            snapshot = choose_snapshot(repository, wishes.snapshot, tags, wishes.seed)
            taken_at = snapshot.summary.backup_start if snapshot.summary else snapshot.time
            self._note(snapshot_id=snapshot.id, rpo_seconds=(self._report.started_at - taken_at).total_seconds())
            with self._off_the_clock():
                self._planting.before_index(repository, snapshot)
            if wishes.level in (Level.METADATA, Level.READ):
                self._verify(repository, snapshot)
                return
            repository.load_index()
            plan = self._restore(repository, snapshot, folder)
            compared = self._compare(repository, plan)
            self._judge_staleness(repository, snapshot)
            with memory.bounded(wishes.memory_limit_bytes):
                proofs = self._bring_up(repository, snapshot, plan.target) if wishes.level in RUNS_APPLICATION else []
        self._pass(plan, compared, proofs)

    # ---- rungs

    def _verify(self, repository: Repository, snapshot: Snapshot) -> None:
        """Metadata, and with level ``read`` the packs."""
        choose = None
        if self._wishes.level is Level.READ:
            choose = self._wishes.choose or (lambda packs: packs.keys())
        self._planting.before_verify(repository, snapshot)
        found = list(verify(repository, choose=choose, on_pack=self._on_pack, only=snapshot))
        errors = [finding for finding in found if finding.severity is Severity.ERROR]
        if errors:
            problems = tuple(Problem(error.subject, error.message) for error in errors)
            self._fail(problems, "%(count)s thing is wrong", "%(count)s things are wrong")
        summary = snapshot.summary
        count = summary.total_files_processed if summary else 0
        files = numbered(count, "%(count)s file", "%(count)s files") if summary else Said("all trees")
        said: list[str] = [Said("the structure of %(files)s is whole", files=files)]
        if choose:
            packs = numbered(self._report.packs_read, "%(count)s pack", "%(count)s packs")
            said.append(Said("%(packs)s read and proven", packs=packs))
        self._note(files=count)
        self._conclude(Verdict.PASSED, chained([*said, *self._lateness()]), "")

    def _restore(self, repository: Repository, snapshot: Snapshot, folder: Path) -> RestorePlan:
        wishes = self._wishes
        plan = plan_restore(repository, snapshot, folder, include=self._planting.include)
        if not plan.files:
            hint = "is a disk not mounted, or another folder meant? `keepwatch snapshots` tells when it last had files"
            self._conclude(Verdict.FAILED, Said("the snapshot is empty: no file is in it"), hint)
            raise _Over
        if wishes.level is Level.SAMPLE:
            plan = sample(plan, wishes.sample_share, wishes.seed)
        if lack := self._lacks_room(plan):
            self._conclude(Verdict.INCONCLUSIVE, lack, "free space there, or point drills to a larger disk")
            raise _Over
        with self._off_the_clock():
            self._planting.before_restore(repository, plan)
        restored = execute_restore(
            plan, repository, progress=self._on_restore, workers=wishes.workers, stop=self._stopped, read_next=True
        )
        took = self._clocked_seconds()
        self._note(files=restored.files, bytes=restored.bytes)
        if restored.problems:
            self._fail(restored.problems, "%(count)s file did not come back", "%(count)s files did not come back")
        if wishes.level in WHOLE:
            self._note(rto_seconds=took)
        return plan

    def _compare(self, repository: Repository, plan: RestorePlan) -> Compared:
        whole = self._wishes.level not in RUNS_APPLICATION
        if whole:
            self._planting.before_compare(plan)
        with self._off_the_clock():
            compared = compare_restored(
                repository, plan, self._wishes.live_paths, sampled=self._wishes.level is Level.SAMPLE,
                workers=self._wishes.workers, breathe=lambda total: self._breathe("comparing", total, plan),
            )  # fmt: skip
        self._note(compared=compared)
        if compared.mismatches:
            mismatches = tuple(compared.mismatches)
            self._fail(mismatches, "%(count)s file came back different", "%(count)s files came back different")
        if compared.unjudged:
            first = compared.unjudged[0]
            message = Said(
                "%(count)s restored files cannot be read back, first %(path)s: %(why)s",
                count=len(compared.unjudged), path=first.path, why=first.reason,
            )  # fmt: skip
            self._conclude(Verdict.INCONCLUSIVE, message, "run the drill as root")
            raise _Over
        if not whole:
            self._planting.before_compare(plan)  # what bytes cannot show is for the application to find
        return compared

    def _judge_staleness(self, repository: Repository, snapshot: Snapshot) -> None:
        limit = self._wishes.stale_after
        if limit is None:
            return
        with self._off_the_clock():
            since = unchanged_since(repository, snapshot, limit, pretend=self._planting.pretends_staleness)
        if since is not None:
            message = Said(
                "the source has not changed for %(time)s: the data are those of %(day)s UTC",
                time=format_duration(snapshot.time - since), day=f"{since:%Y-%m-%d %H:%M}",
            )  # fmt: skip
            self._conclude(Verdict.FAILED, message, "is the job still pointed at the live data?")
            raise _Over

    def _bring_up(self, repository: Repository, snapshot: Snapshot, target: Path) -> list[str]:
        """Run each application on its folder; gives what was proven."""
        wishes, proofs = self._wishes, list[str]()
        outcomes = []
        folders = {target / path.lstrip("/"): application for path, application in wishes.applications.items()}
        with self._off_the_clock():
            targets = self._targets(repository, snapshot, target)
            self._planting.before_recovery(repository, folders)
        for folder, application in folders.items():
            with tempfile.TemporaryDirectory(prefix="run-", dir=target.parent) as workspace:
                outcome = bring_up(
                    application, repository, folder, workspace=Path(workspace), target=targets[folder.name],
                    assertions=[a for a in wishes.assertions if a.member in ("", folder.name)],
                    clock=wishes.clock, timeout_seconds=wishes.timeout_seconds or _APPLICATION_SECONDS,
                    plant=self._planting.in_application if targets[folder.name] is None else None, tell=self._tell,
                )  # fmt: skip
            self._planting.done_in_application(outcome.planted)
            outcomes.append(outcome)
            self._note(rto_seconds=(self._report.rto_seconds or 0) + outcome.recovering_seconds)
            if outcome.reached_at is not None:
                age = (self._report.started_at - outcome.reached_at).total_seconds()
                self._note(rpo_seconds=max(0.0, age))
        if not wishes.applications:
            outcomes.append(run_commands(wishes.assertions, target))
        for outcome in outcomes:
            self._judge_application(outcome)
            proofs += outcome.proofs
        self._note(proofs=tuple(proofs))
        if not proofs:
            message = Said("the job has no application and no assertion that could be judged")
            self._conclude(Verdict.INCONCLUSIVE, message, "give the drill an `assert`, or the level `restore`")
            raise _Over
        return proofs

    def _targets(self, repository: Repository, snapshot: Snapshot, restored: Path) -> dict[str, RecoveryTarget | None]:
        """Say where to recover each application to, by its folder's name: one moment for all that can reach it; None
        for those that run as the snapshot has them.
        """
        wishes, until = self._wishes, self._wishes.until
        applications = {path.lstrip("/"): application for path, application in wishes.applications.items()}
        if wishes.level is not Level.POINT_IN_TIME:
            return dict.fromkeys(applications)
        if until == RANDOM_MOMENT:
            until = self._random_moment(repository, snapshot, restored)
        if isinstance(until, str):
            raise ValueError(f"unknown moment {until!r}")
        if len(applications) < 2:
            self._note(until=describe_target(until))
            return dict.fromkeys(applications, until)
        there = goals(repository, applications, restored, dict.fromkeys(applications, snapshot.time), until)
        stay = ", ".join(sorted(name for name, goal in there.items() if not goal.by_log))
        self._note(until=describe_target(until) + (f", but {stay} as of the snapshot" if stay else ""))
        return {name: goal.target if goal.by_log else None for name, goal in there.items()}

    def _random_moment(self, repository: Repository, snapshot: Snapshot, restored: Path) -> RecoveryTarget:
        """Choose a moment between the snapshot and the last record; of several logs the one that ends first counts."""
        logs = [of.records(repository, restored / path.lstrip("/")) for path, of in self._wishes.applications.items()]
        ends = [records[-1].stored_at for records in logs if records]
        if not ends:
            raise RestoreError(
                "could not recover to a moment: no log records follow this snapshot",
                hint="archive them (`keepwatch wal push`), or drill at the level `application`",
            )
        first = snapshot.summary.backup_end if snapshot.summary else snapshot.time
        return RecoveryTarget(moment=choose_moment(first, min(ends), self._wishes.seed))

    def _judge_application(self, outcome: Outcome) -> None:
        if outcome.failures:
            problems = tuple(Problem(path, reason) for path, reason in outcome.failures)
            hint = "`keepwatch drill log` has the evidence"
            one, many = "%(count)s thing is not as it was saved", "%(count)s things are not as they were saved"
            self._fail(problems, one, many, hint=hint)

    # ---- in between

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

    @contextmanager
    def _off_the_clock(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._off_clock_seconds += time.monotonic() - began

    def _clocked_seconds(self) -> float:
        return time.monotonic() - self._began - self._off_clock_seconds

    @property
    def _is_late(self) -> bool:
        limit = self._wishes.timeout_seconds
        return limit is not None and time.monotonic() - self._began > limit

    def _stopped(self) -> bool:
        return self._is_late or (self._wishes.stop is not None and self._wishes.stop())

    def _breathe(self, phase: str, total: Compared, plan: RestorePlan) -> None:
        if self._stopped():
            raise Interrupted("the drill was stopped")
        expected = plan.files + plan.folder_count
        self._tell(phase, total.entries, total.bytes, expected, plan.bytes)

    def _tell(self, phase: str, *counts: int) -> None:
        if self._wishes.progress is not None:
            self._wishes.progress(DrillProgress(phase, *counts))

    def _on_restore(self, at: RestoreProgress) -> None:
        self._tell("restoring", at.files, at.bytes, at.files_expected, at.bytes_expected)

    def _on_pack(self, proof: PackProof) -> None:
        self._wishes.on_pack(proof)
        self._note(packs_read=self._report.packs_read + 1, bytes=self._report.bytes + proof.size)
        if self._stopped():
            raise Interrupted("the drill was stopped")
        self._tell("reading", self._report.packs_read, self._report.bytes)

    def _lacks_room(self, plan: RestorePlan) -> str:
        """Say what scratch lacks for this plan; empty when there is room."""
        needed = plan.bytes + 4096 * (plan.files + plan.folder_count)
        budget = self._planting.budget(self._wishes.scratch_budget_bytes)
        if budget is not None and needed > budget:
            return f"the restore needs {format_size(needed)}, and the budget of scratch is {format_size(budget)}"
        room = os.statvfs(self._wishes.scratch)
        free = room.f_bavail * room.f_frsize
        if needed + _SPARE_BYTES > free:
            return f"the restore needs {format_size(needed)}, and {self._wishes.scratch} has {format_size(free)} free"
        if room.f_files and plan.files + plan.folder_count > room.f_favail:
            return f"the restore needs {plan.files} inodes, and {self._wishes.scratch} has {room.f_favail} free"
        return ""

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """Lend an empty folder of our own; whatever a drill of this job that was killed left behind goes first."""
        scratch = self._wishes.scratch
        scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        prefix = f"drill-{self._wishes.job or 'any'}-"
        for leftover in scratch.glob(f"{prefix}????????"):
            remove_tree(leftover)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=scratch))
        restored = folder / "restored"
        restored.mkdir(mode=0o700)
        kept = False
        try:
            yield restored
            if self._wishes.keep_scratch:
                stamp = f"{self._report.started_at:%Y%m%dT%H%M%S}"
                self._note(scratch=restored.rename(scratch / f"kept-{self._wishes.job or 'any'}-{stamp}"))
                kept = True
        finally:
            if not kept or folder.exists():
                remove_tree(folder)

    # ---- conclusions

    def _note(self, **fields: object) -> None:
        self._report = replace(self._report, **fields)  # type: ignore[arg-type]  # names of its own fields

    def _conclude(self, verdict: Verdict, message: str, hint: str | None) -> None:
        self._note(verdict=verdict, message=message, hint=hint or "")

    def _fail(self, problems: tuple[Problem, ...], one: str, many: str, *, hint: str = _DEEPER) -> None:
        """Conclude that something failed, and end; ``one`` or ``many`` say what is so of how many."""
        first = problems[0]
        no_room = next((problem for problem in problems if problem.reason in _NO_ROOM), None)
        self._note(problems=problems[:_PROBLEMS_KEPT])
        if no_room is not None:
            text = "scratch was full before everything came back: %(path)s: %(why)s"
            message = Said(text, path=no_room.path, why=no_room.reason)
            self._conclude(Verdict.INCONCLUSIVE, message, "free space there, or point drills to a larger disk")
            raise _Over
        what = numbered(len(problems), one, many)
        message = Said("%(what)s, first %(path)s: %(why)s", what=what, path=first.path, why=first.reason)
        self._conclude(Verdict.FAILED, message, hint)
        raise _Over

    def _pass(self, plan: RestorePlan, compared: Compared, proofs: list[str]) -> None:
        took = self._report.rto_seconds
        files = numbered(plan.files, "%(count)s file", "%(count)s files")
        back = Said("back in %(time)s", time=format_duration(took)) if took is not None else Said("back")
        text = "%(files)s, %(size)s %(back)s, every byte and field as saved"
        came = Said(text, files=files, size=format_size(plan.bytes), back=back)
        same = numbered(compared.live_same, "%(count)s unchanged file", "%(count)s unchanged files")
        text = "live source: %(same)s with the same bytes, %(changed)s changed since, %(gone)s gone"
        live = Said(text, same=same, changed=compared.live_changed, gone=compared.live_gone)
        if self._wishes.level is Level.SAMPLE:
            came = Said("a sample: %(what)s", what=came)
        self._conclude(Verdict.PASSED, chained([*self._lateness(), came, live, *proofs]), "")

    def _lateness(self) -> list[str]:
        """Note whether the objectives were met, and say what was not."""
        wishes, report = self._wishes, self._report
        rto_met = _met(report.rto_seconds, wishes.rto_objective)
        rpo_met = _met(report.rpo_seconds, wishes.rpo_objective)
        self._note(rto_met=rto_met, rpo_met=rpo_met)
        said: list[str] = []
        if rto_met is False and wishes.rto_objective is not None:
            said.append(Said("too slow: objective %(time)s", time=format_duration(wishes.rto_objective)))
        if rpo_met is False and wishes.rpo_objective is not None:
            age = format_duration(report.rpo_seconds or 0)
            objective = format_duration(wishes.rpo_objective)
            said.append(Said("too old: %(age)s, objective %(time)s", age=age, time=objective))
        return said


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
