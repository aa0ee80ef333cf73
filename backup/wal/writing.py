"""Stores files of the write-ahead log, each in a snapshot of its own, durable when the call returns.

Such a snapshot is no backup of its job: it carries ``wal`` and ``wal-of:JOB`` and no ``job:JOB``, so that whatever
chooses or counts backups by their job never sees it. The index of the repository is neither read nor kept: segments
have nothing in common with anything but themselves, so their blobs are stored without being looked up, and each file
brings an index file of its own.
"""

import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from backup.index import PackListing
from backup.pack import BlobKind, FinishedPack, PackBuilder, blob_id
from backup.portions import encode_file, encode_status
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.sources.streams import made_up
from backup.storage.base import FileKind
from backup.tree import encode_name, encode_rest, encode_tree

PIECE_BYTES = 1 << 20
TAG = "wal"
_SEALERS = 2
"""Threads that seal: hashes and compression let others run."""


def tag_of(job: str, kind: str = TAG) -> str:
    """Return the tag of a job's log."""
    return f"{kind}-of:{job}"


def folder_of(job: str, kind: str = TAG) -> str:
    """Return the folder of a snapshot in which a job's log lies."""
    return f"{job}.{kind}"


class WalWriter:
    """Stores the log of one job in one repository, which the caller has locked whenever something is stored.

    ``kind`` names it in tags and in its folder: other servers keep logs, too.
    """

    def __init__(self, repository: Repository, job: str, host: str, *, kind: str = TAG) -> None:
        self._repository = repository
        self._job = job
        self._kind = kind
        self._host = host
        self._threads = ThreadPoolExecutor(_SEALERS, thread_name_prefix="seal")
        self._builders = [PackBuilder(repository.key, BlobKind.DATA) for _ in range(_SEALERS)]
        self._trees = PackBuilder(repository.key, BlobKind.TREE)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def ids_of(self, content: memoryview) -> list[bytes]:
        """Name the pieces of a file."""
        return list(self._threads.map(blob_id, _pieces(content)))

    def store(
        self, name: str, content: memoryview, at: datetime, *, known: Sequence[bytes] = ()
    ) -> tuple[str, list[bytes]]:
        """Store one file that was complete ``at`` that moment; gives the snapshot's id, and those of the pieces.

        ``known`` are ids of pieces that a snapshot which stays until then holds already. Raises RepositoryLocked,
        StorageError.
        """
        self._repository.require_lock()
        ids, listings = self.store_pieces(_pieces(content), known=known)
        node = encode_file(encode_name(name), made_up(stat.S_IFREG | 0o600, at), len(content), ids, ())
        return self.commit([(name, node)], at, listings, (f"segment:{name}",)), ids

    def commit(
        self, nodes: Sequence[tuple[str, str]], at: datetime, listings: list[PackListing], tags: tuple[str, ...]
    ) -> str:
        """Store a snapshot of files whose pieces are stored or listed here; ``nodes``: names and encoded nodes."""
        repository = self._repository
        inner = encode_tree(node for _, node in sorted(nodes))
        folder = folder_of(self._job, self._kind)
        head = encode_status(encode_name(folder), "dir", made_up(stat.S_IFDIR | 0o700, at))
        root = encode_tree([head + encode_rest(subtree=blob_id(inner))])
        for tree in (inner, root):
            self._trees.add(blob_id(tree), tree)
        pack = self._trees.finish()
        self._put(pack)
        repository.save_index_file([*listings, _listing(pack)])
        return repository.commit(
            Snapshot(
                time=at, tree=blob_id(root), paths=(f"/{folder}",), hostname=self._host,
                username=repository.owner.username, uid=os.getuid(), gid=os.getgid(),
                tags=("keepwatch", self._kind, tag_of(self._job, self._kind), *tags),
            )
        )  # fmt: skip

    def store_pieces(
        self, pieces: Sequence[memoryview], *, known: Sequence[bytes] = ()
    ) -> tuple[list[bytes], list[PackListing]]:
        """Seal and put what is not ``known``, in as many packs as there are threads. Waits for all of them.

        Gives the pieces' ids in their order. Equal pieces are stored once, as long as they do not meet.
        """
        there = set(known)

        def seal(builder: PackBuilder, share: Sequence[memoryview]) -> tuple[list[bytes], PackListing | None]:
            ids = []
            for piece in share:
                name = blob_id(piece) if known else b""  # what is all new is hashed once, when it is sealed
                if name not in there:
                    ((name, _),) = builder.add_unnamed([piece], lambda found: found not in there)
                    there.add(name)
                ids.append(name)
            if not builder.count:
                return ids, None
            pack = builder.finish()
            self._put(pack)
            return ids, _listing(pack)

        sealers = _SEALERS if len(pieces) > _SEALERS else 1
        shares = [pieces[number::sealers] for number in range(sealers)]
        sealed = list(self._threads.map(seal, self._builders, shares))
        names = [sealed[number % sealers][0][number // sealers] for number in range(len(pieces))]
        return names, [listing for _, listing in sealed if listing is not None]

    def _put(self, pack: FinishedPack) -> None:
        self._repository.storage.put(FileKind.DATA, pack.id, pack.content)


def _pieces(content: memoryview) -> list[memoryview]:
    return [content[at : at + PIECE_BYTES] for at in range(0, len(content), PIECE_BYTES)]


def _listing(pack: FinishedPack) -> PackListing:
    return PackListing(pack.id, pack.record.entries())
