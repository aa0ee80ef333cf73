"""Verifies a repository and remembers what was read: the same for a scheduled run and for the command line.

A scheduled verification reads a portion of the packs where ``read_all_within`` is set, and in any case what was damaged
before, so that its verdict is about today. What was read is remembered as it goes: an interrupted run is not lost.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from enum import Enum, auto

from backup.catalog import Catalog
from backup.errors import Interrupted
from backup.pack_memory import PackMemory
from backup.proofs import PackProof
from backup.repository import Repository
from backup.rolling import choose
from backup.verify import Finding, verify
from config.jobs import RepositorySettings
from config.said import Said, chained, numbered
from keepwatch.orders import Progress

_REMEMBER_EVERY = 64
"""Packs, about a gibibyte: what an interrupted run has to read again at most."""
_UNSCHEDULED = (timedelta(days=30), timedelta(days=1))
"""Period and spacing of portions that no setting speaks of."""


class Portion(Enum):
    """How much is read."""

    DAMAGED = auto()
    """Only what was damaged before."""
    SOME = auto()
    """What is due by rolling verification."""
    ALL = auto()


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification found."""

    findings: tuple[Finding, ...]
    packs_read: int
    bytes_read: int

    @property
    def errors(self) -> list[Finding]:
        """What cannot be restored, or may not."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def problem(self) -> str | None:
        """The worst in one line; None when there is no error."""
        errors = self.errors
        if not errors:
            return None
        needed = {finding.subject: finding.message for finding in errors if finding.code == "pack-needed"}
        first = next((finding for finding in errors if finding.subject in needed), errors[0])
        line = Said(
            "%(errors)s, first %(subject)s: %(what)s", subject=first.subject, what=first.message,
            errors=numbered(len(errors), "%(count)s error", "%(count)s errors"),
        )  # fmt: skip
        return chained([line, needed[first.subject]]) if first.subject in needed else line


def portion_of(settings: RepositorySettings, *, read_data: bool = False) -> Portion:
    """Say how much a verification reads."""
    if read_data:
        return Portion.ALL
    return Portion.SOME if settings.read_all_within else Portion.DAMAGED


def verify_and_remember(
    repository: Repository,
    name: str,
    settings: RepositorySettings,
    catalog: Catalog,
    portion: Portion,
    *,
    zone: tzinfo,
    clock: Callable[[], datetime],
    progress: Callable[[Progress], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Verification:
    """Verify under a lock that the caller holds, and note the outcome in the catalog.

    Raises StorageError when the storage itself fails, Interrupted, CatalogError.
    """
    reading = RollingReading(PackMemory(catalog, name), settings, portion, zone, clock, progress, stop)
    try:
        findings = tuple(verify(repository, choose=reading.choose, on_pack=reading.on_pack))
    finally:
        reading.remember()
    reading.explain(findings)
    found = Verification(findings, reading.packs, reading.bytes)
    catalog.record_verify(name, found.problem, now=clock())
    return found


class RollingReading:
    """The packs that one run reads: chosen oldest proven first, counted, remembered."""

    def __init__(
        self,
        memory: PackMemory,
        settings: RepositorySettings,
        portion: Portion,
        zone: tzinfo,
        clock: Callable[[], datetime],
        progress: Callable[[Progress], None],
        stop: threading.Event | None,
    ) -> None:
        self.packs = self.bytes = 0
        self._memory = memory
        self._settings = settings
        self._portion = portion
        self._zone = zone
        self._clock = clock
        self._progress = progress
        self._stop = stop
        self._total_packs = self._total_bytes = 0
        self._read: list[tuple[str, str | None]] = []
        self._damaged: dict[str, str] = {}

    def choose(self, packs: Mapping[str, int]) -> Collection[str]:
        """Choose from all packs, name to size, what is to be read."""
        now = self._clock()
        self._memory.sync(packs, now)
        chosen: Collection[str] = packs.keys()
        if self._portion is not Portion.ALL:
            rows = self._memory.packs()
            if self._portion is Portion.SOME:
                chosen = choose(rows, now, *self._period(now))
            else:
                chosen = [row.pack for row in rows if row.problem is not None]
        self._total_packs, self._total_bytes = len(chosen), sum(packs[pack] for pack in chosen)
        return chosen

    def _period(self, now: datetime) -> tuple[timedelta, timedelta]:
        within, spacing = _UNSCHEDULED
        schedule = self._settings.verify
        return self._settings.read_all_within or within, schedule.spacing(now, self._zone) if schedule else spacing

    def on_pack(self, proof: PackProof) -> None:
        """Count a pack that was read. Raises Interrupted."""
        problem = proof.defects[0][2] if proof.defects else None
        if problem:
            self._damaged[proof.pack] = problem
        self._read.append((proof.pack, problem))
        self.packs += 1
        self.bytes += proof.size
        if len(self._read) >= _REMEMBER_EVERY:
            self.remember()
        self._progress(Progress("reading", self.bytes, self._total_bytes, self.packs, self._total_packs))
        if self._stop is not None and self._stop.is_set():
            raise Interrupted("asked to stop; what was read is remembered")

    def remember(self) -> None:
        """Note in the catalog what was read since the last time."""
        read, self._read = self._read, []
        if read:
            self._memory.record(read, self._clock())

    def explain(self, findings: Collection[Finding]) -> None:
        """Remember with each damaged pack who needs it."""
        needs = {finding.subject: finding.message for finding in findings if finding.code == "pack-needed"}
        told = [(pack, f"{why}; {needs[f'pack {pack}']}") for pack, why in self._damaged.items()
                if f"pack {pack}" in needs]  # fmt: skip
        if told:
            self._memory.record(told, self._clock())
