"""Changed blocks become whole files again: by arithmetic here, by PostgreSQL 17 itself in the campaign."""

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest
from google_crc32c import value
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.applications.manifest import Manifest
from backup.crc32c import padded, shifted
from backup.errors import SourceError
from backup.sources.base import Kept, SavedFile
from backup.sources.postgres_basebackup import NoIncrementError
from backup.sources.postgres_incremental import Increment, whole_name
from backup.sources.postgres_manifest import BackupManifest
from keepwatch.clock import now

BLOCK, PAGE = 8, 32
"""Small ones, so that a few bytes make many pieces."""
SYSTEM = "7000000000000000001"
TABLE = "base/5/16384"
DETAILS = {"method": "physical", "system_identifier": SYSTEM, "piece_bytes": PAGE}
VERSION = b"17\n"


@dataclass
class Snapshot:
    """An earlier snapshot in memory."""

    files: dict[str, bytes]
    lost: bool = False
    read_pieces: list[bytes] = field(default_factory=list)
    name: str = "0badcafe"

    def is_whole(self, path: str) -> bool:
        assert path == "/ledger"
        return not self.lost

    def find(self, path: str) -> SavedFile | None:
        content = self.files.get(path)
        return None if content is None else SavedFile(len(content), tuple(map(identify, pieces(content))))

    def read(self, pieces_wanted: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        known = {identify(piece): piece for content in self.files.values() for piece in pieces(content)}
        for name in dict.fromkeys(pieces_wanted):
            self.read_pieces.append(name)
            yield name, known[name]


def pieces(content: bytes) -> list[bytes]:
    return [content[at : at + PAGE] for at in range(0, len(content), PAGE)]


def identify(piece: bytes) -> bytes:
    return hashlib.sha256(piece).digest()


def server_list(files: dict[str, bytes], *, checksums: bool = True) -> bytes:
    """Write a list of files as a server does."""
    entries = []
    for path, content in files.items():
        checksum = value(content).to_bytes(4, "little").hex()
        known = f', "Checksum-Algorithm": "CRC32C", "Checksum": "{checksum}"' if checksums else ""
        entries.append(
            f'{{ "Path": "{path}", "Size": {len(content)}, "Last-Modified": "2026-11-01 08:00:00 GMT"{known} }}'
        )
    text = '{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 7000000000000000001,\n"Files": [\n'
    text += ",\n".join(entries) + '\n],\n"WAL-Ranges": [\n'
    text += '{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100" }\n],\n'
    return f'{text}"Manifest-Checksum": "{hashlib.sha256(text.encode()).hexdigest()}"}}\n'.encode()


def earlier(table: bytes, details: dict[str, object] | None = None, *, checksums: bool = True) -> Snapshot:
    files = {"PG_VERSION": VERSION, TABLE: table, "backup_label": b"START\n"}
    listed = server_list(files)
    if not checksums:
        listed = server_list({"PG_VERSION": VERSION})
    saved = Manifest("postgres", "17.1", now(), details={**DETAILS, **(details or {})})
    return Snapshot(
        {f"/ledger/data/{name}": content for name, content in files.items()}
        | {"/ledger/manifest.json": saved.to_json(), "/ledger/data/backup_manifest": listed}
    )


def increment(snapshot: Snapshot) -> Increment:
    return Increment(snapshot, "/ledger", system=SYSTEM, block_bytes=BLOCK, piece_bytes=PAGE)


def changes(blocks: dict[int, bytes], least: int) -> bytes:
    """Write a file of changes as a server does."""
    head = struct.pack("<3I", 0xD3AE1F0D, len(blocks), least) + struct.pack(f"<{len(blocks)}I", *sorted(blocks))
    if blocks:
        head += bytes(-len(head) % BLOCK)
    return head + b"".join(blocks[number] for number in sorted(blocks))


def rebuild(
    made: Increment, snapshot: Snapshot, sent: bytes, part_bytes: int = 13
) -> tuple[bytes, list[bytes | Kept]]:
    parts = [sent[at : at + part_bytes] for at in range(0, len(sent), part_bytes)]
    given = list(made.content("", "base/5/INCREMENTAL.16384", parts))
    known = {identify(piece): piece for content in snapshot.files.values() for piece in pieces(content)}
    return b"".join(known[part.id][: part.size] if isinstance(part, Kept) else part for part in given), given


def listed_as(made: Increment, sent: bytes) -> BackupManifest:
    """Let the list be made of what a server would have listed."""
    return BackupManifest.parse(made.manifest_of(server_list({"base/5/INCREMENTAL.16384": sent, "other": b"x"})))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 40), st.integers(0, 40), st.dictionaries(st.integers(0, 39), st.binary(min_size=8, max_size=8)),
    st.booleans(), st.randoms(use_true_random=False),
)  # fmt: skip
def test_any_change_gives_the_whole_file_and_its_checksum(
    was: int, least: int, blocks: dict[int, bytes], checksums: bool, random: object
) -> None:
    table = random.randbytes(was * BLOCK)  # type: ignore[attr-defined]
    snapshot = earlier(table, checksums=checksums)
    made = increment(snapshot)
    sent = changes(blocks, least)
    count = max([least, *(number + 1 for number in blocks)])
    wanted = bytearray(table[: count * BLOCK].ljust(count * BLOCK, b"\0"))
    for number, block in blocks.items():
        wanted[number * BLOCK : (number + 1) * BLOCK] = block
    whole, given_parts = rebuild(made, snapshot, sent)
    assert whole == wanted
    assert all(len(part) == PAGE for part in given_parts[:-1] if isinstance(part, bytes))
    entry = listed_as(made, sent).listed(TABLE)
    assert entry is not None
    assert (entry.size, entry.checksum) == (len(wanted), value(bytes(wanted)))


def test_pieces_without_a_changed_block_are_neither_read_nor_saved() -> None:
    table = bytes(range(160))
    snapshot = earlier(table)
    made = increment(snapshot)
    snapshot.read_pieces.clear()
    _, given_parts = rebuild(made, snapshot, changes({5: b"x" * BLOCK}, 20))
    assert [isinstance(part, Kept) for part in given_parts] == [True, False, True, True, True]
    assert snapshot.read_pieces == [identify(table[PAGE : 2 * PAGE])]


def test_blocks_that_nobody_sent_and_nobody_had_are_zeros() -> None:
    snapshot = earlier(b"a" * BLOCK)
    whole, _ = rebuild(increment(snapshot), snapshot, changes({6: b"b" * BLOCK}, 3))
    assert whole == b"a" * BLOCK + bytes(5 * BLOCK) + b"b" * BLOCK


def test_the_label_says_nothing_of_increments() -> None:
    made = increment(earlier(b""))
    label = b"START WAL LOCATION: 0/5 (file 1)\nINCREMENTAL FROM LSN: 0/2\nINCREMENTAL FROM TLI: 1\nLABEL: keepwatch\n"
    whole = b"".join(part for part in made.content("", "backup_label", [label]) if isinstance(part, bytes))
    assert whole == b"START WAL LOCATION: 0/5 (file 1)\nLABEL: keepwatch\n"
    found = BackupManifest.parse(made.manifest_of(server_list({"backup_label": label}))).listed("backup_label")
    assert found is not None
    assert (found.size, found.checksum) == (len(whole), value(whole))


def test_a_list_is_written_so_that_its_last_line_proves_the_others() -> None:
    made = increment(earlier(b"a" * BLOCK))
    rebuild(made, earlier(b"a" * BLOCK), sent := changes({0: b"b" * BLOCK}, 1))
    text = made.manifest_of(server_list({"base/5/INCREMENTAL.16384": sent, "other": b"x"}))
    lines, last = text.rstrip(b"\n").rsplit(b"\n", 1)
    assert json.loads(b"{" + last)["Manifest-Checksum"] == hashlib.sha256(lines + b"\n").hexdigest()
    assert list(json.loads(text)) == [
        "PostgreSQL-Backup-Manifest-Version", "System-Identifier", "Files", "WAL-Ranges", "Manifest-Checksum",
    ]  # fmt: skip
    with pytest.raises(SourceError, match="its checksum is not that of its text"):
        BackupManifest.parse(text.replace(b"GMT", b"UTC"))
    with pytest.raises(SourceError, match=r"sent base/5/INCREMENTAL\.16384 unlisted"):
        made.manifest_of(server_list({"other": b"x"}))


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (struct.pack("<3I", 1, 0, 1), "they begin with 0x1"),
        (struct.pack("<5I", 0xD3AE1F0D, 2, 1, 3, 3), "out of order"),
        (changes({0: b"x" * BLOCK}, 1)[:-1], "in the middle of a file"),
        (changes({0: b"x" * BLOCK}, 1)[:-BLOCK], "in the middle of a file"),
    ],
)
def test_changes_that_cannot_be_right_are_no_file(sent: bytes, said: str) -> None:
    snapshot = earlier(b"a" * BLOCK)
    with pytest.raises(SourceError, match=said):
        rebuild(increment(snapshot), snapshot, sent)


def test_changes_of_a_file_that_the_earlier_snapshot_lacks_are_refused() -> None:
    snapshot = earlier(b"")
    made = increment(snapshot)
    del snapshot.files[f"/ledger/data/{TABLE}"]
    with pytest.raises(SourceError, match="snapshot 0badcafe: it has no /ledger/data/base/5/16384"):
        rebuild(made, snapshot, changes({}, 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "logical"}, "it is no base backup"),
        ({"system_identifier": "1"}, "it is of another cluster"),
        ({"piece_bytes": 4096}, "pieces of today's size"),
        (None, "parts of it are no longer in the repository"),
        ("/ledger/data/backup_manifest", "it has no data/backup_manifest"),
        ("/ledger/manifest.json", "it has no manifest.json"),
        ("/ledger/data/PG_VERSION", "it has no data/PG_VERSION"),
    ],
)
def test_what_cannot_be_gone_by_is_refused_with_the_reason(change: object, said: str) -> None:
    snapshot = earlier(b"a" * BLOCK, change if isinstance(change, dict) else None)
    snapshot.lost = change is None
    if isinstance(change, str):
        del snapshot.files[change]
    with pytest.raises(NoIncrementError, match=said):
        increment(snapshot)


def test_a_manifest_of_other_checksums_is_refused() -> None:
    snapshot = earlier(b"")
    for listed in (server_list({"PG_VERSION": b"18\n"}), server_list({"PG_VERSION": VERSION}, checksums=False)):
        snapshot.files["/ledger/data/backup_manifest"] = listed
        with pytest.raises(NoIncrementError, match="no checksums of the kind that is understood"):
            increment(snapshot)


def test_names_of_files_of_changes_are_told_from_others() -> None:
    assert whole_name("base/5/INCREMENTAL.16384.1") == "base/5/16384.1"
    assert whole_name("INCREMENTAL.d/16384") == "INCREMENTAL.d/16384"


@given(st.binary(max_size=200), st.integers(0, 100_000), st.binary(min_size=1, max_size=50))
def test_checksums_follow_what_changes_in_a_file(before: bytes, zeros: int, change: bytes) -> None:
    assert padded(value(before), zeros) == value(before + bytes(zeros))
    ones, other = b"1" * len(change), value(before + change + bytes(zeros))
    assert value(before + ones + bytes(zeros)) == other ^ shifted(value(ones) ^ value(change), zeros)
