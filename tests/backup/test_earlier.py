"""What a source is told of the snapshot before: files, pieces, whether all of them are there; and who is told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest

from backup.earlier import EarlierSnapshot
from backup.repository import Repository
from backup.sources.base import Earlier, Kept
from backup.sources.streams import StreamCapture, StreamSource, file, folder
from backup.storage.base import FileKind
from tests.backup.repositories import back_up, read_back, reopen
from tests.backup.sources.saving import save

PAGE = 4096
OLD = b"".join(bytes([number]) * PAGE for number in range(5)) + b"the end"


@dataclass(frozen=True, slots=True)
class Pages(StreamSource):
    """A file of pages, whose second one changes from run to run; it goes by the snapshot before."""

    change: bytes = b"\1" * PAGE
    earlier: Earlier | None = None
    told: list[str] = field(default_factory=list)

    def following(self, earlier: Earlier) -> "Pages":
        return replace(self, earlier=earlier)

    @contextmanager
    def capture(self) -> Iterator[StreamCapture]:
        self.told.append(self.earlier.name if self.earlier else "nothing")
        yield StreamCapture(folder("/pages", iter([self._file()]), at=self.clock()))

    def _file(self) -> object:
        if self.earlier is None:
            content: list[bytes | Kept] = [OLD]
        else:
            saved = self.earlier.find("/pages/heap")
            assert saved is not None
            sizes = [min(PAGE, saved.size - at) for at in range(0, saved.size, PAGE)]
            kept = [Kept(piece, size) for piece, size in zip(saved.pieces, sizes, strict=True)]
            content = [kept[0], self.change, *kept[2:]]
        return file("/pages/heap", content, at=self.clock(), page_bytes=PAGE)


@pytest.fixture
def pages(repository: Repository) -> Pages:
    return Pages("pages", repository.clock)


def test_pieces_taken_over_and_new_ones_are_one_file(repository: Repository, pages: Pages) -> None:
    first = save(repository, pages, "pages")
    second = save(repository, replace(pages, change=b"x" * PAGE), "pages")
    assert read_back(repository, first.snapshot_id) == {"/pages/heap": OLD}
    assert read_back(repository, second.snapshot_id) == {"/pages/heap": OLD[:PAGE] + b"x" * PAGE + OLD[2 * PAGE :]}
    assert (second.bytes_processed, second.kind) == (len(OLD), "incremental")
    assert second.bytes_added < 2 * PAGE


def test_only_an_incremental_run_is_told_of_the_snapshot_before(repository: Repository, pages: Pages) -> None:
    first = save(repository, pages, "pages")
    save(repository, pages, "pages", full=True)
    third = save(repository, pages, "pages")
    assert third.parent_id is not None
    assert pages.told == ["nothing", "nothing", third.parent_id[:8]]
    assert first.parent_id is None


def test_files_are_found_and_read_by_their_path(repository: Repository) -> None:
    snapshot = repository.load_snapshot(back_up(repository, {"a": {"b": b"content"}, "d": b"more"}))
    earlier = EarlierSnapshot(repository, snapshot)
    saved = earlier.find("/a/b")
    assert saved is not None
    assert saved.size == len(b"content")
    assert dict(earlier.read(saved.pieces)) == {saved.pieces[0]: b"content"}
    assert (earlier.find("/a/nothing"), earlier.find("/nowhere/b")) == (None, None)


def test_a_snapshot_whose_pieces_or_folders_no_index_knows_is_not_whole(
    repository: Repository, pages: Pages, reopened: Callable[[], Repository]
) -> None:
    save(repository, pages, "pages")
    before = {found.name for found in repository.storage.list(FileKind.INDEX)}
    report = save(repository, replace(pages, change=b"x" * PAGE), "pages")
    whole = reopened()
    earlier = EarlierSnapshot(whole, whole.load_snapshot(report.snapshot_id))
    assert earlier.is_whole("/pages")
    assert not earlier.is_whole("/other")
    for name in before:
        repository.storage.delete(FileKind.INDEX, name)
    damaged = reopened()
    assert not EarlierSnapshot(damaged, damaged.load_snapshot(report.snapshot_id)).is_whole("/pages")


def test_a_piece_is_not_taken_over_where_the_content_says_where_to_cut(repository: Repository) -> None:
    @dataclass(frozen=True, slots=True)
    class Wrong(StreamSource):
        page_bytes: int = 0

        @contextmanager
        def capture(self) -> Iterator[StreamCapture]:
            at: datetime = self.clock()
            content = [b"half a page", Kept(bytes(32), PAGE)]
            yield StreamCapture(iter([file("/wrong", content, at=at, page_bytes=self.page_bytes)]))

    with pytest.raises(ValueError, match="where the content says where to cut"):
        save(repository, Wrong("wrong", repository.clock), "wrong")
    with pytest.raises(ValueError, match="in the middle of a page"):
        save(repository, Wrong("wrong", repository.clock, PAGE), "wrong")
    assert repository.snapshots() == []


@pytest.fixture
def reopened(repository: Repository) -> Callable[[], Repository]:
    def again() -> Repository:
        found = reopen(repository.storage, repository.clock)  # type: ignore[arg-type]
        found.load_index()
        return found

    return again
