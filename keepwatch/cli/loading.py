"""``restore --into``: loads the dump in a snapshot into a server that runs, right from the repository.

What is on its way touches no disk. Who names a target as well gets the files there first, and they are loaded from it.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from backup.applications.dump_files import DumpFiles, RestoredFiles, SavedFiles
from backup.applications.manifest import FILE_NAME
from backup.applications.saved import SavedDatabase, databases_in
from backup.previewing import preview
from backup.repository import Repository
from backup.restore_plan import RestorePlan
from backup.restorer import RestoreReport
from backup.snapshot import Snapshot
from keepwatch.cli.stopping import interrupted_by_termination
from keepwatch.errors import UsageError
from keepwatch.orders import Progress

_HINT = "choose one of several by --include /MEMBER; base backups are started where they are restored to"


def dump_in(opened: Repository, plan: RestorePlan) -> SavedDatabase:
    """Find the one dump among what a restore would bring back. Raises UsageError when there is none, or several."""
    dumps = {
        f"{saved.folder}/{FILE_NAME}": saved for saved in databases_in(opened, plan.snapshot)
        if saved.manifest.kind in ("postgres", "mariadb") and saved.manifest.details.get("method") == "logical"
    }  # fmt: skip
    found = [dumps[step.path] for step in preview(plan, opened) if step.path in dumps]
    if len(found) != 1:
        what = f"several dumps ({', '.join(saved.folder for saved in found)})" if found else "no dumps"
        raise UsageError(f"snapshot {plan.snapshot.short_id} holds {what} that --into could load", hint=_HINT)
    return found[0]


def load_saved(
    opened: Repository, snapshot: Snapshot, dump: SavedDatabase, dsn: str, progress: Callable[[Progress], None]
) -> tuple[RestoreReport, list[str]]:
    """Load a dump from the repository into the server that ``dsn`` names; gives what was read, and the databases.

    Raises RestoreError, SourceError, CorruptData, StorageError; KeyboardInterrupt when it is told to end.
    """
    began = time.monotonic()
    saved = SavedFiles(opened, snapshot, dump.folder)
    files = _Counted(saved, progress, saved.size)
    databases = _load(dump, files, dsn)
    return RestoreReport(len(files.done), 0, files.size, time.monotonic() - began), databases


def load_restored(target: Path, dump: SavedDatabase, dsn: str) -> list[str]:
    """Load a dump as ``load_saved`` does, but from where it was restored to; gives the databases."""
    return _load(dump, RestoredFiles(target / dump.folder), dsn)


def _load(dump: SavedDatabase, files: DumpFiles, dsn: str) -> list[str]:
    with interrupted_by_termination():
        if dump.manifest.kind == "mariadb":
            from backup.applications import mariadb_loading

            return mariadb_loading.load(mariadb_loading.server_at(dsn), files, dump.manifest)
        from backup.applications.postgres_connection import Server
        from backup.applications.postgres_loading import load

        return load(Server.parse(dsn), files, dump.manifest, jobs=max(2, os.cpu_count() or 1))


@dataclass(slots=True)
class _Counted:
    """The files of a dump, with somebody who is told how much of them was read."""

    files: DumpFiles
    progress: Callable[[Progress], None]
    expected_bytes: int
    done: dict[str, int] = field(default_factory=dict)
    """Name -> how far; the beginning of a file may be read twice."""

    @property
    def size(self) -> int:
        """Of all files so far."""
        return sum(self.done.values())

    def has(self, name: str) -> bool:
        """See DumpFiles."""
        return self.files.has(name)

    def read(self, name: str) -> Iterator[bytes]:
        """See DumpFiles."""
        here = 0
        for part in self.files.read(name):
            yield part
            here += len(part)
            self.done[name] = max(here, self.done.get(name, 0))
            self.progress(Progress("loading", self.size, self.expected_bytes, len(self.done)))

    def tail(self, name: str) -> bytes:
        """See DumpFiles."""
        return self.files.tail(name)
