"""Runs that prove: a repository's consistency, and by a restore drill that a job's data come back."""

import logging
import os

from backup.catalog import DrillRow
from backup.drill import DrillReport, Verdict, run_drill
from backup.journal import Journal
from backup.storage.open import open_configured
from config.secrets import read_password
from config.units import format_size
from keepwatch.orders import Ending, Order, Progress
from keepwatch.verifying import portion_of, verify_and_remember
from keepwatch.work import LOCK_WAIT, Work

log = logging.getLogger(__name__)

_LINES_KEPT = 20


def prove_repository(work: Work) -> Ending:
    """Carry out a ``verify`` order."""
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


def drill(work: Work) -> Ending:
    """Carry out a ``drill`` order."""
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
