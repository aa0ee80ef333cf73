"""What a run does, from lock to ledger: the same code in a job child, and in the foreground of the command line.

Each kind of run is one function that returns an Ending. Whatever happens, the ledger gets an end and ``after`` hooks
run; a user's error becomes a failed run with a hint, a bug one with a traceback in the log.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from backup.archiver import backup
from backup.catalog import Catalog, DrillRow, SnapshotRow
from backup.drill import DrillReport, Verdict, run_drill
from backup.errors import BackupError, Interrupted
from backup.forget import all_together, execute_forget, plan_forget
from backup.journal import Journal
from backup.pack_memory import PackMemory
from backup.prune import execute_prune, plan_prune
from backup.repository import Repository
from backup.retaining import extend_retention
from backup.snapshot import Snapshot
from backup.storage.base import FileKind
from backup.storage.open import open_configured
from config.secrets import SecretError, read_password
from config.settings import Settings
from config.units import format_duration, format_size
from keepwatch import hooks
from keepwatch.errors import KeepwatchError
from keepwatch.guarding import Guard, HeldByGuard, note_tagged, require_agreement
from keepwatch.orders import Ending, Order, Progress
from keepwatch.sharing import Shared, copy_from_earlier
from keepwatch.state import StateDirectory
from keepwatch.verifying import portion_of, verify_and_remember
from keepwatch.work import LOCK_WAIT, Work

log = logging.getLogger(__name__)

_LINES_KEPT = 20


def carry_out(
    order: Order,
    settings: Settings,
    state: StateDirectory,
    *,
    clock: Callable[[], datetime],
    progress: Callable[[Progress], None],
    stop: threading.Event,
    is_paused: Callable[[], bool] = lambda: False,
) -> Ending:
    """Do what the order says and record it; an order without a ``run_id`` gets its row here.

    ``is_paused`` is asked, in the calling thread, wherever the run may pause; it waits there until it turns false.
    Raises AlreadyRunning when the same job (or repository duty) is at work elsewhere and no row was written yet.
    """
    name = f"job-{order.job}" if order.job else f"repository-{order.repository}"
    what = f"a run of job {order.job}" if order.job else f"work on repository {order.repository}"
    with Catalog(state.backup_db) as catalog:
        try:
            with state.lock(name, what=what):
                if not order.run_id:
                    run_id = catalog.start_run(*_ledger_key(order), now=clock(), pid=os.getpid())
                    order = replace(order, run_id=run_id)
                work = Work(order, settings, state, catalog, clock, progress, stop, is_paused)
                ending = _guarded(work)
                _record(work, ending)
        except KeepwatchError as error:
            if not order.run_id:
                raise
            ending = Ending("failed", str(error), error.hint or "", error.exit_code)
            catalog.end_run(order.run_id, "failed", str(error), now=clock())
        return ending


def _guarded(work: Work) -> Ending:
    try:
        return _KINDS[work.order.kind](work)
    except Interrupted as error:
        return Ending("interrupted", str(error) or "asked to stop", exit_code=130)
    except HeldByGuard as error:
        return Ending("held", str(error), error.hint or "", 1)
    except (BackupError, SecretError, KeepwatchError) as error:
        return Ending("failed", str(error), error.hint or "", getattr(error, "exit_code", 1))
    except Exception as bug:
        log.exception("run failed by a bug", extra={"job": work.order.job, "kind": work.order.kind})
        return Ending("failed", f"{type(bug).__name__}: {bug}", "this is a bug; the log has its traceback", 1)


def _record(work: Work, ending: Ending) -> None:
    work.catalog.end_run(
        work.order.run_id, ending.outcome, ending.message, now=work.clock(), snapshot=ending.snapshot,
        figures=ending.figures, data_at=ending.data_at,
    )  # fmt: skip
    fields = {"kind": work.order.kind, "job": work.order.job, "outcome": ending.outcome, "hint": ending.hint}
    log.debug("run recorded", extra=fields)


def _backup(work: Work) -> Ending:
    shared = copy_from_earlier(work)
    return _read_source(work) if shared is None else _copied(work, shared)


def _copied(work: Work, shared: Shared) -> Ending:
    """Turn a copy into an ending: figures as of the run that read, but for what was stored here."""
    remember(shared.target, work.order.repository, work.catalog, work.clock)
    snapshot, report, summary = shared.snapshot, shared.report, shared.snapshot.summary
    figures: dict[str, float] = {"bytes_added": report.bytes, "bytes_stored": report.stored_bytes}
    message = f"copied from {shared.origin}: snapshot {snapshot.short_id}"
    if summary:
        message += f", {summary.total_files_processed} files, {format_size(summary.total_bytes_processed)}"
        figures |= {
            "files_new": summary.files_new, "files_changed": summary.files_changed,
            "files_unmodified": summary.files_unmodified, "files_unreadable": 0,
            "bytes_processed": summary.total_bytes_processed,
        }  # fmt: skip
    message += f"; {format_size(report.stored_bytes)} stored"
    return Ending("succeeded", message, figures=figures, snapshot=shared.snapshot_id, data_at=snapshot.time)


def _read_source(work: Work) -> Ending:
    job, order = work.job, work.order
    environment = {"KEEPWATCH_JOB": order.job, "KEEPWATCH_KIND": order.kind}
    with hooks.around(job.before, job.after, environment, work.stop):
        source = work.source()
        if _covers(source.live_paths, work.state.path):
            work.state.copy_databases()
        repository = work.open(may_create=True)
        guard = Guard(repository, order.repository, order.job, job.guard, work.catalog)
        report = backup(
            repository,
            source,
            job=order.job,
            host=work.settings.daemon.host,
            clock=work.clock,
            full=order.kind == "full",
            lock_wait=LOCK_WAIT,
            progress=lambda p: work.progress(
                Progress("saving", p.bytes, p.bytes_expected or 0, p.files, p.files_expected or 0)
            ),
            stop=work.stopped,
            inspect=guard.tags,
        )
    guard.record(report.snapshot_id, report.started_at)
    remember(repository, order.repository, work.catalog, work.clock)
    for problem in report.unreadable[:_LINES_KEPT]:
        log.warning("not saved as it should be", extra={"path": problem.path, "reason": problem.reason})
    took = format_duration(report.ended_at - report.started_at)
    files = report.files_new + report.files_changed + report.files_unmodified
    message = (
        f"{files} files, {format_size(report.bytes_processed)} in {took}; {report.files_new} new,"
        f" {report.files_changed} changed, {format_size(report.bytes_stored)} stored"
    )
    if report.left_out:
        message += f"; {report.left_out} left out, which this user may not read"
    if report.partial:
        first = report.unreadable[0]
        message = f"{len(report.unreadable)} files unreadable, first {first.path}: {first.reason}; {message}"
    if guard.reasons:
        message = f"suspicious: {'; '.join(guard.reasons)}; {message}"
    unreadable = "see the log for the files, and run as a user who may read them" if report.partial else ""
    return Ending(
        "partial" if report.partial else "succeeded",
        message,
        guard.hint or unreadable,
        3 if report.partial else 0,
        {
            "files_new": report.files_new,
            "files_changed": report.files_changed,
            "files_unmodified": report.files_unmodified,
            "files_unreadable": report.files_unreadable,
            "bytes_processed": report.bytes_processed,
            "bytes_added": report.bytes_added,
            "bytes_stored": report.bytes_stored,
        },
        report.snapshot_id,
    )


def _forget(work: Work) -> Ending:
    order = work.order
    repository = work.open()
    with repository.lock(exclusive=True, retry_for=LOCK_WAIT):
        require_agreement(work.catalog, repository, order.repository, order.job)
        plan = plan_forget(
            repository, work.job.keep, work.clock(), tags=[f"job:{order.job}"], group_by=all_together,
            zone=work.settings.daemon.zone, proven=proven_snapshots(work.catalog, order.repository),
        )  # fmt: skip
        removed = execute_forget(repository, plan)
    remember(repository, order.repository, work.catalog, work.clock)
    message = f"{len(plan.kept)} snapshots kept, {len(removed)} forgotten"
    return Ending("succeeded", message, figures={"kept": len(plan.kept), "forgotten": len(removed)})


def _verify(work: Work) -> Ending:
    repository, name = work.open(), work.order.repository
    settings = work.settings.repositories[name]
    with repository.lock(exclusive=True, retry_for=LOCK_WAIT):
        found = verify_and_remember(
            repository, name, settings, work.catalog, portion_of(settings, read_data=work.order.read_data),
            zone=work.settings.daemon.zone, clock=work.clock, progress=work.progress, stop=work.stop,
        )  # fmt: skip
    for finding in found.errors[:_LINES_KEPT]:
        log.error("repository damaged", extra={"subject": finding.subject, "problem": finding.message})
    figures: dict[str, float] = {
        "errors": len(found.errors), "packs_read": found.packs_read, "bytes_read": found.bytes_read
    }  # fmt: skip
    if found.problem:
        hint = "`keepwatch verify --read-data` shows the whole extent; the runbook repository-problem says what to do"
        return Ending("failed", found.problem, hint, 4, figures)
    read = f"; {found.packs_read} packs, {format_size(found.bytes_read)}, read" if found.packs_read else ""
    return Ending("succeeded", f"no errors were found{read}", figures=figures)


def _prune(work: Work) -> Ending:
    repository = work.open()
    with repository.lock(exclusive=True, retry_for=LOCK_WAIT):
        require_agreement(work.catalog, repository, work.order.repository)
        report = execute_prune(repository, plan_prune(repository))
    remember(repository, work.order.repository, work.catalog, work.clock)
    message = (
        f"{format_size(report.freed_bytes)} given back; {report.deleted_packs} packs removed,"
        f" {report.rewritten_packs} rewritten"
    )
    return Ending("succeeded", message, figures={"bytes_freed": report.freed_bytes})


def _extend(work: Work) -> Ending:
    repository, lasting = work.open(), work.settings.repositories[work.order.repository].object_lock
    if lasting is None:
        raise BackupError("could not extend object_lock: it is not set", hint="set object_lock for this repository")
    until = work.clock() + lasting
    with repository.lock(retry_for=LOCK_WAIT):
        files = extend_retention(repository.storage, until, work.stop.is_set)
    return Ending("succeeded", f"{files} files cannot be deleted before {until:%Y-%m-%d}", figures={"files": files})


def _drill(work: Work) -> Ending:
    job, order, settings = work.job, work.order, work.settings.repositories[work.order.repository]
    report = run_drill(
        open_configured(settings, clock=work.clock, zone=work.settings.daemon.zone),
        read_password(settings, os.environ).get_secret_value(),
        job=order.job,
        snapshot=order.snapshot,
        scratch=work.state.scratch,
        clock=work.clock,
        live_paths=work.source().live_paths,
        rto_objective=job.rto,
        rpo_objective=job.rpo,
        plant=order.plant,
        keep_scratch=order.keep_scratch,
        lock_wait=LOCK_WAIT,
        stop=work.stopped,
        progress=lambda p: work.progress(Progress(p.phase, p.bytes, p.bytes_expected, p.files, p.files_expected)),
    )
    number = Journal(work.state.journal).append(report.evidence() | {"repository": settings.url}, now=work.clock())
    work.catalog.record_drill(order.run_id, _drill_row(report, order))
    return drill_ending(report, number)


def drill_ending(report: DrillReport, journal_line: int) -> Ending:
    """Turn a drill's report into an ending. A planted fault that was found is a success of the drill."""
    evidence = f"; line {journal_line} of the drill journal"
    message = report.message + evidence
    figures: dict[str, float] = {"files": report.files, "bytes": report.bytes}
    if report.rto_seconds is not None:
        figures["rto_seconds"] = report.rto_seconds
    if report.rpo_seconds is not None:
        figures["rpo_seconds"] = report.rpo_seconds
    if report.scratch:
        message += f"; the restored files are in {report.scratch}"
    if report.plant_found is not None:
        outcome, code = ("succeeded", 0) if report.plant_found else ("failed", 4)
    else:
        outcome, code = _VERDICTS[report.verdict]
    return Ending(outcome, message, "" if code == 0 else report.hint, code, figures, report.snapshot_id)


_VERDICTS = {
    Verdict.PASSED: ("passed", 0),
    Verdict.FAILED: ("failed", 4),
    Verdict.INCONCLUSIVE: ("inconclusive", 3),
}


def _drill_row(report: DrillReport, order: Order) -> DrillRow:
    return DrillRow(
        id=0,
        job=order.job,
        repository=order.repository,
        snapshot=report.snapshot_id,
        level=report.level,
        verdict=report.verdict.value,
        started_at=report.started_at,
        ended_at=report.ended_at,
        rto_seconds=report.rto_seconds,
        rpo_seconds=report.rpo_seconds,
        files=report.files,
        bytes=report.bytes,
        message=report.message,
        planted=report.planted,
    )


_KINDS: dict[str, Callable[[Work], Ending]] = {
    "full": _backup,
    "incremental": _backup,
    "forget": _forget,
    "verify": _verify,
    "prune": _prune,
    "extend": _extend,
    "drill": _drill,
}


def proven_snapshots(catalog: Catalog, repository: str) -> frozenset[str]:
    """Return the ids of the snapshots in ``repository`` that a drill has proven."""
    return frozenset(snapshot for name, snapshot in catalog.proven() if name == repository)


def remember(repository: Repository, name: str, catalog: Catalog, clock: Callable[[], datetime]) -> None:
    """Note in the catalog which snapshots there are now and how much room they take."""
    snapshots = repository.snapshots()
    catalog.replace_snapshots(name, [_row(name, snapshot) for snapshot in snapshots])
    note_tagged(catalog, name, snapshots)
    if packs := dict(repository.index.packs()):  # an index that was not loaded is empty, and says nothing
        PackMemory(catalog, name).sync(packs, clock())
    size = sum(file.size for file in repository.storage.list(FileKind.DATA))
    free = repository.storage.properties.free_bytes
    catalog.look_at_repository(name, now=clock(), size_bytes=size, free_bytes=free)


def _row(repository: str, snapshot: Snapshot) -> SnapshotRow:
    facts = dict(tag.split(":", 1) for tag in snapshot.tags if ":" in tag)
    summary = snapshot.summary
    return SnapshotRow(
        repository=repository,
        id=snapshot.id,
        job=facts.get("job", ""),
        kind=facts.get("kind", "incremental" if snapshot.parent else "full"),
        taken_at=summary.backup_start if summary else snapshot.time,
        files=summary.total_files_processed if summary else 0,
        bytes=summary.total_bytes_processed if summary else 0,
        added_bytes=summary.data_added_packed if summary else 0,
        partial="partial" in snapshot.tags,
    )


def _covers(paths: Iterable[str], folder: Path) -> bool:
    return any(folder.is_relative_to(path) for path in paths)


def _ledger_key(order: Order) -> tuple[str, str, str]:
    # A drill with a planted fault tests the drill; it must not count as the job's own.
    return ("planted drill" if order.plant else order.kind, order.job, order.repository)

