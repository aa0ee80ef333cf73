"""What a storage was asked is counted, whichever process asked."""

import os
import pickle
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from backup.errors import FileMissing, StorageError
from backup.storage.base import FileKind, StoredFile
from backup.storage.counting import Counting, Meter
from backup.storage.retrying import Retrying
from tests.backup.storages import MemoryStorage

NAME, OTHER = "ab" * 32, "cd" * 32


class PagedMemory(MemoryStorage):
    """A storage as behind a network: it lists one file a page, retains, and fails when it is told to."""

    failures = 0

    def get(self, kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        if self.failures:
            self.failures -= 1
            raise StorageError("could not read: the line broke")
        return super().get(kind, name, offset, length)

    def list_page(self, kind: FileKind, token: str) -> tuple[Sequence[StoredFile], str]:
        files = sorted(super().list(kind), key=lambda file: file.name)
        at = int(token or 0)
        return files[at : at + 1], str(at + 1) if at + 1 < len(files) else ""

    def retain(self, kind: FileKind, name: str, until: datetime) -> None:  # noqa: ARG002 - as Retaining has it
        self.stat(kind, name)


def test_operations_and_their_bytes_are_counted() -> None:
    counting = Counting(PagedMemory())
    counting.put(FileKind.DATA, NAME, [b"four", b"more"])
    counting.put(FileKind.DATA, OTHER, b"x")
    assert counting.get(FileKind.DATA, NAME, 2, 3) == b"urm"
    assert {file.name for file in counting.list(FileKind.DATA)} == {NAME, OTHER}
    counting.retain(FileKind.DATA, NAME, datetime(2027, 1, 1, tzinfo=UTC))
    counting.delete(FileKind.DATA, OTHER)
    figures = counting.meter.figures()
    counts = {name: figures[f"requests_{name}"] for name in ("put", "get", "list", "retain", "delete")}
    assert counts == {"put": 2, "get": 1, "list": 2, "retain": 1, "delete": 1}
    assert (figures["request_bytes_put"], figures["request_bytes_get"]) == (9, 3)
    assert "requests_stat" not in figures


def test_a_missing_file_is_an_answer_and_an_error_is_none() -> None:
    storage = PagedMemory()
    counting = Counting(storage)
    with pytest.raises(FileMissing):
        counting.stat(FileKind.DATA, NAME)
    storage.failures = 1
    with pytest.raises(StorageError):
        counting.get(FileKind.DATA, NAME)
    figures = counting.meter.figures()
    assert (figures["requests_stat"], figures["request_errors_stat"]) == (1, 0)
    assert (figures["requests_get"], figures["request_errors_get"]) == (1, 1)


def test_what_is_tried_again_is_counted_with_the_operation() -> None:
    storage = PagedMemory()
    storage.put(FileKind.DATA, NAME, b"content")
    storage.failures = 2
    retrying = Retrying(Counting(storage), sleep=lambda _: None)
    assert retrying.get(FileKind.DATA, NAME) == b"content"
    figures = retrying.meter.figures()
    assert [figures[f"{name}_get"] for name in ("requests", "request_errors", "request_retries")] == [3, 2, 2]


def test_forked_processes_count_together() -> None:
    meter = Meter()
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            for _ in range(500):
                meter.add("put", count=2)
            os._exit(0)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0, 0]
    assert (meter.figures()["requests_put"], meter.figures()["request_bytes_put"]) == (2000, 4000)


def test_a_process_that_died_while_it_counted_holds_nobody_up() -> None:
    meter = Meter()
    child = os.fork()
    if not child:
        meter._lock.acquire()
        os._exit(0)
    os.waitpid(child, 0)
    meter.add("get", count=5)
    assert meter.figures()["request_bytes_get"] == 5


def test_it_pickles_with_the_storage_and_counts_anew() -> None:
    counting = Counting(PagedMemory())
    counting.put(FileKind.DATA, NAME, b"x")
    assert pickle.loads(pickle.dumps(counting)).meter.figures() == {}
