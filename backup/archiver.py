"""Makes a snapshot of a source: locks, chooses the parent, lets the trees be assembled, commits at the very end.

A full run reads everything, and stores again what lies in packs that the storage no longer has; an incremental one
trusts the parent snapshot for what has not changed. Nothing is deleted here, and nothing is visible before the commit:
whenever it is stopped, what is stored helps the next run and harms nobody.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from threading import Event

from backup.assembly import Assembly, Progress
from backup.claims import Claims
from backup.crew import Crew
from backup.errors import BackupError, Interrupted, RepositoryLocked, SourceError, StorageError
from backup.fingerprints import Fingerprints
from backup.gate import Gated
from backup.index import Index
from backup.lock import Lock
from backup.pack import BlobKind
from backup.portions import IsKnown, Surroundings
from backup.repository import Repository
from backup.sealing import Job, Saved, SealingBench, Tally
from backup.snapshot import Snapshot, matches
from backup.sources.base import Capture, Following, Problem, Source
from backup.sources.files import FilesSource
from backup.storage.base import FileKind

log = logging.getLogger(__name__)

Stop = Event | Callable[[], bool] | None
Inspect = Callable[[Snapshot, Snapshot], Iterable[str]]
"""Is shown a snapshot before it is stored, and the one that it follows; gives tags to add."""


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a run did. ``files_*`` count files and other leaves; bytes are of file contents."""

    snapshot_id: str
    kind: str
    """``full`` or ``incremental``; without a parent every run is full."""
    parent_id: str | None
    started_at: datetime
    ended_at: datetime
    files_new: int
    files_changed: int
    files_unmodified: int
    bytes_processed: int
    bytes_added: int
    """Of new blobs, before compression."""
    bytes_stored: int
    """The same as stored."""
    rereads: int
    """Times that a file was read again because it had changed meanwhile."""
    unreadable: tuple[Problem, ...] = ()
    left_out: int = 0
    """Entries left out on purpose because this user may not read them."""
    manifest: Mapping[str, object] = field(default_factory=dict)
    """What the application said of its data, where the source has one (see :class:`~backup.sources.base.Capture`)."""
    packs_missing: int = 0
    """Packs that the index names and the storage does not have, found by a full run, which stores their blobs again."""

    @property
    def partial(self) -> bool:
        """Whether something of the source is missing or was caught in the middle of a change."""
        return bool(self.unreadable)

    @property
    def files_unreadable(self) -> int:
        """How many entries are missing or doubtful."""
        return len(self.unreadable)


def backup(
    repository: Repository,
    source: Source,
    *,
    job: str,
    host: str,
    clock: Callable[[], datetime],
    full: bool = False,
    parent: Snapshot | None = None,
    tags: Iterable[str] = (),
    progress: Callable[[Progress], None] | None = None,
    workers: int | None = None,
    stop: Stop = None,
    lock_wait: timedelta = timedelta(0),
    inspect: Inspect | None = None,
    fingerprints: Fingerprints | None = None,
) -> BackupReport:
    """Back ``source`` up and give the report; the repository is locked (shared) meanwhile.

    ``parent`` is chosen when left out: the latest snapshot of the same host and paths. ``workers`` is the number of
    processes, by default one a core; 0 works in this one. ``stop`` (an event, or a function that turns true) ends the
    run without a snapshot: raises Interrupted. ``lock_wait`` is how long to wait for somebody else's lock. ``inspect``
    may add tags to the snapshot; it cannot keep it from being stored, unless it raises. ``fingerprints`` of the run
    before save an incremental one most of its work, and are those of this run afterwards. Also raises
    SourceError when nothing at all could be read, RepositoryLocked, StorageError.
    """
    give_up_at = time.monotonic() + lock_wait.total_seconds()
    while True:
        left = max(0.0, give_up_at - time.monotonic())
        lock = repository.lock(
            retry_for=timedelta(seconds=left), load_index=True, prove=not isinstance(source, FilesSource)
        )  # a dump is begun once, under a lock that holds; files are looked at in the pause before that is known
        try:
            with lock:
                return _back_up(
                    lock, repository, source, job=job, host=host, clock=clock, full=full, parent=parent, tags=tags,
                    progress=progress, workers=workers, stop=_asks(stop), inspect=inspect,
                    fingerprints=fingerprints or Fingerprints(),
                )  # fmt: skip
        except RepositoryLocked as error:
            if error is not lock.refusal or not left:
                raise


def _back_up(
    lock: Lock,
    repository: Repository,
    source: Source,
    *,
    job: str,
    host: str,
    clock: Callable[[], datetime],
    full: bool,
    parent: Snapshot | None,
    tags: Iterable[str],
    progress: Callable[[Progress], None] | None,
    workers: int | None,
    stop: Callable[[], bool],
    inspect: Inspect | None,
    fingerprints: Fingerprints,
) -> BackupReport:
    """Do it under a lock that may not be proven yet; nothing is written before it is."""
    started_at = clock()
    capturing = _capturing(repository, source, host, parent, full=full)
    with _proven_first(lock), capturing as (capture, parent), closing(Claims()) as claims:
        index = repository.index
        missing = _missing_packs(repository) if full else frozenset[int]()
        if not full:
            fingerprints.recall(repository.index_files)
        is_known = _known(index, missing)

        surroundings = Surroundings(
            is_known,
            lambda tree: repository.load_blob(BlobKind.TREE, tree),
            fingerprints.of,
            capture.admission,
            trusts_parent=not full,
            chunker_polynomial=repository.config.chunker_polynomial,
        )

        def make_bench() -> SealingBench:
            return SealingBench(repository.key, Gated(repository.storage, lock.gate), claims, surroundings)

        def on_report(report: object) -> None:
            if isinstance(report, Saved):
                tally.add(report.tally)
                repository.add_packs(report.packs)

        tally = Tally()
        crew = Crew[Job](make_bench, workers, on_report, stop)
        run = Assembly(repository, capture, crew, parent, stop, progress, is_known)
        with closing(crew):
            try:
                tree = run.make_trees()
            except Interrupted:
                _keep_what_is_done(run, repository)
                raise
            repository.flush()
        kind = "full" if full or parent is None else "incremental"
        problems = tuple(sorted(capture.problems, key=lambda problem: problem.path))
        if set(source.paths) <= {problem.path for problem in problems}:
            first = problems[0]
            raise SourceError(
                f"could not back up anything: {first.path}: {first.reason}",
                hint="is a disk not mounted? may this user read it?",
            )
        ended_at = clock()
        snapshot = Snapshot(
            time=started_at,
            tree=tree,
            paths=source.paths,
            hostname=host,
            username=repository.owner.username,
            uid=repository.owner.uid,
            gid=repository.owner.gid,
            excludes=source.excludes,
            tags=tuple(dict.fromkeys(_tags(job, kind, partial=bool(problems), others=tags))),
            parent=parent.id if parent and kind == "incremental" else None,
            program_version=_program(),
            summary=run.summary(started_at, ended_at, tally),
        )
        if inspect is not None and parent is not None:
            snapshot = replace(snapshot, tags=(*snapshot.tags, *inspect(snapshot, parent)))
        snapshot_id = repository.commit(snapshot)
        fingerprints.keep(run.fingerprints, repository.index_files)
    return BackupReport(
        snapshot_id=snapshot_id,
        kind=kind,
        parent_id=parent.id if parent else None,
        started_at=started_at,
        ended_at=ended_at,
        files_new=run.files_new,
        files_changed=run.files_changed,
        files_unmodified=run.files_unmodified,
        bytes_processed=run.bytes,
        bytes_added=tally.bytes_added,
        bytes_stored=tally.bytes_stored,
        rereads=run.rereads,
        unreadable=problems,
        left_out=capture.left_out,
        manifest=capture.manifest,
        packs_missing=len(missing),
    )


@contextmanager
def _proven_first(lock: Lock) -> Iterator[None]:
    """Let nobody be told of what was found, or missed, while another had the repository."""
    try:
        yield
    except Interrupted:
        raise
    except BackupError:
        lock.prove()
        raise


@contextmanager
def _capturing(
    repository: Repository, source: Source, host: str, parent: Snapshot | None, *, full: bool
) -> Iterator[tuple[Capture, Snapshot | None]]:
    """Choose the parent, and capture the source, which may go by it unless everything is to be read."""
    parent = parent or _latest(repository.snapshots(), host, source.paths)
    if parent is not None and not full and isinstance(source, Following):
        from backup.earlier import EarlierSnapshot  # files have the parent's trees

        source = source.following(EarlierSnapshot(repository, parent))
    with source.capture() as capture:
        yield capture, parent


def _keep_what_is_done(run: Assembly, repository: Repository) -> None:
    """Make what was handed out durable, so that the next run goes on from there; as far as the storage answers."""
    try:
        run.settle()
        repository.flush()
    except (StorageError, RepositoryLocked) as error:
        log.warning("stopped without an index", extra={"reason": str(error)})


def _tags(job: str, kind: str, *, partial: bool, others: Iterable[str]) -> list[str]:
    return ["keepwatch", f"job:{job}", f"kind:{kind}", *(["partial"] if partial else []), *others]


def _latest(snapshots: Iterable[Snapshot], host: str, paths: tuple[str, ...]) -> Snapshot | None:
    return max(
        (snapshot for snapshot in snapshots if matches(snapshot, hostname=host, paths=paths)),
        key=lambda snapshot: snapshot.time,
        default=None,
    )


def _missing_packs(repository: Repository) -> frozenset[int]:
    """Numbers of the packs that the index names but the storage has not, or not in their size."""
    stored = {file.name: file.size for file in repository.storage.list(FileKind.DATA)}
    packs = enumerate(repository.index.packs())
    return frozenset(number for number, (pack, size) in packs if stored.get(pack) != size)


def _known(index: Index, missing: Collection[int]) -> IsKnown:
    def is_stored(kind: BlobKind, name: bytes) -> bool:
        return any(index.pack_number(number) not in missing for number in index.numbers(kind, name))

    return is_stored if missing else index.contains


def _asks(stop: Stop) -> Callable[[], bool]:
    if stop is None:
        return lambda: False
    return stop.is_set if isinstance(stop, Event) else stop


def _program() -> str:
    try:
        return f"keepwatch {version('keepwatch')}"
    except PackageNotFoundError:
        return "keepwatch"
