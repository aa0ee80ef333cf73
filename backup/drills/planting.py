"""Plants the fault that a drill was asked to find, at the rung where it belongs, and judges whether it was found.

The repository is never touched: damage to it exists in the drill's own view (:mod:`faults`), damage to what came back
is done in scratch, and damage to an application in its private copy.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from backup.applications.base import Application
from backup.drills import faults
from backup.drills.faults import FaultyView, Planted
from backup.drills.report import DrillReport, Verdict
from backup.errors import RestoreError
from backup.pack import BlobKind
from backup.repository import Repository
from backup.restore_plan import RestorePlan
from backup.snapshot import Snapshot
from backup.storage.base import FileKind, Storage
from backup.tree import as_text, parse_tree
from backup.walking import locate

_LOOKED_AT_BYTES = 1 << 20
_NOWHERE = "/nothing in the snapshot is called so"


class Planting:
    """The fault of one drill, or none. Asked at every rung; does something at one of them."""

    def __init__(self, fault: str | None, storage: Storage, password: str) -> None:
        """Raises ValueError for a fault that is not known."""
        if fault is not None and fault not in faults.PLANTS:
            raise ValueError(f"unknown fault {fault!r}; known are {', '.join(faults.PLANTS)}")
        self._fault = fault
        self._view = FaultyView(storage) if fault else None
        self.storage: Storage = self._view or storage
        self.password = password
        self._planted: Planted | None = None
        if fault == faults.WRONG_PASSWORD:
            self._planted = Planted(fault, "another password is used", "password")
            self.password += " is not it"

    def before_index(self, repository: Repository, snapshot: Snapshot) -> None:
        """Hide an index file, before any is read."""
        if self._view is not None and self._fault == faults.MISSING_INDEX:
            self._planted = faults.plant_in_index(self._view, repository, snapshot.tree)

    def before_verify(self, repository: Repository, snapshot: Snapshot) -> None:
        """Damage a pack of the snapshot, for a level that restores nothing."""
        if self._view is not None and self._fault in faults.IN_PACKS:
            repository.load_index()
            root = locate(repository, snapshot, "/").tree
            pending, blobs = [root] if root else [], list[bytes]()
            while pending and not blobs:
                for node in parse_tree(repository.load_blob(BlobKind.TREE, pending.pop())):
                    blobs += node.content or ()
                    pending += [node.subtree] if node.subtree else []
            self._in_pack(repository, blobs)

    @property
    def include(self) -> tuple[str, ...]:
        """Patterns of what is restored; none means everything."""
        if self._fault != faults.EMPTY_SOURCE:
            return ()
        self._planted = Planted(faults.EMPTY_SOURCE, "the snapshot is taken for empty", "empty")
        return (_NOWHERE,)

    def budget(self, budget_bytes: int | None) -> int | None:
        """Bytes that scratch may take."""
        if self._fault != faults.NO_SCRATCH:
            return budget_bytes
        self._planted = Planted(faults.NO_SCRATCH, "scratch is taken for full", "scratch")
        return 0

    def before_restore(self, repository: Repository, plan: RestorePlan) -> None:
        """Damage a pack that the restore needs."""
        if self._view is None or self._fault not in faults.IN_PACKS:
            return
        blobs = [blob for _, node in plan.big_files for blob in node.content or ()]
        for folder in plan.folders:
            if folder.leaves:
                nodes = parse_tree(repository.load_blob(BlobKind.TREE, folder.tree))
                blobs += [blob for place in folder.leaves for blob in nodes[place].content or ()]
        self._in_pack(repository, blobs)

    def before_compare(self, plan: RestorePlan) -> None:
        """Cut the second half off the largest file that has one: a log that ends in zeros would not miss it."""
        if self._fault != faults.TRUNCATED_DUMP:
            return
        paths = [os.path.join(above, name) for above, _, names in os.walk(os.fsencode(plan.target)) for name in names]
        files = [(os.lstat(path).st_size, path) for path in paths if os.path.isfile(path) and not os.path.islink(path)]
        size, path = next(((size, path) for size, path in sorted(files, reverse=True) if _has_second_half(path, size)),
                          (0, b""))  # fmt: skip
        if not size:
            raise RestoreError("could not plant a fault: no file that came back has any content to lose")
        os.truncate(path, size // 2)
        name = as_text(os.path.relpath(path, os.fsencode(plan.target)))
        self._planted = Planted(faults.TRUNCATED_DUMP, f"{name} is cut to half its length", Path(name).stem)

    @property
    def pretends_staleness(self) -> bool:
        """Whether the source is to look as if it had not changed."""
        if self._fault != faults.STALE_SOURCE:
            return False
        self._planted = Planted(faults.STALE_SOURCE, "the source is taken for unchanged", "has not changed")
        return True

    def before_recovery(self, repository: Repository, applications: Mapping[Path, Application]) -> None:
        """Hide one of the log records that a recovery needs, not the last, or the first of those that are stored with
        it. ``applications``: by their folders.
        """
        if self._view is None or self._fault != faults.MISSING_WAL:
            return
        records = max((of.records(repository, folder) for folder, of in applications.items()), key=len, default=())
        if len(records) < 2:
            raise RestoreError("could not plant a fault: fewer than two log records follow this snapshot")
        middle = records[(len(records) - 1) // 2]
        if middle.snapshot_id == records[-1].snapshot_id:  # a binlog lies in one snapshot
            self._planted = faults.plant_in_log(self._view, repository, middle.snapshot_id, middle.name)
            return
        first = next(record for record in records if record.snapshot_id == middle.snapshot_id)
        self._view.hide(FileKind.SNAPSHOT, first.snapshot_id)
        self._planted = Planted(faults.MISSING_WAL, f"log record {first.name} is missing", first.name)

    @property
    def in_application(self) -> str | None:
        """Damage to be done once an application runs; of several, to the first."""
        return self._fault if self._fault in faults.IN_APPLICATION and self._planted is None else None

    def done_in_application(self, table: str) -> None:
        """Hear what the damage was done to."""
        if table and self._fault is not None:
            told = "is dropped" if self._fault == faults.DROPPED_TABLE else "has lost rows"
            self._planted = Planted(self._fault, f"{table} {told}", table)

    def judge(self, report: DrillReport) -> DrillReport:
        """Say in the report whether the fault was found: a drill has to fail by it, and to name it."""
        if self._fault is None:
            return report
        if self._planted is None and report.verdict is Verdict.PASSED:
            # Passed would be taken for found, and nothing has been shown.
            return replace(
                report, verdict=Verdict.INCONCLUSIVE, planted=self._fault,
                message=f"the fault {self._fault} was not planted: level {report.level} of this job never comes to it",
                hint=faults.PLACES.get(self._fault, "go further: --level restore"),
            )  # fmt: skip
        if self._planted is None:
            return replace(report, planted=self._fault, plant_found=None)
        wanted = Verdict.INCONCLUSIVE if self._fault == faults.NO_SCRATCH else Verdict.FAILED
        said = [report.message, *(text for problem in report.problems for text in (problem.path, problem.reason))]
        found = report.verdict is wanted and any(self._planted.trace in text for text in said)
        told = "was found" if found else "WAS NOT FOUND"
        message = f"the planted fault {told} ({self._planted.description}); {report.message}"
        return replace(report, planted=self._planted.description, plant_found=found, message=message)

    def _in_pack(self, repository: Repository, blobs: list[bytes]) -> None:
        assert self._view is not None
        try:
            self._planted = faults.plant_in_pack(self._view, self._fault or "", repository, blobs)
        except ValueError as error:
            raise RestoreError(f"could not plant a fault: {error}") from None


def _has_second_half(path: bytes, size: int) -> bool:
    with open(path, "rb") as file:
        file.seek(size // 2)
        return any(any(part) for part in iter(lambda: file.read(_LOOKED_AT_BYTES), b""))
