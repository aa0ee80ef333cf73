"""Which logs the settings ask for: of jobs, and of members of groups. Each has a receiver, a spool and a status.

A log is called as its job, a member's ``JOB:MEMBER``; no job can be called so.
"""

from dataclasses import dataclass

from backup.wal.names import log_name
from config.databases import MariaDbSource
from config.postgres import PostgresSource
from config.settings import Settings
from config.sources import GroupSource


@dataclass(frozen=True, slots=True)
class KeptLog:
    """A database that keeps a log, and where that is archived to."""

    name: str
    """In tags, in file names, on command lines."""
    job: str
    repositories: tuple[str, ...]
    source: PostgresSource | MariaDbSource


def known_logs(settings: Settings) -> dict[str, KeptLog]:
    """Give name -> log of every database that could have its log archived, whether or not it has."""
    found: dict[str, KeptLog] = {}
    for job, of in settings.jobs.items():
        sources = of.source.members if isinstance(of.source, GroupSource) else {"": of.source}
        for member, source in sources.items():
            if isinstance(source, PostgresSource | MariaDbSource):
                name = log_name(job, member)
                found[name] = KeptLog(name, job, tuple(of.repositories), source)
    return found


def kept_logs(settings: Settings) -> dict[str, KeptLog]:
    """Give name -> log of every database whose log is archived all the time."""
    return {name: log for name, log in known_logs(settings).items() if log.source.keeps_log}
