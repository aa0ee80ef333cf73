"""Verify: every planted defect is found and named, and a sound repository is called sound."""

import hashlib
import os
from collections.abc import Callable, Iterator

import pytest

from backup.crypto import Sealer
from backup.damage import needs_of
from backup.errors import BackupError, CorruptData
from backup.index import PackListing, format_index
from backup.pack import BlobEntry, BlobKind, PackBuilder, blob_id, format_header, pack_size
from backup.proofs import PackProof, PackTask, prove_packs
from backup.repository import Repository
from backup.storage.base import CONFIG_NAME, FileKind
from backup.tree import Node, encode_tree
from backup.verify import Finding, Severity, verify, worst
from tests.backup.repositories import FakeClock, back_up, commit, reopen, save_nodes
from tests.backup.storages import MemoryStorage, names

FILES = {"a": os.urandom(3000), "b": b"text " * 1000, "folder": {"c": os.urandom(100), "empty": b""}}
KNOWN = b"five!"


@pytest.fixture
def snapshot(repository: Repository) -> str:
    return back_up(repository, FILES)


def found(repository: Repository, *, read_data: bool = False) -> dict[str, str]:
    """Codes of all findings with their subjects."""
    return {finding.code: finding.subject for finding in verify(repository, read_data=read_data)}


def put_raw(repository: Repository, memory: MemoryStorage, kind: FileKind, document: bytes) -> str:
    sealed = Sealer(repository.key).seal(document)
    name = hashlib.sha256(sealed).hexdigest()
    memory.files[kind, name] = sealed
    return name


def pack_with(repository: Repository, kind: BlobKind) -> str:
    index = repository.load_index()
    packs = [pack for pack, _ in index.packs()]
    return next(packs[index.pack_number(n)] for n in range(len(index)) if index.entry(n).kind is kind)


def test_a_sound_repository_has_no_findings(repository: Repository, snapshot: str) -> None:
    assert found(repository, read_data=True) == {}
    assert worst(()) is None


# ---- one flipped bit in every region of every kind of file


def regions(size: int) -> Iterator[int]:
    """First and last bytes, where IV, lengths and codes lie, and samples of what is between."""
    yield from (0, 1, 15, 16, 17, size // 3, size // 2, size - 70, size - 40, size - 21, size - 17, size - 5)
    yield from range(size - 4, size)


@pytest.mark.parametrize("kind", [BlobKind.DATA, BlobKind.TREE])
def test_a_flipped_bit_anywhere_in_a_pack_is_found_and_the_pack_is_named(
    repository: Repository, memory: MemoryStorage, snapshot: str, kind: BlobKind
) -> None:
    pack = pack_with(repository, kind)
    sound = memory.files[FileKind.DATA, pack]
    for position in regions(len(sound)):
        damaged = bytearray(sound)
        damaged[position] ^= 1 << position % 8
        memory.files[FileKind.DATA, pack] = bytes(damaged)
        findings = list(verify(repository, read_data=True))
        assert any(item.code == "pack-hash" and pack in item.subject for item in findings), position
        assert worst(findings)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(FileKind.KEY, "key-damaged"), (FileKind.INDEX, "index-damaged"), (FileKind.SNAPSHOT, "snapshot-damaged")],
)
def test_a_flipped_bit_anywhere_in_a_small_file_is_found_and_the_file_is_named(
    repository: Repository, memory: MemoryStorage, snapshot: str, kind: FileKind, code: str
) -> None:
    (name,) = names(memory, kind)
    sound = memory.files[kind, name]
    for position in range(0, len(sound), 7):
        damaged = bytearray(sound)
        damaged[position] ^= 1 << position % 8
        memory.files[kind, name] = bytes(damaged)
        assert found(repository)[code].endswith(name)


def test_a_flipped_bit_anywhere_in_the_config_keeps_the_repository_from_opening(
    repository: Repository, memory: MemoryStorage, clock: FakeClock
) -> None:
    sound = memory.files[FileKind.CONFIG, CONFIG_NAME]
    for position in range(len(sound)):
        damaged = bytearray(sound)
        damaged[position] ^= 1 << position % 8
        memory.files[FileKind.CONFIG, CONFIG_NAME] = bytes(damaged)
        with pytest.raises(CorruptData, match="config"):
            reopen(memory, clock)


def test_a_damaged_blob_is_named_and_so_is_every_other_one(
    repository: Repository, memory: MemoryStorage, snapshot: str
) -> None:
    pack = pack_with(repository, BlobKind.DATA)
    content = bytearray(memory.files[FileKind.DATA, pack])
    content[20] ^= 1
    content[3050] ^= 1
    memory.files[FileKind.DATA, pack] = bytes(content)
    damaged = {item.subject for item in verify(repository, read_data=True) if item.code == "blob-damaged"}
    assert damaged == {f"blob {blob_id(FILES['a']).hex()}", f"blob {blob_id(FILES['b']).hex()}"}  # type: ignore[arg-type]


def test_a_damaged_tree_is_named_with_its_path_without_reading_data(
    repository: Repository, memory: MemoryStorage, snapshot: str
) -> None:
    pack = pack_with(repository, BlobKind.TREE)
    content = bytearray(memory.files[FileKind.DATA, pack])
    content[20] ^= 1  # the first tree stored is the innermost folder's
    memory.files[FileKind.DATA, pack] = bytes(content)
    assert found(repository) == {"tree-damaged": f"{snapshot[:8]}:/folder/"}


def test_without_reading_data_a_flipped_bit_in_a_data_pack_is_not_seen(
    repository: Repository, memory: MemoryStorage, snapshot: str
) -> None:
    pack = pack_with(repository, BlobKind.DATA)
    memory.files[FileKind.DATA, pack] = bytes([memory.files[FileKind.DATA, pack][0] ^ 1]) + memory.files[
        FileKind.DATA, pack
    ][1:]
    assert found(repository) == {}


# ---- packs and indexes


def test_a_missing_pack_is_named(repository: Repository, memory: MemoryStorage, snapshot: str) -> None:
    pack = pack_with(repository, BlobKind.DATA)
    memory.delete(FileKind.DATA, pack)
    assert found(repository, read_data=True) == {"pack-missing": f"pack {pack}", "pack-needed": f"pack {pack}"}


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda _data: b""])
def test_a_pack_of_another_size_is_named(
    repository: Repository, memory: MemoryStorage, snapshot: str, change: Callable[[bytes], bytes]
) -> None:
    pack = pack_with(repository, BlobKind.DATA)
    memory.files[FileKind.DATA, pack] = change(memory.files[FileKind.DATA, pack])
    assert found(repository)["pack-size"] == f"pack {pack}"


def test_a_missing_index_leaves_trees_and_blobs_without_a_place(
    repository: Repository, memory: MemoryStorage, snapshot: str
) -> None:
    memory.delete(FileKind.INDEX, names(memory, FileKind.INDEX)[0])
    assert found(repository)["blob-missing"] == f"{snapshot[:8]}:/"


def test_an_orphan_is_a_hint_and_no_error(repository: Repository, memory: MemoryStorage, snapshot: str) -> None:
    memory.files[FileKind.DATA, "ab" * 32] = b"rest of a run that died"
    (finding,) = verify(repository, read_data=True)
    assert (finding.severity, finding.code, finding.subject) == (Severity.HINT, "pack-orphan", f"pack {'ab' * 32}")
    assert worst([finding]) is None


def listings(repository: Repository, memory: MemoryStorage) -> list[PackListing]:
    return [listing for name in names(memory, FileKind.INDEX) for listing in repository.load_index_file(name)]


def test_a_pack_listed_twice_alike_is_a_hint(repository: Repository, memory: MemoryStorage, snapshot: str) -> None:
    first = listings(repository, memory)[0]
    put_raw(repository, memory, FileKind.INDEX, format_index([first]))
    assert found(repository, read_data=True) == {"index-duplicate": f"pack {first.pack}"}


def test_two_listings_that_disagree_are_an_error(repository: Repository, memory: MemoryStorage, snapshot: str) -> None:
    first = listings(repository, memory)[0]
    entries = [first.entries[0]._replace(id=b"x" * 32), *first.entries[1:]]
    put_raw(repository, memory, FileKind.INDEX, format_index([PackListing(first.pack, entries)]))
    assert found(repository)["index-contradiction"] == f"pack {first.pack}"


@pytest.mark.parametrize("by", [-1, 1])
def test_a_gap_or_overlap_in_a_listing_is_an_error(
    repository: Repository, memory: MemoryStorage, snapshot: str, by: int
) -> None:
    first = next(listing for listing in listings(repository, memory) if len(listing.entries) > 1)
    entries = [first.entries[0], first.entries[1]._replace(offset=first.entries[1].offset + by), *first.entries[2:]]
    memory.delete(FileKind.INDEX, names(memory, FileKind.INDEX)[0])
    put_raw(repository, memory, FileKind.INDEX, format_index([PackListing(first.pack, entries)]))
    assert found(repository)["index-gap"] == f"pack {first.pack}"


def test_a_header_that_names_other_blobs_than_the_index_is_found_by_reading(
    repository: Repository, memory: MemoryStorage, snapshot: str
) -> None:
    all_listings = listings(repository, memory)
    first = next(listing for listing in all_listings if len(listing.entries) > 1)
    swapped = [first.entries[0]._replace(id=b"x" * 32), *first.entries[1:]]
    others = [listing for listing in all_listings if listing is not first]
    memory.delete(FileKind.INDEX, names(memory, FileKind.INDEX)[0])
    put_raw(repository, memory, FileKind.INDEX, format_index([PackListing(first.pack, swapped), *others]))
    assert found(repository, read_data=True)["pack-header"] == f"pack {first.pack}"


def test_a_pack_of_mixed_kinds_is_a_hint(repository: Repository, memory: MemoryStorage, snapshot: str) -> None:
    first = listings(repository, memory)[0]
    entries = [*first.entries, BlobEntry(BlobKind.TREE, b"t" * 32, sum(e.length for e in first.entries), 40, 0)]
    memory.delete(FileKind.INDEX, names(memory, FileKind.INDEX)[0])
    put_raw(repository, memory, FileKind.INDEX, format_index([PackListing("ab" * 32, entries)]))
    assert found(repository)["pack-mixed"] == f"pack {'ab' * 32}"


def test_an_index_that_is_no_index_is_named(repository: Repository, memory: MemoryStorage, snapshot: str) -> None:
    name = put_raw(repository, memory, FileKind.INDEX, b'{"packs":[{}]}')
    assert found(repository) == {"index-damaged": f"index {name}"}


# ---- trees: what restic check lets pass


def node(name: bytes = b"f", **fields: object) -> Node:
    return Node(**({"name": name, "type": "file", "mode": 0o644, "size": 5, "content": (blob_id(KNOWN),)} | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nodes", "code", "place"),
    [
        ([node(size=6)], "size-mismatch", "/f"),
        ([node(size=0)], "size-mismatch", "/f"),
        ([node(content=(blob_id(KNOWN),) * 2)], "size-mismatch", "/f"),
        ([node(content=())], "size-mismatch", "/f"),
        ([node(content=None)], "content-missing", "/f"),
        ([node(content=(b"x" * 32,))], "blob-missing", "/f"),
        ([node(b"b"), node(b"a")], "tree-unsorted", "/"),
        ([node(b"a"), node(b"a")], "name-duplicate", "/"),
        ([node(b"..")], "name-unsafe", "/.."),
        ([node(b".")], "name-unsafe", "/."),
        ([node(b"")], "name-unsafe", "/"),
        ([node(b"a/b")], "name-unsafe", "/a/b"),
        ([node(b"../../etc/passwd")], "name-unsafe", "/../../etc/passwd"),
        ([node(b"nul\0")], "name-unsafe", "/nul\0"),
        ([node(type="irregular")], "type-unknown", "/f"),
        ([node(type="")], "type-unknown", "/f"),
        ([Node(name=b"d", type="dir")], "subtree-missing", "/d"),
        ([Node(name=b"d", type="dir", subtree=b"x" * 32)], "blob-missing", "/d/"),
    ],
)
def test_a_bad_tree_is_found_and_its_path_named(
    repository: Repository, nodes: list[Node], code: str, place: str
) -> None:
    with repository.lock():
        repository.load_index()
        repository.save_blob(BlobKind.DATA, KNOWN)
        snapshot = commit(repository, save_nodes(repository, *nodes))
    assert found(repository) == {code: f"{snapshot[:8]}:{place}"}


@pytest.mark.parametrize(
    "fine",
    [
        [node()],
        [node(content=(), size=0)],
        [node(b"a"), node("ü".encode()), node(b"\xff")],
        [Node(name=b"l", type="symlink", linktarget=b"../../x")],
        [Node(name=name, type=name.decode()) for name in (b"chardev", b"dev", b"fifo")],
    ],
)
def test_a_good_tree_has_no_findings(repository: Repository, fine: list[Node]) -> None:
    with repository.lock():
        repository.load_index()
        repository.save_blob(BlobKind.DATA, KNOWN)
        commit(repository, save_nodes(repository, *fine))
    assert found(repository, read_data=True) == {}


def test_a_tree_that_is_no_tree_is_named(repository: Repository) -> None:
    with repository.lock():
        repository.load_index()
        snapshot = commit(repository, repository.save_blob(BlobKind.TREE, b'{"nodes":1}\n')[0])
    assert found(repository) == {"tree-damaged": f"{snapshot[:8]}:/"}


def test_a_tree_that_many_snapshots_share_is_told_once(repository: Repository, clock: FakeClock) -> None:
    with repository.lock():
        repository.load_index()
        repository.save_blob(BlobKind.DATA, KNOWN)
        tree = save_nodes(repository, node(size=6))
        for _ in range(3):
            clock.advance(hours=1)
            commit(repository, tree)
    assert len(list(verify(repository))) == 1


def test_trees_are_read_where_another_copy_is_sound(repository: Repository, memory: MemoryStorage) -> None:
    back_up(repository, {})
    pack = pack_with(repository, BlobKind.TREE)
    with repository.lock():
        repository.load_index()
        builder = PackBuilder(repository.key, BlobKind.TREE)
        builder.add(blob_id(encode_tree(())), encode_tree(()))
        copy = builder.finish()
        memory.put(FileKind.DATA, copy.id, copy.content)
        repository.add_packs([copy.record])
        repository.flush()
    content = memory.files[FileKind.DATA, pack]
    memory.files[FileKind.DATA, pack] = content[:20] + bytes([content[20] ^ 1]) + content[21:]
    assert found(repository) == {}


# ---- reading


def test_only_the_packs_asked_for_are_read_and_told_of(repository: Repository, snapshot: str) -> None:
    pack = pack_with(repository, BlobKind.TREE)
    told: list[tuple[str, int]] = []
    def tell(proof: PackProof) -> None:
        told.append((proof.pack, proof.size))

    assert list(verify(repository, choose=lambda _: {pack}, on_pack=tell)) == []
    assert told == [(pack, dict(repository.index.packs())[pack])]
    told.clear()
    assert list(verify(repository, read_data=True, on_pack=tell)) == []
    assert sorted(told) == sorted(repository.index.packs())


def test_a_flaw_that_does_not_show_again_is_none(
    repository: Repository, memory: MemoryStorage, snapshot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = pack_with(repository, BlobKind.DATA)
    get, spoiled = memory.get, [True]

    def get_badly_once(kind: FileKind, name: str, *rest: int) -> bytes:
        content = get(kind, name, *rest)
        return content[:-1] + b"x" if name == pack and not rest and spoiled and spoiled.pop() else content

    monkeypatch.setattr(memory, "get", get_badly_once)
    assert found(repository, read_data=True) == {}
    assert not spoiled


def tasks(repository: Repository, memory: MemoryStorage) -> list[PackTask]:
    return [PackTask(p, pack_size(entries), format_header(entries)) for p, entries in listings(repository, memory)]


def test_worker_processes_find_what_one_process_finds(
    repository: Repository, memory: MemoryStorage, clock: FakeClock
) -> None:
    for number in range(6):
        back_up(repository, {f"{number}": os.urandom(2000)})
        clock.advance(hours=1)
    pack = pack_with(repository, BlobKind.DATA)
    memory.files[FileKind.DATA, pack] = memory.files[FileKind.DATA, pack][:-1] + b"x"
    work = tasks(repository, memory)
    alone = sorted(prove_packs(memory, repository.key, work, 0), key=lambda proof: proof.pack)
    together = sorted(prove_packs(memory, repository.key, work, 2**30), key=lambda proof: proof.pack)
    assert alone == together
    assert [proof.pack for proof in together if proof.defects] == [pack]


def test_the_error_of_a_command_counts_and_names_the_first() -> None:
    hint, defect = Finding(Severity.HINT, "pack-orphan", "x", "y"), Finding(Severity.ERROR, "pack-hash", "pack 1", "m")
    error = worst([hint, defect])
    assert isinstance(error, BackupError)
    assert error.exit_code == 4
    assert "found 1 errors" in str(error)
    assert "pack 1" in str(error)


# ---- who needs what is damaged


def test_a_damaged_pack_is_followed_by_the_snapshots_and_files_that_need_it(
    repository: Repository, memory: MemoryStorage, snapshot: str, clock: FakeClock
) -> None:
    pack = pack_with(repository, BlobKind.DATA)
    clock.advance(hours=1)
    second = back_up(repository, FILES | {"more": b"m" * 100})
    memory.files[FileKind.DATA, pack] = flipped(memory.files[FileKind.DATA, pack])
    (told,) = [item for item in verify(repository, read_data=True) if item.code == "pack-needed"]
    assert told.subject == f"pack {pack}"
    assert told.message == f"needed by {snapshot[:8]}, {second[:8]} for /a, /b, /folder/c and 1 more paths"


def test_a_damaged_tree_pack_is_needed_by_its_folders_and_hides_what_is_below(
    repository: Repository, memory: MemoryStorage, snapshot: str
) -> None:
    pack = pack_with(repository, BlobKind.TREE)
    memory.files[FileKind.DATA, pack] = flipped(memory.files[FileKind.DATA, pack], at=20)
    told = [item.message for item in verify(repository, read_data=True) if item.code == "pack-needed"]
    assert [message.startswith(f"needed by {snapshot[:8]} for /") for message in told] == [True]


def test_a_damaged_pack_that_nobody_needs_is_called_so(
    repository: Repository, memory: MemoryStorage, snapshot: str
) -> None:
    lonely = back_up(repository, {"alone": b"alone"})
    packs = {pack for pack, _ in repository.load_index().packs()}
    with repository.lock(exclusive=True):
        repository.delete_snapshots([lonely])
        needed = {pack_of for pack_of in packs if is_needed(repository, pack_of)}
    for pack in packs - needed:
        memory.files[FileKind.DATA, pack] = flipped(memory.files[FileKind.DATA, pack])
    codes = {item.code for item in verify(repository, read_data=True)}
    assert "pack-unneeded" in codes
    assert "pack-needed" not in codes


def test_a_blob_that_also_lies_in_a_sound_pack_needs_no_damaged_one(
    repository: Repository, memory: MemoryStorage, snapshot: str
) -> None:
    pack = pack_with(repository, BlobKind.DATA)
    assert needs_of(repository, [pack])[pack].snapshots == (snapshot[:8],)
    entries = [e for e in map(repository.index.entry, range(len(repository.index))) if e.kind is BlobKind.DATA]
    repository.index.add_listing("ab" * 32, entries)
    assert needs_of(repository, [pack])[pack].snapshots == ()
    assert needs_of(repository, [pack, "ab" * 32])[pack].snapshots == (snapshot[:8],)


def flipped(content: bytes, *, at: int = 40) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def is_needed(repository: Repository, pack: str) -> bool:
    return bool(needs_of(repository, [pack])[pack].snapshots)
