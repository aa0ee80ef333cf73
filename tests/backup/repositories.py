"""Making repositories for tests: small trees written by hand, cheap keys, a clock that a test moves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from backup.keys import KdfParameters
from backup.lock import LockTiming
from backup.pack import BlobKind
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.storage.base import Storage
from backup.tree import Node, as_text, encode_node, encode_tree, parse_tree

PASSWORD = "correct horse"
CHEAP = KdfParameters(1024, 8, 1)
PROMPT = LockTiming(settle=timedelta(0), reread_after=(timedelta(0),), retry_every=timedelta(milliseconds=5))
"""restic's intervals without its pauses, for tests that are alone."""

Folder = Mapping[str, "bytes | Folder"]


@dataclass
class FakeClock:
    """A clock that only a test moves."""

    now: datetime = field(default_factory=lambda: datetime(2026, 3, 1, 12, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


def create(storage: Storage, clock: FakeClock) -> Repository:
    return Repository.create(storage, PASSWORD, clock=clock, kdf=CHEAP, timing=PROMPT)


def reopen(storage: Storage, clock: FakeClock) -> Repository:
    return Repository.open(storage, PASSWORD, clock=clock, timing=PROMPT)


def save_folder(repository: Repository, folder: Folder) -> bytes:
    """Save a folder's files and trees; gives the tree's id."""
    nodes = []
    for name, content in sorted(folder.items(), key=lambda item: item[0].encode()):
        raw = name.encode()
        if isinstance(content, bytes):
            blob, _ = repository.save_blob(BlobKind.DATA, content)
            nodes.append(Node(name=raw, type="file", mode=0o644, size=len(content), content=(blob,)))
        else:
            nodes.append(Node(name=raw, type="dir", mode=1 << 31 | 0o755, subtree=save_folder(repository, content)))
    return save_nodes(repository, *nodes)


def save_nodes(repository: Repository, *nodes: Node) -> bytes:
    """Save a tree of exactly these nodes, sound or not."""
    return repository.save_blob(BlobKind.TREE, encode_tree(map(encode_node, nodes)))[0]


def commit(
    repository: Repository, tree: bytes, *, hostname: str = "erp-1", tags: tuple[str, ...] = (), path: str = "/srv"
) -> str:
    repository.flush()
    snapshot = Snapshot(time=repository.clock(), tree=tree, paths=(path,), hostname=hostname, tags=tags)
    return repository.commit(snapshot)


def back_up(repository: Repository, folder: Folder, *, tags: tuple[str, ...] = ()) -> str:
    """Take a snapshot of a folder given by hand, under a lock; gives its id."""
    with repository.lock():
        repository.load_index()
        return commit(repository, save_folder(repository, folder), tags=tags)


def read_back(repository: Repository, snapshot: str) -> dict[str, bytes]:
    """Read all files of a snapshot by path."""
    repository.load_index()
    found: dict[str, bytes] = {}
    pending = [("", repository.load_snapshot(snapshot).tree)]
    while pending:
        path, tree = pending.pop()
        for node in parse_tree(repository.load_blob(BlobKind.TREE, tree)):
            place = f"{path}/{as_text(node.name)}"
            if node.subtree:
                pending.append((place, node.subtree))
            elif node.content is not None:
                found[place] = b"".join(repository.load_blob(BlobKind.DATA, blob) for blob in node.content)
    return found
