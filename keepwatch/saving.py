"""Runs that save: what is new in a job's source, or what an earlier repository of the job has just got of it."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from backup.archiver import backup
from backup.fingerprints import Fingerprints
from backup.index_cache import IndexCache
from backup.sources.files import FilesSource
from config.said import Said, chained, listed, numbered
from config.units import format_duration, format_size
from keepwatch import hooks
from keepwatch.guarding import Guard, bounds_for
from keepwatch.orders import Ending, Progress
from keepwatch.remembering import remember
from keepwatch.work import LOCK_WAIT, Work

if TYPE_CHECKING:
    from keepwatch.sharing import Shared

log = logging.getLogger(__name__)

_LINES_KEPT = 20


def save(work: Work) -> Ending:
    """Carry out a ``full`` or an ``incremental`` order."""
    shared = _copy(work) if work.order.repository in work.job.repositories[1:] else None
    return _read_source(work) if shared is None else _copied(work, shared)


def _copy(work: Work) -> "Shared | None":
    from keepwatch.sharing import copy_from_earlier  # few jobs have a second repository

    return copy_from_earlier(work)


def _copied(work: Work, shared: "Shared") -> Ending:
    """Turn a copy into an ending: figures as of the run that read, but for what was stored here."""
    remember(shared.target, work.order.repository, work.catalog, work.clock)
    snapshot, report, summary = shared.snapshot, shared.report, shared.snapshot.summary
    figures: dict[str, float] = {"bytes_added": report.bytes, "bytes_stored": report.stored_bytes}
    text = "copied from %(origin)s: snapshot %(snapshot)s"
    copied: str = Said(text, origin=shared.origin, snapshot=snapshot.short_id)
    if summary:
        saved = numbered(summary.total_files_processed, "%(count)s file", "%(count)s files")
        copied = listed([copied, saved, format_size(summary.total_bytes_processed)])
        figures |= {
            "files_new": summary.files_new, "files_changed": summary.files_changed,
            "files_unmodified": summary.files_unmodified, "files_unreadable": 0,
            "bytes_processed": summary.total_bytes_processed,
        }  # fmt: skip
    message = chained([copied, Said("%(size)s stored", size=format_size(report.stored_bytes))])
    return Ending("succeeded", message, figures=figures, snapshot=shared.snapshot_id, data_at=snapshot.time)


def _read_source(work: Work) -> Ending:
    job, order = work.job, work.order
    environment = {"KEEPWATCH_JOB": order.job, "KEEPWATCH_KIND": order.kind}
    with hooks.around(job.before, job.after, environment, work.stop):
        source = work.source()
        if _covers(source.live_paths, work.state.path):
            work.state.copy_databases()
        repository = work.open(may_create=True)
        cache = work.state.path / "cache"
        if order.kind != "full":  # which is to read what is there
            repository.index_cache = IndexCache(cache, repository.config.id)
        guard = Guard(repository, order.repository, order.job, bounds_for(job), work.catalog)
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
            fingerprints=Fingerprints.of_job(cache, repository.config.id, order.job),
        )
    repository.keep_index()
    guard.record(report.snapshot_id, report.started_at)
    if not isinstance(source, FilesSource):
        from keepwatch.wal.tidying import tidy_log  # most jobs have no log

        tidy_log(work, repository)
    remember(repository, order.repository, work.catalog, work.clock)
    for problem in report.unreadable[:_LINES_KEPT]:
        log.warning("not saved as it should be", extra={"path": problem.path, "reason": problem.reason})
    took = format_duration(report.ended_at - report.started_at)
    files = report.files_new + report.files_changed + report.files_unmodified
    said: list[str] = [
        Said(
            "%(files)s, %(size)s in %(took)s; %(new)s new, %(changed)s changed, %(stored)s stored",
            files=numbered(files, "%(count)s file", "%(count)s files"), size=format_size(report.bytes_processed),
            took=took, new=report.files_new, changed=report.files_changed, stored=format_size(report.bytes_stored),
        )
    ]  # fmt: skip
    if report.left_out:
        said.append(Said("%(count)s left out, which this user may not read", count=report.left_out))
    skew = report.manifest.get("skew_seconds")
    if isinstance(skew, float | int):
        said.append(Said("members of the group lie %(time)s apart", time=format_duration(skew)))
    said += [Said("base backup: %(what)s", what=what) for what in _base_backups(report.manifest)]
    if report.partial:
        first = report.unreadable[0]
        many = numbered(len(report.unreadable), "%(count)s file", "%(count)s files")
        text = "%(files)s unreadable, first %(path)s: %(why)s"
        said.insert(0, Said(text, files=many, path=first.path, why=first.reason))
    if guard.reasons:
        said.insert(0, Said("suspicious: %(why)s", why=chained(guard.reasons)))
    unreadable = "see the log for the files, and run as a user who may read them" if report.partial else ""
    return Ending(
        "partial" if report.partial else "succeeded",
        chained(said),
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



def _base_backups(manifest: Mapping[str, object]) -> list[str]:
    """Say of each base backup in a snapshot what its server sent, with the member's name in a group."""
    if "base_backup" in manifest:
        return [str(manifest["base_backup"])]
    members = manifest.get("members")
    told = members.items() if isinstance(members, dict) else ()
    return [f"{name}: {of_member['base_backup']}" for name, of_member in told if "base_backup" in of_member]

def _covers(paths: Iterable[str], folder: Path) -> bool:
    return any(folder.is_relative_to(path) for path in paths)
