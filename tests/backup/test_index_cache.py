"""The kept index: as good as the files it was made of, and left aside for whatever is wrong with it."""

import logging
import stat
from pathlib import Path

import pytest

from backup import index_cache
from backup.archiver import backup
from backup.index_cache import IndexCache
from backup.kept import recall
from backup.pack import BlobKind
from backup.prune import execute_prune, plan_prune
from backup.repository import Repository
from backup.sources.base import Files
from backup.sources.files import FilesSource
from backup.storage.base import FileKind
from tests.backup.repositories import FakeClock, reopen
from tests.backup.storages import MemoryStorage, names


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


def held_in(cache: Path) -> frozenset[str]:
    """The index files that the kept index is made of."""
    (path,) = cache.glob("index-*")
    kept = recall(path, index_cache._MAGIC)
    assert kept is not None
    return kept.index_files


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

    def run_and_see() -> tuple[Repository, bool]:
        """Make a run, see that it reads what is not kept, and tell whether all that was there is kept afterwards."""
        there, held = set(names(memory, FileKind.INDEX)), held_in(tmp_path / "cache")
        read.clear()
        done = reopen(memory, clock)
        run(done, scene, tmp_path / "cache")
        assert sorted(read) == sorted(there - held)
        return done, there <= held_in(tmp_path / "cache")

    assert not run_and_see()[1], "the small one was not worth a new file"
    for number in range(100):
        (others / str(number)).write_bytes(b"other %d" % number)
    run(reopen(memory, clock), others, tmp_path / "elsewhere")
    last, all_kept = run_and_see()
    assert all_kept
    fresh = reopen(memory, clock)
    fresh.load_index()
    assert known(last) == known(fresh)


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
    (kept,) = (tmp_path / "cache").glob("index-*")
    content = bytearray(kept.read_bytes())
    content[at] ^= 4
    for damaged in (bytes(content), bytes(content[: len(content) // 2]), b""):
        kept.write_bytes(damaged)
        caplog.clear()
        there = names(memory, FileKind.INDEX)
        read = reading(memory)
        with caplog.at_level(logging.WARNING):
            run(reopen(memory, clock), scene, tmp_path / "cache")
        assert sorted(read) == sorted(there)
        assert "kept file left aside" in caplog.messages
        assert kept.read_bytes() != damaged, "it is written anew"


def test_only_the_owner_may_read_it_and_a_full_disk_stops_nobody(
    repository: Repository, memory: MemoryStorage, clock: FakeClock, scene: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    cache = tmp_path / "elsewhere" / "cache"
    run(repository, scene, cache)
    (kept,) = cache.glob("index-*")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    with FilesSource((str(cache.parent),)).capture() as capture:
        assert not [step for step in capture.walk() if isinstance(step, Files) and kept.name in step.names]
    (tmp_path / "file").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        run(reopen(memory, clock), scene, tmp_path / "file" / "cache")
    assert "not kept for the next run" in caplog.messages
