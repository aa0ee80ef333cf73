"""Runs that prove: a repository's consistency, and by a restore drill that a job's data come back."""

import logging
import os
import time
import zlib
from dataclasses import replace
from datetime import datetime

from backup.applications.base import LATEST, RecoveryTarget
from backup.applications.open import open_applications
from backup.drills.assertions import Assertion
from backup.drills.drill import run_drill
from backup.drills.levels import Level
from backup.drills.report import RANDOM_MOMENT, DrillReport, DrillWishes, Verdict
from backup.errors import Interrupted
from backup.journal import Journal
from backup.pack_memory import PackMemory
from backup.past_drills import PastDrill, PastDrills
from backup.storage.open import open_configured
from config.drills import AssertSettings, DrillSettings
from config.said import Said, chained, numbered
from config.secrets import read_password
from config.units import format_duration, format_size
from keepwatch.orders import Ending, Order, Progress
from keepwatch.verifying import Portion, RollingReading, portion_of, verify_and_remember
from keepwatch.work import LOCK_WAIT, Work

log = logging.getLogger(__name__)

_LINES_KEPT = 20
_LOOK_AGAIN_SECONDS = 5.0


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
    said: list[str] = [Said("no errors were found")]
    if found.packs_read:
        packs = numbered(found.packs_read, "%(count)s pack", "%(count)s packs")
        said.append(Said("%(packs)s, %(size)s, read", packs=packs, size=format_size(found.bytes_read)))
    return Ending("succeeded", chained(said), figures=figures)


def drill(work: Work) -> Ending:
    """Carry out a ``drill`` order."""
    settings = work.job.drill
    if settings is not None and settings.load_limit is not None and not _is_calm(work, settings):
        text, waited = "the load stayed above %(limit)s per core for %(time)s", format_duration(settings.load_wait)
        message = Said(text, limit=f"{settings.load_limit:g}", time=waited)
        return Ending("inconclusive", message, "drill at a quieter time, or raise load_limit", 3)
    repository = work.settings.repositories[work.order.repository]
    wishes = wishes_of(work)
    reading = None
    if wishes.level is Level.READ and wishes.plant is None:
        portion = Portion.SOME if repository.read_all_within else Portion.ALL
        reading = RollingReading(
            PackMemory(work.catalog, work.order.repository), repository, portion, work.settings.daemon.zone, work.clock,
            work.progress, work.stop,
        )  # fmt: skip
        wishes = replace(wishes, choose=reading.choose, on_pack=reading.on_pack)
    storage = open_configured(repository, clock=work.clock, zone=work.settings.daemon.zone, halt=work.make_halt())
    work.watch(storage)
    try:
        report = run_drill(
            storage,
            read_password(repository, os.environ).get_secret_value(),
            wishes,
        )
    finally:
        if reading is not None:
            reading.remember()
    number = Journal(work.state.journal).append(report.evidence() | {"repository": repository.url}, now=work.clock())
    PastDrills(work.catalog).add(work.order.run_id, _remembered(report, work.order), planted=report.planted)
    return drill_ending(report, number)


def wishes_of(work: Work) -> DrillWishes:
    """Return what the order asks for, and the job's settings where it says nothing."""
    job, order, drill = work.job, work.order, work.job.drill
    seed = order.seed if order.seed is not None else zlib.crc32(f"{order.job} {work.clock()}".encode())
    wishes = DrillWishes(
        scratch=work.state.scratch, clock=work.clock, job=order.job, seed=seed, snapshot=order.snapshot or "latest",
        level=Level(order.level or "restore"), live_paths=work.source().live_paths, rto_objective=job.rto,
        rpo_objective=job.rpo, applications=open_applications(job.source, name=order.job), plant=order.plant,
        keep_scratch=order.keep_scratch, lock_wait=LOCK_WAIT, stop=work.stopped,
        progress=lambda p: work.progress(Progress(p.phase, p.bytes, p.bytes_expected, p.files, p.files_expected)),
    )  # fmt: skip
    if drill is None:
        return wishes
    turn = sum(standing.runs for key, standing in work.catalog.standings().items() if key == order.key)
    until = order.until or drill.until
    return replace(
        wishes,
        level=Level(order.level or drill.level),
        snapshot=order.snapshot or drill.snapshots[max(0, turn - 1) % len(drill.snapshots)],
        sample_share=drill.sample,
        until=_target(until, work),
        assertions=tuple(map(_assertion, drill.assert_)),
        stale_after=drill.stale_after,
        scratch=drill.scratch or work.state.scratch,
        scratch_budget_bytes=drill.scratch_budget,
        memory_limit_bytes=drill.memory_limit,
        timeout_seconds=drill.timeout.total_seconds() if drill.timeout is not None else None,
    )


def _target(until: datetime | str, work: Work) -> RecoveryTarget | str:
    if until == "latest":
        return LATEST
    if until == RANDOM_MOMENT:
        return RANDOM_MOMENT
    moment = until if isinstance(until, datetime) else datetime.fromisoformat(until)
    return RecoveryTarget(moment=(moment if moment.tzinfo else moment.replace(tzinfo=work.settings.daemon.zone)))


def _assertion(settings: AssertSettings) -> Assertion:
    return Assertion(
        settings.sql or "", settings.run or "", settings.database, settings.member or "", settings.min, settings.max,
        settings.equals, settings.timeout.total_seconds(),
    )  # fmt: skip


def _is_calm(work: Work, settings: DrillSettings) -> bool:
    """Wait until the machine has room for a drill; False when it never had. Raises Interrupted."""
    until = time.monotonic() + settings.load_wait.total_seconds()
    limit = (settings.load_limit or 0) * (os.cpu_count() or 1)
    while os.getloadavg()[0] > limit:
        if time.monotonic() >= until:
            return False
        if work.stop.wait(_LOOK_AGAIN_SECONDS):
            raise Interrupted("the drill was stopped while it waited for a calmer machine")
    return True


def drill_ending(report: DrillReport, journal_line: int) -> Ending:
    """Turn a drill's report into an ending. A planted fault that was found is a success of the drill."""
    said = [report.message, Said("line %(number)s of the drill journal", number=journal_line)]
    figures: dict[str, float] = {"files": report.files, "bytes": report.bytes}
    if report.rto_seconds is not None:
        figures["rto_seconds"] = report.rto_seconds
    if report.rpo_seconds is not None:
        figures["rpo_seconds"] = report.rpo_seconds
    if report.scratch:
        said.append(Said("the restored files are in %(folder)s", folder=str(report.scratch)))
    if report.plant_found is not None:
        outcome, code = ("succeeded", 0) if report.plant_found else ("failed", 4)
    else:
        outcome, code = _VERDICTS[report.verdict]
    return Ending(outcome, chained(said), "" if code == 0 else report.hint, code, figures, report.snapshot_id)


_VERDICTS = {
    Verdict.PASSED: ("passed", 0),
    Verdict.FAILED: ("failed", 4),
    Verdict.INCONCLUSIVE: ("inconclusive", 3),
}


def _remembered(report: DrillReport, order: Order) -> PastDrill:
    return PastDrill(
        id=0,
        job=order.job,
        repository=order.repository,
        snapshot=report.snapshot_id,
        level=report.level.value,
        verdict=report.verdict.value,
        started_at=report.started_at,
        ended_at=report.ended_at,
        rto_seconds=report.rto_seconds,
        rpo_seconds=report.rpo_seconds,
        files=report.files,
        bytes=report.bytes,
        message=report.message,
    )
