"""A repository: the one object through which blobs and snapshots are written and read.

It makes the order packs, then index, then snapshot impossible to get wrong: `commit` refuses while anything is not
flushed, everything that writes wants a lock that is still good, and everything that deletes wants an exclusive one. It
keeps no state of its own anywhere: whatever is not in the storage is gone with the process, and the storage is
consistent at every moment. It is for one thread at a time; only the lock is renewed by another. See DESIGN.md for the
terms and the invariants.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from backup import lock as locks
from backup.crypto import MasterKey, Sealer
from backup.errors import (
    BackupError,
    CorruptData,
    FileMissing,
    RepositoryLocked,
    RepositoryMissing,
    SnapshotMissing,
    StorageError,
    UnsupportedRepository,
)
from backup.index import (
    FLUSH_BLOBS,
    Columns,
    Index,
    PackDocument,
    PackListing,
    format_index,
    join_index,
    parse_columns,
    parse_index,
    split_index,
)
from backup.index_cache import IndexCache
from backup.keys import KdfParameters, OpenedKey, add_key, open_master_key
from backup.owner import Owner
from backup.pack import BlobEntry, BlobKind, PackBuilder, PackRecord, blob_id
from backup.polynomial import random_irreducible
from backup.reader import BlobReader, PackRead, missing_blob, plan_reads, reads
from backup.repository_config import RepositoryConfig, format_config, holds_any, parse_config
from backup.snapshot import Snapshot, format_snapshot, matches, parse_snapshot
from backup.storage.base import CONFIG_NAME, Buffer, FileKind, Storage, delete_all
from backup.storage.reading_ahead import Read, announced
from backup.unpacked import UnpackedFiles

FLUSH_AFTER: Final = timedelta(minutes=10)
"""An index file is written when the oldest pack without one is this old."""
_INDEX_BYTES_A_BLOB: Final = 90
"""A compressed index holds at most about one blob in this many bytes: ids do not compress."""


class Repository:
    """An open repository. Made by `create` or `open`, which prove the password."""

    def __init__(
        self,
        storage: Storage,
        opened: OpenedKey,
        config: RepositoryConfig,
        clock: Callable[[], datetime],
        timing: locks.LockTiming,
    ) -> None:
        self.storage = storage
        self.opened_key = opened
        self.key: MasterKey = opened.master
        self.config = config
        self.clock = clock
        self.index = Index()
        self.index_cache: IndexCache | None = None
        """Where `load_index` finds what was parsed before; None makes it read every index file."""
        self.owner = Owner.current()
        self._timing = timing
        self._files = self._new_files()
        self._reader = BlobReader(storage, self.key)
        self._lock: locks.Lock | None = None
        self._index_loaded = False
        self.index_files: set[str] = set()
        """The names of the index files that `index` is the union of, as far as it is not pending."""
        self._snapshots: dict[str, Snapshot] = {}
        """Those that were read, by id: no file of this name will ever hold another."""
        self._builders: dict[BlobKind, PackBuilder] = {}
        self._putter = ThreadPoolExecutor(1, thread_name_prefix="put")
        self._putting: tuple[PackRecord, BlobKind, Future[None]] | None = None
        self._building: set[tuple[BlobKind, bytes]] = set()
        self._oldest_pending_at: datetime | None = None

    # ---- opening

    @classmethod
    def create(
        cls,
        storage: Storage,
        password: str,
        *,
        clock: Callable[[], datetime],
        kdf: KdfParameters | None = None,
        timing: locks.LockTiming = locks.LockTiming(),  # noqa: B008 - a frozen value
    ) -> "Repository":
        """Make an empty repository of version 2. ``kdf`` is measured on this machine when left out.

        Raises BackupError when there is one already, or what may be the rest of one; StorageError.
        """
        location = storage.properties.location if holds_any(storage) else ""
        if location:
            raise BackupError(
                f"refused to make a repository at {location}: there is a config, a key or a snapshot already",
                hint="open it with its password; if its creation was interrupted, remove what is there first",
            )
        storage.create()
        owner, master = Owner.current(), MasterKey.generate()
        name = add_key(
            storage, master, password, now=clock(), username=owner.username, hostname=owner.hostname, kdf=kdf
        )
        config = RepositoryConfig(2, secrets.token_hex(32), random_irreducible())
        storage.put(FileKind.CONFIG, CONFIG_NAME, Sealer(master).seal(format_config(config)))
        return cls(storage, OpenedKey(master, name), config, clock, timing)

    @classmethod
    def open(
        cls,
        storage: Storage,
        password: str,
        *,
        clock: Callable[[], datetime],
        timing: locks.LockTiming = locks.LockTiming(),  # noqa: B008 - a frozen value
    ) -> "Repository":
        """Open a repository of version 1 (to read) or 2. Loads no index and takes no lock.

        Raises RepositoryMissing, WrongPassword, UnsupportedRepository, CorruptData, StorageError.
        """
        try:
            sealed = storage.get(FileKind.CONFIG, CONFIG_NAME)
        except FileMissing as error:
            raise RepositoryMissing(
                f"could not open a repository: {error}",
                hint="check the URL, and that its disk is mounted; the first backup of a job makes it",
            ) from error
        opened = open_master_key(storage, password)
        try:
            config = parse_config(Sealer(opened.master).open(sealed))
        except CorruptData as error:
            raise CorruptData(f"could not read the config: {error}", name=CONFIG_NAME) from error
        return cls(storage, opened, config, clock, timing)

    @property
    def version(self) -> int:
        """1 or 2; 1 can only be read."""
        return self.config.version

    # ---- locking

    def lock(
        self,
        *,
        exclusive: bool = False,
        retry_for: timedelta = timedelta(0),
        load_index: bool = False,
        prove: bool = True,
    ) -> locks.Lock:
        """Take a lock and hold it until released; writes check it. Raises RepositoryLocked.

        Load the index afterwards: what was loaded before may name packs that somebody has pruned since. ``load_index``
        does it in the pause that taking a lock demands, for which it would otherwise sleep; then also raises as
        `load_index` does. Without ``prove`` (and with ``load_index``) the lock is given while that pause lasts: writes
        wait for its end, and when `Lock.refusal` stands, all that was read meanwhile is worth nothing.
        """
        if self._lock is not None and self._lock.held:
            raise RuntimeError("the repository is locked by this object already")
        self._lock = locks.acquire(
            self.lock_table(), self.owner, exclusive=exclusive, retry_for=retry_for,
            meanwhile=self.load_index if load_index else lambda: None,
            recheck=(lambda: None) if prove else self._refuse_a_rewritten_index, prove=prove,
        )  # fmt: skip
        if load_index and prove:
            try:
                self._reload_changed_index()
            except BaseException:
                self._lock.release()
                raise
        self._index_loaded = load_index
        return self._lock

    def _reload_changed_index(self) -> None:
        """Where storing our lock took long, a whole prune may have fitted between the first look and the second."""
        if self.index_files != {file.name for file in self.storage.list(FileKind.INDEX)}:
            self.load_index()

    def _refuse_a_rewritten_index(self) -> None:
        """See above: then packs may be gone that the index names. What somebody added meanwhile does not matter."""
        if not self.index_files <= {file.name for file in self.storage.list(FileKind.INDEX)}:
            raise RepositoryLocked(
                "could not lock the repository: somebody pruned it while the lock was being stored",
                hint="start again; nothing was written",
            )

    def lock_table(self) -> locks.LockTable:
        """Give the table of all locks, for listing and for `plan_unlock`."""
        return locks.LockTable(self.storage, self._new_files(), self.clock, self._timing)

    def _new_files(self) -> UnpackedFiles:
        return UnpackedFiles(self.storage, self.key, compress=self.version > 1)

    def require_lock(self, *, exclusive: bool = False) -> None:
        """Raise unless a write (a delete, with ``exclusive``) is safe now: RepositoryLocked, UnsupportedRepository."""
        if self.version != 2:
            raise UnsupportedRepository(
                f"refused to write to a repository of version {self.version}",
                hint="`restic migrate upgrade_repo_v2` brings it to version 2",
            )
        if self._lock is None or (exclusive and not self._lock.exclusive):
            raise RepositoryLocked("refused to write without a lock" + (" of its own" if exclusive else ""))
        self._lock.check()

    def _require_index(self) -> None:
        self.require_lock()
        if not self._index_loaded:
            raise RuntimeError("the index must be loaded after the lock was taken and before blobs are added")

    # ---- snapshots

    def snapshots(self, *, on_damage: Callable[[CorruptData], None] | None = None) -> list[Snapshot]:
        """Give all snapshots, oldest first.

        Raises CorruptData at the first that cannot be read, unless ``on_damage`` takes it; StorageError.
        """
        names = [file.name for file in self.storage.list(FileKind.SNAPSHOT)]
        found = [self._snapshots[name] for name in names if name in self._snapshots]
        unknown = [name for name in names if name not in self._snapshots]
        for name in announced(self.storage, unknown, lambda name: [Read(FileKind.SNAPSHOT, name)]):
            try:
                found.append(self.load_snapshot(name))
            except FileMissing:  # forgotten since it was listed
                continue
            except CorruptData as error:
                if on_damage is None:
                    raise
                on_damage(error)
        return sorted(found, key=lambda snapshot: (snapshot.time, snapshot.id))

    def load_snapshot(self, name: str) -> Snapshot:
        """Read one snapshot by its whole id. Raises FileMissing, CorruptData, StorageError."""
        snapshot = self._snapshots[name] = parse_snapshot(self._files.load(FileKind.SNAPSHOT, name), name)
        return snapshot

    def find_snapshot(
        self,
        ref: str,
        *,
        hostname: str | None = None,
        paths: Sequence[str] | None = None,
        tags: Sequence[str] = (),
    ) -> Snapshot:
        """Find by id, by a prefix of it, or ``latest`` among those with this host, these paths and all these tags.

        The latest is never one that holds a database's log. Raises SnapshotMissing when none or several answer.
        """
        if ref == "latest":
            found = [item for item in self.snapshots() if matches(item, hostname=hostname, paths=paths, tags=tags)]
            found = [item for item in found if not item.is_log]
            if not found:
                such = f" that is tagged {', '.join(tags)}" if tags else " like that"
                raise SnapshotMissing(
                    f"could not find the latest snapshot: there is none{such}",
                    hint="`keepwatch snapshots` lists what there is",
                )
            return found[-1]
        names = [file.name for file in self.storage.list(FileKind.SNAPSHOT) if ref and file.name.startswith(ref)]
        if len(names) != 1:
            reason = f"{len(names)} snapshots begin so" if names else "there is no such snapshot"
            raise SnapshotMissing(
                f"could not find snapshot {ref}: {reason}", hint="`keepwatch snapshots` lists what there is"
            )
        return self.load_snapshot(names[0])

    def commit(self, snapshot: Snapshot) -> str:
        """Store a snapshot and give its id. Everything it refers to must be flushed: raises BackupError otherwise."""
        self.require_lock()
        if self._building or self.index.pending:
            raise BackupError("refused to commit a snapshot before what it refers to is flushed")
        document = format_snapshot(replace(snapshot, id=""))
        return self._files.save(FileKind.SNAPSHOT, document)

    def delete_snapshots(self, names: Sequence[str]) -> None:
        """Remove snapshots; their data stay until pruned. Wants an exclusive lock.

        Raises StorageError, when some of them may be gone.
        """
        self.require_lock(exclusive=True)
        delete_all(self.storage, FileKind.SNAPSHOT, names)

    # ---- reading

    def load_index(
        self,
        *,
        on_damage: Callable[[CorruptData], None] | None = None,
        on_listing: Callable[[str, Columns], None] | None = None,
    ) -> Index:
        """Read all index files into a new `index`, the union of them; what is pending must be flushed before.

        ``on_listing`` gets each pack as it stands in a file, and may keep it. With either, or without an `index_cache`,
        every file is read. Raises CorruptData at the first file that cannot be read, unless ``on_damage`` takes it;
        StorageError.
        """
        if self.index.pending or self._building:
            raise BackupError("refused to load the index before what was added is flushed")
        index, held = Index(), frozenset[str]()
        files = list(self.storage.list(FileKind.INDEX))
        self.index_files = {file.name for file in files}
        if self.index_cache is not None and on_damage is None and on_listing is None:
            index, held = self.index_cache.recall(self.index_files)
            files = [file for file in files if file.name not in held]
        index.reserve(len(index) + sum(file.size for file in files) // _INDEX_BYTES_A_BLOB)
        for file in announced(self.storage, files, lambda file: [Read(FileKind.INDEX, file.name)]):
            try:
                if on_listing is None:
                    self._add_index_file(index, file.name)
                    continue
                for pack, columns in self._index_columns(file.name):
                    index.add_columns(pack, columns)
                    on_listing(pack.hex(), columns)
            except FileMissing:  # rewritten by a prune since it was listed, which a lock of ours would have kept out
                self.index_files.discard(file.name)
            except CorruptData as error:
                if on_damage is None:
                    raise
                on_damage(error)
        self.index = index
        self._index_loaded = self._lock is not None and self._lock.held
        return index

    def current_index(self) -> Index:
        """Give the index that was loaded under the exclusive lock that is held, or load it. Raises as `load_index`."""
        exclusive = self._lock is not None and self._lock.held and self._lock.exclusive
        return self.index if exclusive and self._index_loaded and not self.index.pending else self.load_index()

    def drop_index(self) -> None:
        """Forget the index, which names packs that are no more; whoever wants it again has to load it."""
        self.index = Index()
        self._index_loaded = False

    def keep_index(self) -> None:
        """Let the cache, if there is one, keep the index that was loaded and what was flushed since."""
        if self.index_cache is not None and not self.index.pending:
            self.index_cache.keep(self.index, self.index_files)

    def load_index_file(self, name: str) -> list[PackListing]:
        """Read one index file. Raises FileMissing, CorruptData (naming the file), StorageError."""
        document = self._files.load(FileKind.INDEX, name)
        with _naming(name):
            return parse_index(document)

    def split_index_file(self, name: str) -> list[PackDocument]:
        """Read of one index file only which packs it lists. Raises as `load_index_file`, and is much cheaper."""
        document = self._files.load(FileKind.INDEX, name)
        with _naming(name):
            return split_index(document)

    def _index_columns(self, name: str) -> list[tuple[bytes, Columns]]:
        document = self._files.load(FileKind.INDEX, name)
        with _naming(name):
            return parse_columns(document)

    def _add_index_file(self, index: Index, name: str) -> None:
        document = self._files.load(FileKind.INDEX, name)
        with _naming(name):
            index.add_document(document)

    def load_blob(self, kind: BlobKind, name: bytes) -> bytes:
        """Read one blob and prove it; when one copy is damaged, try the others. Raises CorruptData, StorageError."""
        failure: BackupError = missing_blob(name)
        for pack, offset, length, plain in self.index.lookup_all(kind, name):
            try:
                return self._reader.read_one(pack, BlobEntry(kind, name, offset, length, plain))
            except (CorruptData, StorageError) as error:
                failure = error
        raise failure

    def plan_reads(self, kind: BlobKind, names: Iterable[bytes]) -> list[PackRead]:
        """Group blobs by pack for `load_blobs` or for a `BlobReader` elsewhere. Raises CorruptData for one unknown."""
        return plan_reads(self.index, kind, names)

    def load_blobs(self, kind: BlobKind, names: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Give (id, plaintext) of each blob once, pack by pack, with few and long reads. Raises as `load_blob`."""
        for wanted in announced(self.storage, self.plan_reads(kind, names), reads):
            done: set[bytes] = set()
            try:
                for name, plain in self._reader.read(wanted):
                    done.add(name)
                    yield name, plain
            except (CorruptData, StorageError):
                for entry in wanted.entries:
                    if entry.id not in done:
                        yield entry.id, self.load_blob(kind, entry.id)

    # ---- writing

    def save_blob(self, kind: BlobKind, data: Buffer, name: bytes | None = None) -> tuple[bytes, int]:
        """Add a blob unless it is known; gives its id and the sealed bytes added, 0 when it was known.

        The blob is durable after `flush`. Raises RepositoryLocked, StorageError.
        """
        self._require_index()
        name = name or blob_id(data)
        if (kind, name) in self._building or self.index.contains(kind, name):
            return name, 0
        builder = self._builder(kind)
        added = builder.add(name, data)
        self._building.add((kind, name))
        if builder.full:
            self._store(builder)
            self._flush_index(when_due=True)
        return name, added

    def _builder(self, kind: BlobKind) -> PackBuilder:
        if kind not in self._builders:
            self._builders[kind] = PackBuilder(self.key, kind)
        return self._builders[kind]

    def _store(self, builder: PackBuilder) -> None:
        """Put a pack while the caller goes on; the one before is durable then."""
        self.require_lock()
        pack = builder.finish()
        self._settle()
        self._putting = pack.record, builder.kind, self._putter.submit(
            self.storage.put, FileKind.DATA, pack.id, pack.content
        )  # fmt: skip

    def _settle(self) -> None:
        """Wait for the pack that is being put. Raises StorageError."""
        if self._putting is not None:
            (record, kind, putting), self._putting = self._putting, None
            putting.result()
            self._note(record)
            self._building.difference_update((kind, entry.id) for entry in record.entries())

    def _note(self, record: PackRecord) -> None:
        self.index.add(record)
        self._oldest_pending_at = self._oldest_pending_at or self.clock()

    def add_packs(self, records: Iterable[PackRecord]) -> None:
        """Take over packs that worker processes have put already; writes an index file when one is due."""
        self._require_index()
        for record in records:
            self._note(record)
        self._flush_index(when_due=True)

    def flush(self) -> None:
        """Make everything added durable and findable: unfinished packs, then the index. Raises StorageError."""
        self._flush_packs()
        self._flush_index()

    def _flush_packs(self) -> None:
        for builder in self._builders.values():
            if builder.count:
                self._store(builder)
        self._settle()

    def _flush_index(self, *, when_due: bool = False) -> None:
        index = self.index
        if not index.pending:
            return
        old = self._oldest_pending_at is not None and self.clock() - self._oldest_pending_at >= FLUSH_AFTER
        if when_due and index.pending_blobs < FLUSH_BLOBS and not old:
            return
        self.require_lock()
        listings = (PackListing(record.id, record.entries()) for record in index.pending)
        self.index_files.add(self.save_index_file(listings))
        index.mark_saved()
        self._oldest_pending_at = None

    def save_index_file(self, listings: Iterable[PackListing]) -> str:
        """Store one index file and give its name. Only `flush` and logs have a reason to call this."""
        self.require_lock()
        return self._files.save(FileKind.INDEX, format_index(listings))

    def join_index_file(self, packs: Iterable[PackDocument]) -> str:
        """Store one index file of what `split_index_file` gave. Only prune has a reason to call this."""
        self.require_lock()
        return self._files.save(FileKind.INDEX, join_index(packs))


@contextmanager
def _naming(index_file: str) -> Iterator[None]:
    """Tell with an error which index file it is about."""
    try:
        yield
    except CorruptData as error:
        raise CorruptData(f"{error} in index {index_file[:8]}", name=index_file) from error
