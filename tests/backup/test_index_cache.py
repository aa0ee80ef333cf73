"""The kept index: as good as the files it was made of, and left aside for whatever is wrong with it."""

import logging
import stat
from pathlib import Path

import pytest

from backup.archiver import backup
from backup.index_cache import IndexCache
from backup.pack import BlobKind
from backup.prune import execute_prune, plan_prune
from backup.repository import Repository
from backup.sources.files import FilesSource
from backup.storage.base import FileKind
from tests.backup.repositories import FakeClock, reopen
from tests.backup.storages import MemoryStorage


def reading(memory: MemoryStorage) -> list[str]:
    """Index files are read from now on into this list."""
    read: list[str] = []
    get = memory.get

    def counting(kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        if kind is FileKind.INDEX:
            read.append(name)
        return get(kind, name, offset, length)

    memory.get = counting  # type: ignore[method-assign]
    return read


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for made in (folder, tmp_path / "others", tmp_path / "cache", tmp_path / "elsewhere"):
        made.mkdir(mode=0o700)  # now: a folder above the source that changes makes a new tree
    for number in range(200):
        (folder / str(number)).write_bytes(b"%d" % number * 50)
    return folder


def run(repository: Repository, scene: Path, cache: Path, *, full: bool = False) -> None:
    repository.index_cache = IndexCache(cache, repository.config.id)
    backup(
        repository, FilesSource((str(scene),)), job="j", host="h", clock=repository.clock, full=full, workers=0
    )
    repository.keep_index()


def known(repository: Repository) -> set[tuple[BlobKind, bytes, str, int]]:
    index = repository.index
    entries = map(index.entry, range(len(index)))
    packs = [pack for pack, _ in index.packs()]
    return {(e.kind, e.id, packs[index.pack_number(at)], e.offset) for at, e in enumerate(entries)}


def test_the_next_run_reads_no_index_file_and_knows_all(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, scene: Path, tmp_path: Path
) -> None:
    run(repository, scene, tmp_path / "cache")
    read = reading(memory)
    again = reopen(memory, clock)
    run(again, scene, tmp_path / "cache")
    assert read == []
    fresh = reopen(memory, clock)
    fresh.load_index()
    assert read
    assert len(known(fresh)) > 200
    assert known(again) == known(fresh)
    assert list(again.index.packs()) == list(fresh.index.packs())


def test_files_that_came_later_are_read_and_kept_once_they_are_many(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, scene: Path, tmp_path: Path
) -> None:
    run(repository, scene, tmp_path / "cache")
    others = tmp_path / "others"
    (others / "few").write_bytes(b"few")
    run(reopen(memory, clock), others, tmp_path / "elsewhere")  # as another machine does
    read = reading(memory)
    first = reopen(memory, clock)
    run(first, scene, tmp_path / "cache")
    assert len(read) == 1
    for number in range(100):
        (others / str(number)).write_bytes(b"other %d" % number)
    run(reopen(memory, clock), others, tmp_path / "elsewhere")
    read.clear()
    second = reopen(memory, clock)
    run(second, scene, tmp_path / "cache")
    assert len(read) == 2, "the small one was not worth a new file, so it is read again"
    read.clear()
    run(reopen(memory, clock), scene, tmp_path / "cache")
    assert read == []
    fresh = reopen(memory, clock)
    fresh.load_index()
    assert known(second) == known(fresh)


def test_after_a_prune_what_was_kept_is_not_used(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, scene: Path, tmp_path: Path
) -> None:
    run(repository, scene, tmp_path / "cache")
    for file in list(scene.iterdir())[:100]:
        file.write_bytes(b"changed " + file.name.encode())
    run(reopen(memory, clock), scene, tmp_path / "cache")
    pruner = reopen(memory, clock)
    with pruner.lock(exclusive=True):
        pruner.delete_snapshots([pruner.snapshots()[0].id])
        execute_prune(pruner, plan_prune(pruner))
    after = reopen(memory, clock)
    run(after, scene, tmp_path / "cache")
    fresh = reopen(memory, clock)
    fresh.load_index()
    assert known(after) == known(fresh)


@pytest.mark.parametrize("at", [0, 20, 55, 300, -1])
def test_a_flipped_bit_or_a_torn_end_is_noticed(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, scene: Path, tmp_path: Path, at: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    run(repository, scene, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    content = bytearray(kept.read_bytes())
    content[at] ^= 4
    for damaged in (bytes(content), bytes(content[: len(content) // 2]), b""):
        kept.write_bytes(damaged)
        caplog.clear()
        read = reading(memory)
        with caplog.at_level(logging.WARNING):
            run(reopen(memory, clock), scene, tmp_path / "cache")
        assert len(read) == 1
        assert "kept file left aside" in caplog.messages
        assert kept.read_bytes() != damaged, "it is written anew"


def test_only_the_owner_may_read_it_and_a_full_disk_stops_nobody(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, scene: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    cache = tmp_path / "elsewhere" / "cache"
    run(repository, scene, cache)
    (kept,) = cache.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    (tmp_path / "file").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        run(reopen(memory, clock), scene, tmp_path / "file" / "cache")
    assert "not kept for the next run" in caplog.messages
