"""Verifying a repository: a strict superset of `restic check`, with or without its `--read-data`, naming all it finds.

Structure: every key, index, snapshot and tree opens; every pack that an index names exists with exactly the size that
its entries add up to; no gaps, overlaps or contradictions between indexes; in each tree names are safe, sorted and
unique, types known, and a file's blobs exist and add up to its size. With ``read_data`` every byte of the packs is read
and proven. It never repairs, never stops at the first defect and never writes.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from operator import lt
from typing import Final

from backup.damage import needs_of
from backup.errors import BackupError, CorruptData, StorageError
from backup.index import Columns
from backup.keys import load_key_file
from backup.pack import BlobKind, format_header, pack_size
from backup.proofs import PackProof, PackTask, Proving
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.storage.base import FileKind
from backup.tree import Node, as_text, parse_tree

_NO_NAMES: Final = {b"", b".", b".."}
_TYPES: Final = {"file", "dir", "symlink", "dev", "chardev", "fifo", "socket"}


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Something cannot be restored as it was, or may not."""
    HINT = "hint"
    """Untidy: waste or redundancy that harms nobody."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    severity: Severity
    code: str
    """What it is, as a stable word such as ``blob-missing``."""
    subject: str
    """Which file, pack, blob, or ``snapshot:path``."""
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.code}: {self.subject}: {self.message}"


def _error(code: str, subject: str, message: str) -> Finding:
    return Finding(Severity.ERROR, code, subject, message)


def _hint(code: str, subject: str, message: str) -> Finding:
    return Finding(Severity.HINT, code, subject, message)


Choose = Callable[[Mapping[str, int]], Collection[str]]
"""Chooses which packs to read from all that the index names: name to size in bytes."""
OnPack = Callable[[PackProof], None]


def verify(
    repository: Repository,
    *,
    read_data: bool = False,
    choose: Choose | None = None,
    on_pack: OnPack = lambda _proof: None,
    only: Snapshot | None = None,
) -> Iterator[Finding]:
    """Look at everything and give what is wrong; nothing given means all is well.

    ``read_data`` reads all packs, ``choose`` those that it gives; ``on_pack`` gets the proof of each that was read, so
    that progress can be shown and remembered. What is wrong with a pack is followed by who needs it. With ``only`` the
    trees of that snapshot alone are walked. Loads the index.
    Hold a lock, exclusive to be safe from a backup's unfinished work looking like waste. Raises StorageError when the
    storage itself fails.
    """
    yield from _keys(repository)
    yield from _index_files(repository)
    damaged: set[str] = set()
    yield from _packs(repository, damaged)
    packs = dict(repository.index.packs())
    chosen = set(choose(packs)) & packs.keys() if choose else packs.keys() if read_data else set[str]()
    with closing(_Content(repository, chosen, on_pack, damaged)) as content:
        yield from _Trees(repository, only, between=content.advance).findings()
        yield from content.findings()
    yield from _needs(repository, damaged)


# ---- keys, indexes, packs


def _keys(repository: Repository) -> Iterator[Finding]:
    for file in list(repository.storage.list(FileKind.KEY)):
        try:
            load_key_file(repository.storage, file.name)
        except CorruptData as error:
            yield _error("key-damaged", f"key {file.name}", str(error))


def _index_files(repository: Repository) -> Iterator[Finding]:
    """Judge each index file and all of them together; loads the index from those that can be read."""
    damaged: list[CorruptData] = []
    findings: list[Finding] = []
    listed: dict[str, bytes] = {}

    def judge(pack: str, columns: Columns) -> None:
        columns = columns.by_offset()
        findings.extend(_listing(pack, columns))
        digest = hashlib.sha256(b"".join((columns.ids, bytes(map(bool, columns.kinds)), *columns[2:]))).digest()
        if pack not in listed:
            listed[pack] = digest
        elif listed[pack] != digest:
            message = "two listings of it name different blobs"
            findings.append(_error("index-contradiction", f"pack {pack}", message))
        else:
            findings.append(_hint("index-duplicate", f"pack {pack}", "it is listed more than once"))

    repository.load_index(on_damage=damaged.append, on_listing=judge)
    for error in damaged:
        yield _error("index-damaged", f"index {error.name}", str(error))
    yield from findings


def _listing(pack: str, columns: Columns) -> Iterator[Finding]:
    subject = f"pack {pack}"
    if not columns.is_seamless:
        end = 0
        for offset, length in zip(columns.offsets, columns.lengths, strict=True):
            if offset != end:
                how = "a gap" if offset > end else "an overlap"
                yield _error("index-gap", subject, f"the index has {how} before byte {offset}")
            end = offset + length
    if len(set(columns.kinds)) > 1:
        yield _hint("pack-mixed", subject, "it holds both data and tree blobs")
    if len(set(zip(columns.kinds, columns.names(), strict=True))) < len(columns.kinds):
        yield _hint("blob-duplicate", subject, "it holds a blob more than once")


def _packs(repository: Repository, damaged: set[str]) -> Iterator[Finding]:
    stored = {file.name: file.size for file in repository.storage.list(FileKind.DATA)}
    for pack, size in repository.index.packs():
        there = stored.pop(pack, None)
        if there != size:
            damaged.add(pack)
        if there is None:
            yield _error("pack-missing", f"pack {pack}", "an index names it, and it is not in the storage")
        elif there != size:
            yield _error("pack-size", f"pack {pack}", f"it has {there} bytes instead of {size}")
    for pack, size in stored.items():
        yield _hint("pack-orphan", f"pack {pack}", f"no index names it; prune frees its {size} bytes")


class _Content:
    """The proving of packs, which goes on in workers while this process walks the trees."""

    def __init__(
        self, repository: Repository, chosen: Collection[str], on_pack: OnPack, damaged: set[str]
    ) -> None:
        self._on_pack = on_pack
        self._damaged = damaged
        self._findings: list[Finding] = []
        total = sum(size for pack, size in repository.index.packs() if pack in chosen)
        self._proving = Proving(repository.storage, repository.key, _tasks(repository, chosen), total)

    def advance(self) -> None:
        """Take in what is proven, without waiting."""
        for proof in self._proving.advance():
            self._judge(proof)

    def findings(self) -> Iterator[Finding]:
        """Wait for all packs and give what is wrong with them."""
        for proof in self._proving.finish():
            self._judge(proof)
            yield from self._findings
            self._findings.clear()
        yield from self._findings

    def close(self) -> None:
        """End the workers."""
        self._proving.close()

    def _judge(self, proof: PackProof) -> None:
        for code, subject, message in proof.defects:
            self._damaged.add(proof.pack)
            if code not in {"pack-missing", "pack-size"}:  # the listing has told that already
                self._findings.append(_error(code, subject, message))
        self._on_pack(proof)


def _tasks(repository: Repository, chosen: Collection[str]) -> Iterator[PackTask]:
    """Give the packs to be proven, one by one: all headers at once would not fit into the memory."""
    if not chosen:
        return
    for pack, columns in repository.index.listings():
        if pack in chosen:
            entries = list(columns.by_offset().entries())
            yield PackTask(pack, pack_size(entries), format_header(entries))


def _needs(repository: Repository, damaged: Collection[str]) -> Iterator[Finding]:
    for pack, need in needs_of(repository, damaged).items():
        if need.snapshots:
            yield _error("pack-needed", f"pack {pack}", str(need))
        else:
            yield _hint("pack-unneeded", f"pack {pack}", "no snapshot needs it; prune removes it")


# ---- snapshots and trees


class _Trees:
    """Walks the trees of all snapshots, or of one, each tree once; its defects are told with the first path that leads
    to it.

    ``between`` is called before each tree.
    """

    def __init__(self, repository: Repository, only: Snapshot | None, between: Callable[[], None]) -> None:
        self._repository = repository
        self._only = only
        self._between = between
        self._index = repository.index
        self._seen = bytearray(len(repository.index))

    def findings(self) -> Iterator[Finding]:
        if self._only is not None:
            yield from self._walk(self._only.short_id, self._only.tree)
            return
        damaged: list[CorruptData] = []
        for snapshot in self._repository.snapshots(on_damage=damaged.append):
            yield from self._walk(snapshot.short_id, snapshot.tree)
        for error in damaged:
            yield _error("snapshot-damaged", f"snapshot {error.name}", str(error))

    def _walk(self, snapshot: str, root: bytes) -> Iterator[Finding]:
        pending = [("/", root)]
        while pending:
            path, tree = pending.pop()
            records = self._index.numbers(BlobKind.TREE, tree)
            if not records:
                yield _error("blob-missing", f"{snapshot}:{path}", f"its tree {tree.hex()} is in no pack")
                continue
            if self._seen[records[0]]:
                continue
            self._seen[records[0]] = 1
            self._between()
            try:
                nodes = parse_tree(self._repository.load_blob(BlobKind.TREE, tree))
            except (CorruptData, StorageError) as error:
                yield _error("tree-damaged", f"{snapshot}:{path}", f"tree {tree.hex()}: {error}")
                continue
            yield from self._order(f"{snapshot}:{path}", nodes)
            for node in nodes:
                if node.type != "file" or _is_unsafe(node.name) or not self._is_whole(node):
                    yield from self._node(f"{snapshot}:{path}{as_text(node.name)}", node)
                if node.type == "dir" and node.subtree:
                    pending.append((f"{path}{as_text(node.name)}/", node.subtree))

    def _is_whole(self, node: Node) -> bool:
        """Whether nothing is wrong with a file's content: of nearly all, this is all that needs to be asked."""
        length_of, size = self._index.plain_length, 0
        for name in node.content or ():
            length = length_of(BlobKind.DATA, name)
            if length is None:
                return False
            size += length
        return size == node.size and node.content is not None

    @staticmethod
    def _order(subject: str, nodes: list[Node]) -> Iterator[Finding]:
        names = [node.name for node in nodes]
        if all(map(lt, names, names[1:])):
            return
        for before, node in pairwise(nodes):
            if before.name == node.name:
                yield _error("name-duplicate", subject, f"two entries are called {as_text(node.name)!r}")
            elif before.name > node.name:
                yield _error("tree-unsorted", subject, f"{as_text(node.name)!r} stands after {as_text(before.name)!r}")

    def _node(self, subject: str, node: Node) -> Iterator[Finding]:
        if _is_unsafe(node.name):
            yield _error("name-unsafe", subject, f"an entry is called {as_text(node.name)!r}")
        if node.type not in _TYPES:
            yield _error("type-unknown", subject, f"its type is {node.type!r}")
        elif node.type == "file":
            yield from self._file(subject, node)
        elif node.type == "dir" and node.subtree is None:
            yield _error("subtree-missing", subject, "a directory without a tree")

    def _file(self, subject: str, node: Node) -> Iterator[Finding]:
        if node.content is None:
            yield _error("content-missing", subject, "a file without a list of blobs")
            return
        size, whole = 0, True
        for name in node.content:
            length = self._index.plain_length(BlobKind.DATA, name)
            if length is None:
                whole = False
                yield _error("blob-missing", subject, f"its blob {name.hex()} is in no pack")
            else:
                size += length
        if whole and size != node.size:
            yield _error("size-mismatch", subject, f"it should have {node.size} bytes, and its blobs have {size}")


def _is_unsafe(name: bytes) -> bool:
    return name in _NO_NAMES or b"/" in name or b"\0" in name


def worst(findings: Collection[Finding]) -> BackupError | None:
    """Give the error that a command should end with; None when there are only hints."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not errors:
        return None
    return CorruptData(f"found {len(errors)} errors in the repository, the first: {errors[0]}", name=errors[0].subject)
