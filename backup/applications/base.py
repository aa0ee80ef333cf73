"""The seam between restored data and the application that must run on it.

An application is brought to life privately: on a socket of its own below a scratch folder, without network, as an
unprivileged user, with nothing of the machine's own servers in its way, and gone afterwards. Drills ask it whether what
came back is what was saved; ``keepwatch restore`` uses the same ``recover`` to bring data to a moment.

It never judges: differences between what was counted at backup and what is counted now are :mod:`manifest`'s business.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from backup.applications.manifest import Manifest
from backup.repository import Repository


@dataclass(frozen=True, slots=True)
class RecoveryTarget:
    """Up to where to replay: exactly one of the three, or none for everything there is."""

    moment: datetime | None = None
    """All that was committed up to then, aware UTC."""
    name: str | None = None
    """A restore point that somebody named in the database."""
    position: str | None = None
    """A WAL or binlog position in the database's own writing."""


LATEST = RecoveryTarget()


@dataclass(frozen=True, slots=True)
class Record:
    """One piece of the log (a WAL segment, a binlog) in the repository."""

    name: str
    """As the database names it; a failure for want of it says this name."""
    snapshot_id: str
    """Where it lies; a log that goes on may have put it into another one since."""
    stored_at: datetime
    """Up to when the log was stored with it."""


class Running(Protocol):
    """An application at work on restored data."""

    @property
    def reached_at(self) -> datetime | None:
        """When the last transaction that is there was committed, aware UTC; None where the application cannot say."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables under which the application's own client programs reach it, for the operator's commands."""
        ...

    def manifest(self) -> Manifest:
        """Count now what was counted at backup. Raises ApplicationError."""
        ...

    def integrity(self) -> list[str]:
        """Run the application's own checks over everything; give what they found, each by the name of its table or
        file, empty when all is well. Raises ApplicationError when they cannot be run.
        """
        ...

    def query(self, statement: str, database: str | None = None) -> object:
        """Give the first value of the first row of a statement, None without rows: int, float, Decimal, str, bool,
        datetime (aware), date or timedelta. Raises ApplicationError with the database's words.
        """
        ...

    def plant(self, fault: str) -> str:
        """Do damage for a drill that has to find it: ``dropped-table`` or ``fewer-rows``, on a table that holds rows.

        Gives what a manifest's differences call it. Raises ValueError when it holds nothing to damage.
        """
        ...


class Recovery(Protocol):
    """The half of an application that brings restored data to a moment, and runs no server for it."""

    def records(self, repository: Repository, folder: Path) -> Sequence[Record]:
        """Say which log records a recovery of ``folder`` to the latest would replay, in order; empty without any."""
        ...

    def recover(self, repository: Repository, folder: Path, target: RecoveryTarget) -> None:
        """Fetch from the repository what has to be replayed onto the restored ``folder`` to reach ``target``, so that
        starting there, here or by the operator's own server, does it.

        ``folder`` is what the job's snapshot has at its top: manifest and data. Raises RestoreError: a gap in the
        records, by name; a target before the snapshot or after the last record.
        """
        ...


class Application(Recovery, Protocol):
    """How the data of one kind of source come to life. Made from the job's settings; programs come from PATH."""

    @property
    def missing(self) -> str:
        """What this machine lacks to run it, such as ``postgres 15``, with no server found; empty when it has all."""
        ...

    def start(self, folder: Path, *, workspace: Path, timeout_seconds: float) -> AbstractContextManager[Running]:
        """Bring the data in ``folder`` to life; what else it needs goes below ``workspace``. Entering returns when
        queries are answered; leaving ends every process and leaves both folders to the caller to remove.

        Raises ApplicationError when the data cannot be brought to life, which is the data's fault; RestoreError when
        it is this machine's.
        """
        ...
